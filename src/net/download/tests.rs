use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::net::tls::TlsClient;

const OWN: Reach = Reach { private: false, loopback: true };

/// Answers each request by its path, one a connection; remembers the requests. The answer `None` never ends.
fn server(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let (seen, answer) = (requests.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, seen, answer) = (stream.unwrap(), seen.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().unwrap().push(head);
                match answer(&path) {
                    Some(bytes) => drop(stream.write_all(&bytes)),
                    None => {
                        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"));
                        let piece = vec![b'a'; 65536];
                        while stream.write_all(&piece).is_ok() {}
                    }
                }
            });
        }
    });
    (port, requests)
}

fn ok(headers: &str, body: &[u8]) -> Option<Vec<u8>> {
    Some([format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).as_bytes(), body].concat())
}

fn to(location: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn downloader(uri: &str, reach: Reach) -> Downloader {
    let mut headers = HeaderMap::new();
    headers.insert("auth-key", HeaderValue::from_static("s3cret"));
    let tls = ClientTls::load(&TlsClient { verify: false, ..TlsClient::default() }).unwrap();
    Downloader::new(uri.parse().unwrap(), headers, tls, reach, 100_000)
}

async fn get(uri: &str, known: &Validators) -> Result<(Downloaded, Vec<u8>), String> {
    let mut out = Vec::new();
    let result = downloader(uri, OWN).download(known, &mut out).await;
    result.map(|downloaded| (downloaded, out)).map_err(|error| error.to_string().replace("http://127.0.0.1", ""))
}

#[tokio::test]
async fn a_file_comes_whole_with_what_tells_its_state_and_is_not_sent_again() {
    let (port, requests) = server(|path| match path {
        "/list" => ok("etag: \"v1\"\r\nlast-modified: Sat, 21 Nov 2026 08:00:00 GMT\r\n", b"evil.example\n"),
        _ => Some(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()),
    });
    let (downloaded, body) = get(&format!("http://127.0.0.1:{port}/list"), &Validators::default()).await.unwrap();
    let Downloaded::Whole(validators) = downloaded else { panic!("nothing came") };
    assert_eq!((validators.etag.as_deref(), &body[..]), (Some("\"v1\""), &b"evil.example\n"[..]));
    let second = get(&format!("http://127.0.0.1:{port}/same"), &validators).await.unwrap();
    assert_eq!(second, (Downloaded::NotModified, Vec::new()));
    let requests = requests.lock().unwrap();
    assert!(requests[0].contains("auth-key: s3cret") && !requests[0].contains("if-none-match"), "{}", requests[0]);
    assert!(requests[1].contains("if-none-match: \"v1\"\r\n"), "{}", requests[1]);
    assert!(requests[1].contains("if-modified-since: sat, 21 nov 2026 08:00:00 gmt\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn gzip_is_unpacked_as_an_encoding_and_as_a_file_and_never_past_the_limit() {
    let (port, _) = server(|path| match path {
        "/encoded" => ok("content-encoding: gzip\r\n", &gzip(b"evil.example\n")),
        "/list.gz" => ok("content-type: application/gzip\r\n", &[gzip(b"evil."), gzip(b"example\n")].concat()),
        "/bomb" => ok("content-encoding: gzip\r\n", &gzip(&vec![b'a'; 50_000_000])),
        "/cut" => ok("content-encoding: gzip\r\n", &gzip(&vec![b'a'; 50_000])[..100]),
        "/none" => ok("content-encoding: gzip\r\n", b"evil.example\n"),
        _ => ok("content-encoding: br\r\n", b"evil.example\n"),
    });
    let body = async |path: &str| get(&format!("http://127.0.0.1:{port}{path}"), &Validators::default()).await.map(|(_, body)| body);
    assert_eq!(body("/encoded").await.unwrap(), b"evil.example\n");
    assert_eq!(body("/list.gz").await.unwrap(), b"evil.example\n");
    assert_eq!(body("/bomb").await.unwrap_err(), format!(":{port}/bomb: more than 100000 bytes (`max_size`)"));
    assert!(body("/cut").await.unwrap_err().ends_with("damaged or cut gzip"));
    assert!(body("/none").await.unwrap_err().ends_with("damaged or cut gzip"));
    assert!(body("/br").await.unwrap_err().ends_with("not asked for"));
}

#[tokio::test]
async fn what_is_too_long_or_never_ends_is_cut_and_refused() {
    let (port, _) = server(|path| match path {
        "/says" => Some(b"HTTP/1.1 200 OK\r\ncontent-length: 2147483648\r\n\r\nabc".to_vec()),
        "/short" => Some(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nabc".to_vec()),
        _ => None,
    });
    for path in ["/says", "/endless"] {
        let mut out = Vec::new();
        let error =
            downloader(&format!("http://127.0.0.1:{port}{path}"), OWN).download(&Validators::default(), &mut out).await.unwrap_err();
        assert!(error.message.ends_with("more than 100000 bytes (`max_size`)"), "{error}");
        assert!(out.len() <= 100_000);
    }
    let error = get(&format!("http://127.0.0.1:{port}/short"), &Validators::default()).await.unwrap_err();
    assert!(error.contains("the connection broke"), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_a_few_times_and_lose_the_key_on_the_way_to_another_host() {
    let (other, others) = server(|_| ok("", b"other"));
    let (port, requests) = server(move |path| match path {
        "/a/old" => to("new?x=1"),
        "/a/new?x=1" => to("/b"),
        "/b" => ok("", b"moved"),
        "/away" => to(&format!("//127.0.0.1:{other}/list")),
        "/loop" => to("/loop"),
        "/nowhere" => to("ftp://127.0.0.1/"),
        _ => Some(b"HTTP/1.1 302 Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec()),
    });
    let get = async |path: &str| get(&format!("http://127.0.0.1:{port}{path}"), &Validators::default()).await.map(|(_, body)| body);
    assert_eq!(get("/a/old").await.unwrap(), b"moved");
    assert!(requests.lock().unwrap().iter().all(|request| request.contains("auth-key: s3cret")));
    assert_eq!(get("/away").await.unwrap(), b"other");
    assert!(!others.lock().unwrap()[0].contains("auth-key"));
    assert_eq!(get("/loop").await.unwrap_err(), format!(":{port}/loop: more than 5 redirects"));
    assert!(get("/nowhere").await.unwrap_err().contains("the redirect leads nowhere"));
    assert!(get("/empty").await.unwrap_err().contains("the redirect names no address"));
}

#[tokio::test]
async fn no_redirect_leads_to_the_metadata_service_or_into_the_network() {
    let (port, _) = server(|path| to(&format!("http://{}/latest/meta-data", &path[1..])));
    for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe", "100.100.100.200", "0.0.0.0"] {
        let error = get(&format!("http://127.0.0.1:{port}/{host}"), &Validators::default()).await.unwrap_err();
        assert!(error.contains("never connected to"), "{host}: {error}");
    }
    for host in ["10.0.0.1", "[fd00::1]", "192.168.0.1"] {
        let error = get(&format!("http://127.0.0.1:{port}/{host}"), &Validators::default()).await.unwrap_err();
        assert!(error.contains("this address is private"), "{host}: {error}");
    }
    let error = downloader(&format!("http://localhost:{port}/"), Reach::default()).download(&Validators::default(), &mut Vec::new()).await;
    assert!(error.unwrap_err().message.contains("this machine's own"));
}

#[test]
fn a_redirect_never_leaves_https() {
    let redirect = |from: &str, target: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(target).unwrap());
        redirected(&from.parse().unwrap(), &headers).map(|uri| uri.to_string()).map_err(|error| error.message)
    };
    assert!(redirect("https://a.example/x?key=1", "http://a.example/x").unwrap_err().ends_with("which is not followed"));
    assert!(!redirect("https://a.example/x?key=1", "http://a.example/x").unwrap_err().contains("key=1"), "a query is not shown");
    assert_eq!(redirect("https://a.example/x/y", "z#f").unwrap(), "https://a.example/x/z");
    assert_eq!(redirect("https://a.example", "//b.example/z").unwrap(), "https://b.example/z");
    assert_eq!(redirect("http://a.example/x?a", "?b").unwrap(), "http://a.example/x?b");
    assert!(redirect("http://a.example/", "https://user:pw@b.example/").unwrap_err().contains("password"));
}

#[tokio::test]
async fn a_refusal_says_what_may_help_and_how_long_to_wait() {
    let (port, _) = server(|path| match path {
        "/limit" => Some(b"HTTP/1.1 429 x\r\nretry-after: 900\r\ncontent-length: 0\r\n\r\n".to_vec()),
        _ => Some(b"HTTP/1.1 403 x\r\ncontent-length: 0\r\n\r\n".to_vec()),
    });
    let error = async |path: &str| {
        let downloader = downloader(&format!("http://127.0.0.1:{port}{path}"), OWN);
        downloader.download(&Validators::default(), &mut Vec::new()).await.unwrap_err()
    };
    assert_eq!(error("/limit").await.retry_after, Some(Duration::from_secs(900)));
    assert!(error("/key").await.message.contains("the answer is 403 Forbidden; does it want a key in `headers`?"));
}
