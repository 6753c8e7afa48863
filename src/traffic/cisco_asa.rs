//! Cisco ASA: connections, translations, denials, VPN sessions and threat detection.
//!
//! Source: Cisco Secure Firewall ASA Series Syslog Messages: 302013 to 302016 connections built and torn
//! down, 305011 translations, 106023 denials by an access list, 113039 and 113015 remote access, 733100 and
//! 733101 threat detection, 111010 commands. The header is RFC 3164 without a year, as `logging timestamp`
//! and `logging device-id hostname` write it, with the blank before the colon.
//!
//! A teardown names the connection id, the addresses and the true length of a connection that was built
//! before. For an outbound connection the peer stands first all the same (`for outside:`): the order of the
//! two sides follows the interface, not the direction.

use std::collections::VecDeque;

use crate::traffic::line::Line;
use crate::traffic::stamp::Stamp;
use crate::traffic::world::{World, ephemeral_port};

/// Appliances of the site.
const DEVICES: u64 = 9;

/// Connections that are open at a time; a real appliance holds more, but a teardown only has to find one.
const OPEN_CONNECTIONS_MAX: usize = 512;

const SERVICE_PORTS: [u64; 6] = [443, 80, 22, 25, 3389, 8443];

const TEARDOWN_REASONS: [&str; 4] = ["TCP FINs", "TCP Reset-O", "TCP Reset-I", "SYN Timeout"];

/// An open connection; hosts and peers by their number.
#[derive(Clone, Debug)]
struct Connection {
    id: u64,
    device: u64,
    peer: usize,
    host: usize,
    peer_port: u64,
    host_port: u64,
    udp: bool,
    opened_ms: u64,
}

/// The ASA's memory between two lines.
#[derive(Clone, Debug)]
pub(in crate::traffic) struct CiscoAsa {
    open: VecDeque<Connection>,
}

impl CiscoAsa {
    /// No connection is open.
    pub(in crate::traffic) fn new() -> Self {
        Self { open: VecDeque::with_capacity(OPEN_CONNECTIONS_MAX) }
    }

    /// Connections that fit without growing.
    #[cfg(test)]
    pub(in crate::traffic) fn capacity(&self) -> usize {
        self.open.capacity()
    }

    /// One benign line.
    pub(in crate::traffic) fn line(&mut self, world: &mut World, out: &mut Vec<u8>) {
        let dice = world.random.below(100);
        let full = self.open.len() == OPEN_CONNECTIONS_MAX;
        match dice {
            0..70 if full || (dice >= 35 && !self.open.is_empty()) => self.teardown(world, out),
            0..70 => self.build(world, out),
            70..85 => benign_deny(world, out),
            85..93 => translation(world, out),
            93..98 => remote_access(world, out),
            _ => drop_rate(world, out),
        }
    }

    fn build(&mut self, world: &mut World, out: &mut Vec<u8>) {
        let World { population, random, stamp, sequence } = world;
        let udp = random.chance(25);
        let inbound = random.chance(40);
        let service = if udp { 53 } else { random.pick_skewed(&SERVICE_PORTS) };
        let client_port = ephemeral_port(random);
        let (peer_port, host_port) = if inbound { (client_port, service) } else { (service, client_port) };
        let connection = Connection {
            id: 100_000_000 + *sequence,
            device: random.below(DEVICES),
            peer: random.skewed(population.outside.len() as u64) as usize,
            host: random.skewed(population.inside.len() as u64) as usize,
            peer_port,
            host_port,
            udp,
            opened_ms: stamp.ms(),
        };
        let (peer, host) = (&population.outside[connection.peer].address, &population.inside[connection.host]);
        head(stamp, 166, connection.device, if udp { "6-302015" } else { "6-302013" }, out);
        out.text("Built ").text(if inbound { "inbound " } else { "outbound " }).text(if udp { "UDP" } else { "TCP" });
        out.text(" connection ").number(connection.id).text(" for outside:");
        out.text(peer).text("/").number(peer_port).text(" (").text(peer).text("/").number(peer_port).text(") to inside:");
        out.text(host).text("/").number(host_port).text(" (").text(host).text("/").number(host_port).text(")");
        self.open.push_back(connection);
    }

    fn teardown(&mut self, world: &mut World, out: &mut Vec<u8>) {
        let World { population, random, stamp, .. } = world;
        let Some(connection) = self.open.pop_front() else { return };
        let (peer, host) = (&population.outside[connection.peer].address, &population.inside[connection.host]);
        let elapsed_s = stamp.ms().saturating_sub(connection.opened_ms) / 1000;
        head(stamp, 166, connection.device, if connection.udp { "6-302016" } else { "6-302014" }, out);
        out.text("Teardown ").text(if connection.udp { "UDP" } else { "TCP" }).text(" connection ").number(connection.id);
        out.text(" for outside:").text(peer).text("/").number(connection.peer_port);
        out.text(" to inside:").text(host).text("/").number(connection.host_port).text(" duration ");
        out.number(elapsed_s / 3600).text(":").padded(elapsed_s / 60 % 60, 2).text(":").padded(elapsed_s % 60, 2);
        out.text(" bytes ").number(random.between(60, 999_999));
        if !connection.udp {
            out.text(" ").text(random.pick_skewed(&TEARDOWN_REASONS));
        }
    }
}

/// `<166>Nov 21 08:00:00 asa-01 : %ASA-6-302013: `; `severity_and_id` is `6-302013`.
fn head(stamp: &Stamp, priority: u64, device: u64, severity_and_id: &str, out: &mut Vec<u8>) {
    out.text("<").number(priority).text(">").bytes(stamp.bsd()).text(" asa-").padded(device, 2);
    out.text(" : %ASA-").text(severity_and_id).text(": ");
}

/// A denial by the outside access list (106023).
pub(in crate::traffic) struct Deny<'a> {
    /// Number of the appliance, below 100.
    pub(in crate::traffic) device: u64,
    /// Who was denied.
    pub(in crate::traffic) source: &'a str,
    /// Source port.
    pub(in crate::traffic) source_port: u64,
    /// What was to be reached.
    pub(in crate::traffic) destination: &'a str,
    /// Destination port.
    pub(in crate::traffic) destination_port: u64,
    /// Hash of the access list entry.
    pub(in crate::traffic) entry: u64,
}

/// Renders a denial.
pub(in crate::traffic) fn deny(stamp: &Stamp, deny: &Deny<'_>, out: &mut Vec<u8>) {
    head(stamp, 164, deny.device, "4-106023", out);
    out.text("Deny tcp src outside:").text(deny.source).text("/").number(deny.source_port).text(" dst inside:");
    out.text(deny.destination).text("/").number(deny.destination_port).text(" by access-group \"OUTSIDE_IN\" [0x");
    out.hex(deny.entry, 8).text(", 0x0]");
}

/// Threat detection says that a host attacks (733101).
pub(in crate::traffic) fn attacking_host(stamp: &Stamp, device: u64, host: &str, total: u64, out: &mut Vec<u8>) {
    head(stamp, 164, device, "4-733101", out);
    out.text("Host ").text(host).text(" is attacking. Current burst rate is 22 per second, max configured rate is 10; ");
    out.text("Current average rate is 12 per second, max configured rate is 5; Cumulative total count is ").number(total);
}

/// A command that an administrator ran (111010).
pub(in crate::traffic) fn command(stamp: &Stamp, device: u64, user: &str, source: &str, command: &str, out: &mut Vec<u8>) {
    head(stamp, 165, device, "5-111010", out);
    out.text("User '").text(user).text("', running 'CLI' from IP ").text(source).text(", executed '").text(command).text("'");
}

fn benign_deny(world: &mut World, out: &mut Vec<u8>) {
    let World { population, random, stamp, .. } = world;
    let denied = Deny {
        device: random.below(DEVICES),
        source: &population.peer(random).address,
        source_port: ephemeral_port(random),
        destination: population.host(random),
        destination_port: random.pick_skewed(&SERVICE_PORTS),
        entry: random.bits(),
    };
    deny(stamp, &denied, out);
}

fn translation(world: &mut World, out: &mut Vec<u8>) {
    let World { population, random, stamp, .. } = world;
    head(stamp, 166, random.below(DEVICES), "6-305011", out);
    out.text("Built dynamic TCP translation from inside:").text(population.host(random)).text("/");
    out.number(ephemeral_port(random)).text(" to outside:203.0.113.7/").number(ephemeral_port(random));
}

fn remote_access(world: &mut World, out: &mut Vec<u8>) {
    let World { population, random, stamp, .. } = world;
    let (device, peer) = (random.below(DEVICES), population.any_peer(random));
    let user = population.user(random);
    if random.chance(90) {
        head(stamp, 166, device, "6-113039", out);
        out.text("Group <VPN-USERS> User <").text(user).text("> IP <").text(&peer.address);
        out.text("> AnyConnect parent session started.");
    } else {
        head(stamp, 166, device, "6-113015", out);
        out.text("AAA user authentication Rejected : reason = Invalid password : local database : user = ").text(user);
        out.text(" : user IP = ").text(&peer.address);
    }
}

fn drop_rate(world: &mut World, out: &mut Vec<u8>) {
    let World { random, stamp, .. } = world;
    head(stamp, 164, random.below(DEVICES), "4-733100", out);
    out.text("[ Scanning] drop rate-1 exceeded. Current burst rate is ").number(random.between(11, 90));
    out.text(" per second, max configured rate is 10; Current average rate is ").number(random.between(6, 40));
    out.text(" per second, max configured rate is 5; Cumulative total count is ").number(random.between(1000, 90_000));
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use crate::traffic::{Kind, Traffic};

    fn lines(count: i64) -> Vec<String> {
        let mut traffic = Traffic::new(Kind::CiscoAsa, 5);
        (0..count)
            .map(|number| {
                let mut line = Vec::new();
                traffic.next(1_795_248_000_000 + number * 7, &mut line);
                String::from_utf8(line).unwrap()
            })
            .collect()
    }

    #[test]
    fn every_line_has_a_priority_that_fits_its_severity() {
        let mut messages = HashMap::<String, u32>::new();
        for line in lines(5_000) {
            let priority: u32 = line[1..4].parse().unwrap();
            let (header, message) = line.split_once(" : %ASA-").unwrap();
            assert_eq!(header.len(), "<166>Nov 21 08:00:00 asa-00".len());
            assert_eq!(priority % 8, message[..1].parse::<u32>().unwrap(), "{line}");
            *messages.entry(message[2..8].to_owned()).or_default() += 1;
        }
        assert_eq!(messages.len(), 9, "{messages:?}");
        assert!(messages["302013"] > 1_000 && messages["106023"] > 600, "{messages:?}");
    }

    #[test]
    fn a_teardown_names_a_connection_that_was_built() {
        let mut open = HashSet::new();
        let mut closed = 0;
        for line in lines(20_000) {
            let id = line.split_once(" connection ").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned());
            match id {
                Some(id) if line.contains(": Built ") => assert!(open.insert(id)),
                Some(id) => {
                    assert!(open.remove(&id), "{line}");
                    closed += 1;
                }
                None => {}
            }
            assert!(open.len() <= super::OPEN_CONNECTIONS_MAX);
        }
        assert!(closed > 5_000);
    }
}
