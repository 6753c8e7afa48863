//! Servers of these tests are sockets that answer with bytes put together here, not by the crate that reads them.

use std::net::UdpSocket as StdSocket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const TIMEOUT: Duration = Duration::from_millis(300);

/// Where the name of the question is in every message.
const ASKED: [u8; 2] = [0xc0, 12];

/// A name on the wire.
fn wire(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
    [name.split('.').filter(|part| !part.is_empty()).flat_map(label).collect(), vec![0]].concat()
}

const CNAME: u16 = 5;
const SOA: u16 = 6;
const PTR: u16 = 12;

fn record(owner: &[u8], kind: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
    let (kind, len) = (kind.to_be_bytes(), (data.len() as u16).to_be_bytes());
    [owner, &kind[..], &[0, 1], &ttl_s.to_be_bytes(), &len, data].concat()
}

/// An answer to `query` with this byte of flags, RCODE and records.
fn answer(query: &[u8], (flags, rcode): (u8, u8), records: &[Vec<u8>], authority: &[Vec<u8>]) -> Vec<u8> {
    let counts = [0, 1, 0, records.len() as u8, 0, authority.len() as u8, 0, 0];
    [&query[..2], &[0x81 | flags, 0x80 | rcode], &counts[..], &query[12..], &records.concat(), &authority.concat()].concat()
}

fn good(query: &[u8], names: &[&str]) -> Vec<u8> {
    let records: Vec<_> = names.iter().map(|name| record(&ASKED, PTR, 300, &wire(name))).collect();
    answer(query, (0, 0), &records, &[])
}

type Answers = dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync;

/// Answers each datagram with some; counts them.
fn server(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    let (address, count) = (socket.local_addr().unwrap(), Arc::default());
    let (answers, cell): (Box<Answers>, Arc<AtomicUsize>) = (Box::new(answers), Arc::clone(&count));
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            cell.fetch_add(1, Ordering::Relaxed);
            for message in answers(&buffer[..len]) {
                socket.send_to(&message, peer).unwrap();
            }
        }
    });
    (address, count)
}

async fn names(servers: &[SocketAddr]) -> Result<Reply<String>, Failure> {
    Resolver::new(servers, TIMEOUT).names_of(ADDRESS).await
}

/// What comes of one answer by UDP.
async fn one(answers: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Result<Reply<String>, Failure> {
    names(&[server(move |query| vec![answers(query)]).0]).await
}

fn records_of(names: &[&str], ttl_s: u64) -> Result<Reply<String>, Failure> {
    Ok(Reply::Records(names.iter().map(|name| (*name).to_owned()).collect(), Duration::from_secs(ttl_s)))
}

#[tokio::test]
async fn the_question_is_the_one_of_the_rfc_and_names_come_sorted() {
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let cell = seen.clone();
    let reply = one(move |query| {
        cell.lock().unwrap().clone_from(&query.to_vec());
        good(query, &["B.Example.", "a.example"])
    });
    assert_eq!(reply.await, records_of(&["a.example", "b.example"], 300));
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0], "one question, recursion is wanted");
    assert_eq!(seen[12..], [wire("7.2.0.192.in-addr.arpa"), vec![0, 12, 0, 1]].concat());
    let v6 = Name::<Vec<u8>>::reverse_from_addr("2001:db8::1".parse().unwrap()).unwrap();
    let nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_eq!(question(&v6, Rtype::PTR).unwrap()[12..].to_ascii_lowercase(), [wire(nibbles), vec![0, 12, 0, 1]].concat());
}

#[tokio::test]
async fn an_alias_is_followed_and_the_shortest_time_counts() {
    let alias = wire("7.0-127.2.0.192.in-addr.arpa");
    let reply = one(move |query| {
        let records = [record(&ASKED, CNAME, 60, &alias), record(&alias, PTR, 300, &wire("a.example"))];
        answer(query, (0, 0), &records, &[])
    });
    assert_eq!(reply.await, records_of(&["a.example"], 60));
    let around = one(|query| answer(query, (0, 0), &[record(&ASKED, CNAME, 60, &ASKED)], &[]));
    assert_eq!(around.await, Err(Failure::Malformed), "an alias of itself");
    let upper = one(|query| {
        let mut message = good(query, &["a.example"]);
        message[12..query.len() - 4].make_ascii_uppercase();
        message
    });
    assert_eq!(upper.await, records_of(&["a.example"], 300), "the case of a question does not count");
    let other = one(|query| answer(query, (0, 0), &[record(&wire("b.example"), PTR, 9, &wire("evil.example"))], &[]));
    assert_eq!(other.await, Ok(Reply::Absent(None)), "a record of another name says nothing of this one");
}

#[tokio::test]
async fn nothing_is_nothing_for_as_long_as_the_zone_says() {
    let numbers = [7_u32, 1, 1, 1, 90].map(u32::to_be_bytes).concat();
    let soa = record(&wire("2.0.192.in-addr.arpa"), SOA, 600, &[wire("ns.example"), wire("root.example"), numbers].concat());
    for rcode in [0, 3] {
        let soa = soa.clone();
        let reply = one(move |query| answer(query, (0, rcode), &[], std::slice::from_ref(&soa)));
        assert_eq!(reply.await, Ok(Reply::Absent(Some(Duration::from_secs(90)))));
        assert_eq!(one(move |query| answer(query, (0, rcode), &[], &[])).await, Ok(Reply::Absent(None)));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_passed_over_and_the_answer_behind_it_is_taken() {
    let (address, count) = server(|query| {
        let mut wrong_id = good(query, &["evil.example"]);
        wrong_id[1] ^= 1;
        let mut other_question = good(query, &["evil.example"]);
        other_question[13] ^= 1;
        let is_question = query.to_vec();
        let no_question =
            [&query[..2], &[0x81, 0x80, 0, 0, 0, 1, 0, 0, 0, 0], &record(&wire("x"), PTR, 1, &wire("evil.example"))[..]].concat();
        let garbage = (0..4096_u32).map(|n| (n * 31 % 251) as u8).collect();
        vec![wrong_id, other_question, is_question, no_question, garbage, Vec::new(), vec![0], good(query, &["a.example"])]
    });
    assert_eq!(names(&[address]).await, records_of(&["a.example"], 300));
    assert_eq!(count.load(Ordering::Relaxed), 1);
    let (flood, count) = server(|query| vec![vec![0; 12]; STRANGE_MAX].into_iter().chain([good(query, &["a.example"])]).collect());
    assert_eq!(names(&[flood]).await, Err(Failure::Malformed), "who sends this much is guessing");
    assert_eq!(count.load(Ordering::Relaxed), ATTEMPTS_MIN);
}

#[tokio::test]
async fn damaged_answers_are_told_from_silence_and_refusal() {
    let ptr = |data: Vec<u8>| move |query: &[u8]| answer(query, (0, 0), &[record(&ASKED, PTR, 300, &data)], &[]);
    // The data begins 12 bytes behind its record, that one behind the question.
    let data_at = (12 + wire("7.2.0.192.in-addr.arpa").len() + 4 + 12) as u8;
    let long = [[vec![63], vec![b'a'; 63]].concat().repeat(5), vec![0]].concat();
    for (what, data) in [
        ("a pointer to itself", vec![0xc0, data_at]),
        ("a loop with a label", vec![1, b'a', 0xc0, data_at]),
        ("a pointer behind the end", vec![0xff, 0xff]),
        ("a name of 320 bytes", long),
        ("a name without an end", vec![5, b'a']),
        ("a label of a kind that there is not", vec![0x80, 1, 0]),
        ("nothing", vec![]),
    ] {
        assert_eq!(one(ptr(data)).await, Err(Failure::Malformed), "{what}");
    }
    let cut = one(|query| good(query, &["a.example"])[..60].to_vec());
    assert_eq!(cut.await, Err(Failure::Malformed));
    for rcode in [1, 2, 5, 15] {
        assert_eq!(one(move |query| answer(query, (0, rcode), &[], &[])).await, Err(Failure::Refused(rcode)));
    }
    let (silent, count) = server(|_| Vec::new());
    assert_eq!(names(&[silent]).await, Err(Failure::Timeout));
    assert_eq!(count.load(Ordering::Relaxed), ATTEMPTS_MIN);
    let nobody = StdSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(names(&[nobody]).await, Err(Failure::Unreachable));
    assert_eq!(names(&[]).await, Err(Failure::Unreachable));
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails() {
    let (failing, _) = server(|query| vec![answer(query, (0, 2), &[], &[])]);
    let (silent, _) = server(|_| Vec::new());
    let (well, _) = server(|query| vec![good(query, &["a.example"])]);
    assert_eq!(names(&[failing, silent, well]).await, records_of(&["a.example"], 300));
    assert_eq!(names(&[silent, failing]).await, Err(Failure::Refused(2)), "the last one's");
}

#[tokio::test]
async fn an_answer_that_is_cut_is_asked_for_again_over_tcp() {
    use std::io::{Read as _, Write as _};
    let (address, _) = server(|query| vec![answer(query, (2, 0), &[], &[])]);
    assert_eq!(names(&[address]).await, Err(Failure::Unreachable), "nobody listens there by TCP");
    let listener = std::net::TcpListener::bind(address).unwrap();
    type Answers = Arc<Mutex<Vec<fn(&[u8]) -> Vec<u8>>>>;
    let answers = Answers::default();
    let cell = answers.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut query = vec![0; 512];
            let len = stream.read(&mut query).unwrap();
            let next = cell.lock().unwrap().pop();
            // Who has heard enough goes.
            let _ = next.map(|next| stream.write_all(&next(&query[2..len])));
        }
    });
    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u16).to_be_bytes(), message].concat()
    }
    let ask = async |answer: fn(&[u8]) -> Vec<u8>| {
        *answers.lock().unwrap() = vec![answer; ATTEMPTS_MIN];
        names(&[address]).await
    };
    let many: Vec<String> = (0..40).map(|n| format!("host{n:02}.a-long-name-of-a-network.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let reply = ask(|query| {
        let names: Vec<String> = (0..40).map(|n| format!("host{n:02}.a-long-name-of-a-network.example")).collect();
        framed(&good(query, &names.iter().map(String::as_str).collect::<Vec<_>>()))
    });
    assert_eq!(reply.await, records_of(&many, 300));
    assert_eq!(ask(|query| framed(&answer(query, (2, 0), &[], &[]))).await, Err(Failure::Malformed), "cut again");
    assert_eq!(ask(|query| framed(&good(query, &["a.example"])[..40])).await, Err(Failure::Malformed));
    assert_eq!(
        ask(|query| [&[0xff, 0xff], &good(query, &["a.example"])[..]].concat()).await,
        Err(Failure::Unreachable),
        "less than it says"
    );
}

#[tokio::test]
async fn only_the_name_of_a_host_is_a_name() {
    let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
    assert_eq!(longest.len(), HOST_BYTES_MAX);
    for good_name in ["a.example", "localhost", "WEB_01.corp.example", "xn--bcher-kva.example", "1.2.3.4.example", &longest] {
        let name = good_name.to_owned();
        let reply = one(move |query| good(query, &[&name])).await;
        assert_eq!(reply, records_of(&[&good_name.to_ascii_lowercase()], 300), "{good_name}");
    }
    for bad in [
        "",
        "a b.example",
        "<script>.example",
        "-a.example",
        "a-.example",
        "10.0.0.1",
        "a\u{0}.example",
        "bücher.example",
        "a.example\n",
        "a\"b",
    ] {
        let reply = one(move |query| good(query, &[bad])).await;
        assert_eq!(reply, Ok(Reply::Unusable(Duration::from_secs(300))), "{bad:?}");
    }
    let mixed = one(|query| good(query, &["10.0.0.1", "a.example"]));
    assert_eq!(mixed.await, records_of(&["a.example"], 300), "one bad name does not hide a good one");
}

#[tokio::test]
async fn addresses_of_a_name_are_those_of_the_family_that_is_asked_for() {
    let (address, _) = server(|query| {
        let is_v6 = query[query.len() - 3] == 28;
        let v6 = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        let records = if is_v6 { [record(&ASKED, 28, 9, &v6)] } else { [record(&ASKED, 1, 9, &[192, 0, 2, 7])] };
        vec![answer(query, (0, 0), &records, &[])]
    });
    let resolver = Resolver::new(&[address], TIMEOUT);
    for expected in [ADDRESS, "2001:db8::7".parse().unwrap()] {
        let reply = resolver.addresses_of("a.example", expected).await;
        assert_eq!(reply, Ok(Reply::Records(vec![expected], Duration::from_secs(9))));
    }
}

#[test]
fn resolv_conf_names_servers() {
    let servers = |text: &str| servers_of(text).iter().map(ToString::to_string).collect::<Vec<_>>();
    let text = "# nameserver 1.1.1.1\nsearch a.example\nnameserver 10.0.0.53\n nameserver\t2001:db8::53 # x\nnameserver fe80::1%eth0\nnameserver\noptions ndots:5\n";
    assert_eq!(servers(text), ["10.0.0.53:53", "[2001:db8::53]:53"]);
    assert_eq!(servers(""), ["127.0.0.1:53"]);
    assert_eq!(servers(&"nameserver 10.0.0.1\n".repeat(9)).len(), SERVERS_MAX);
}

proptest! {
    /// Answers with some bytes changed, and what never was one.
    #[test]
    fn no_bytes_make_it_fail_and_what_is_taken_is_the_name_of_a_host(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let name = Name::<Vec<u8>>::reverse_from_addr(ADDRESS).unwrap();
        let query = question(&name, Rtype::PTR).unwrap();
        let alias = wire("a.example");
        let records = [record(&ASKED, CNAME, 60, &alias), record(&alias, PTR, 300, &wire("b.example")), record(&ASKED, PTR, 9, &[0xc0, 14])];
        let soa = record(&ASKED, SOA, 600, &[ASKED.to_vec(), ASKED.to_vec(), vec![1; 20]].concat());
        let mut messages = [answer(&query, (0, 0), &records, &[]), answer(&query, (0, 3), &[], &[soa]), [&query[..12], &garbage].concat(), garbage];
        for message in &mut messages {
            for (at, byte) in changes.iter().take(message.len()) {
                let at = at.index(message.len());
                message[at] = *byte;
            }
            for reading in [read_v4(&query, message), read_v6(&query, message)] {
                prop_assert!(!matches!(reading, Reading::Whole(Ok(Reply::Unusable(_)))));
            }
            if let Reading::Whole(Ok(Reply::Records(names, _))) = read_names(&query, message) {
                prop_assert!(!names.is_empty() && names.is_sorted());
                let is_host = |name: &String| name.len() <= HOST_BYTES_MAX && name.parse::<IpAddr>().is_err() && !name.starts_with('.');
                prop_assert!(names.iter().all(is_host), "{names:?}");
            }
        }
    }
}
