//! What the syslog source does to senders, over real sockets.

use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::client::send;
use crate::process::{Hydrant, eventually, free_port};

fn config(port: u16, admin: u16) -> String {
    format!(
        "
data_dir: data
shards: 2
admin: \"127.0.0.1:{admin}\"
sources:
  fw: {{ type: syslog, listen: \"127.0.0.1:{port}\", decoder: syslog, sender_rate_max: 100KB }}
sinks:
  out: {{ type: blackhole }}
"
    )
}

/// The sum of the samples of a metric that carry all of `labels`.
fn metric(admin: u16, name: &str, labels: &[&str]) -> u64 {
    let text = send(admin, "GET /metrics", &[], b"").body;
    let samples = text.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

const RECEIVED: &str = "hydrant_component_received_events_total";
const REFUSED: &str = "hydrant_component_refused_total";

#[test]
fn a_sender_beyond_its_rate_is_held_back_or_refused_by_count() {
    let (port, admin) = (free_port(), free_port());
    let hydrant = Hydrant::run(&config(port, admin), &[]);
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    // A burst of one second is free, the rest takes its time: 300 KB at 100 KB/s.
    let start = Instant::now();
    let line = [&b"<14>1 2026-11-21T08:00:00Z fw app - - - "[..], &[b'x'; 959], b"\n"].concat();
    for _ in 0..300 {
        stream.write_all(&line).unwrap();
    }
    drop(stream);
    eventually("all lines", || (metric(admin, RECEIVED, &["\"fw\""]) == 300).then_some(()));
    // What is beyond the burst and one read, which is 128 KiB at most, has waited.
    assert!(start.elapsed() >= Duration::from_millis(650), "the last read waits for those before it: {:?}", start.elapsed());

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..150 {
        udp.send_to(&line[..line.len() - 1], ("127.0.0.1", port)).unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
    let counts = || (metric(admin, RECEIVED, &["\"fw\""]) - 300, metric(admin, REFUSED, &["sender_rate"]));
    let (received, refused) = eventually("every datagram to be counted", || Some(counts()).filter(|(a, b)| a + b == 150));
    assert!(refused > 0, "150 KB at once are beyond a burst of 100 KB: {received} received");
    assert!(hydrant.stop());
}
