//! Palo Alto PAN-OS: TRAFFIC and THREAT logs, and the CONFIG log of the scripted intrusion.
//!
//! Source: PAN-OS 11.0 Administrator's Guide, "Syslog Field Descriptions": TRAFFIC has 115 columns, THREAT
//! 121, CONFIG 28. Fields that may hold a comma are quoted, as the firewall does. The header is RFC 5424
//! without structured data, as the syslog server profile's IETF format writes it.
//!
//! Benign mix: 85 % TRAFFIC (78 % of sessions allowed), 15 % THREAT, most of it URL filtering; severities
//! end at medium. Not generated: SYSTEM, GLOBALPROTECT, DECRYPTION and the other log types; the columns
//! that PAN-OS 11.1 and later append.

use crate::traffic::line::Line;
use crate::traffic::stamp::Stamp;
use crate::traffic::world::{World, ephemeral_port};

/// Firewalls of the site.
const DEVICES: u64 = 12;

/// An application as App-ID describes it.
#[derive(Clone, Copy)]
struct App {
    name: &'static str,
    port: u64,
    udp: bool,
    /// Subcategory, category, technology, risk, quoted characteristics, container: columns 106 to 111.
    identity: &'static str,
}

const fn app(name: &'static str, port: u64, udp: bool, identity: &'static str) -> App {
    App { name, port, udp, identity }
}

/// The busiest first.
const APPS: [App; 14] = [
    app("ssl", 443, false, "encrypted-tunnel,networking,browser-based,4,\"used-by-malware,has-known-vulnerability,pervasive-use\","),
    app(
        "web-browsing",
        80,
        false,
        "internet-utility,general-internet,browser-based,4,\"used-by-malware,has-known-vulnerability,pervasive-use\",",
    ),
    app("dns-base", 53, true, "infrastructure,networking,network-protocol,3,\"used-by-malware,has-known-vulnerability,pervasive-use\",dns"),
    app(
        "ms-office365-base",
        443,
        false,
        "office-programs,business-systems,client-server,3,\"able-to-transfer-file,has-known-vulnerability,pervasive-use\",ms-office365",
    ),
    app("google-base", 443, false, "internet-utility,general-internet,browser-based,4,\"has-known-vulnerability,pervasive-use\",google"),
    app("quic", 443, true, "internet-utility,general-internet,browser-based,1,\"able-to-transfer-file,pervasive-use\","),
    app(
        "ms-ds-smbv3",
        445,
        false,
        "storage-backup,business-systems,client-server,3,\"able-to-transfer-file,has-known-vulnerability,pervasive-use\",ms-ds-smb",
    ),
    app("ntp-base", 123, true, "infrastructure,networking,network-protocol,2,\"used-by-malware,pervasive-use\",ntp"),
    app("kerberos", 88, false, "auth-service,business-systems,client-server,2,\"has-known-vulnerability\","),
    app("ldap", 389, false, "auth-service,business-systems,client-server,2,\"used-by-malware,has-known-vulnerability\","),
    app(
        "smtp-base",
        25,
        false,
        "email,collaboration,client-server,5,\"used-by-malware,able-to-transfer-file,has-known-vulnerability,pervasive-use\",smtp",
    ),
    app(
        "ssh",
        22,
        false,
        "encrypted-tunnel,networking,client-server,4,\"used-by-malware,able-to-transfer-file,has-known-vulnerability,tunnel-other-application\",",
    ),
    app("ms-rdp", 3389, false, "remote-access,networking,client-server,4,\"used-by-malware,has-known-vulnerability\","),
    app("zoom-base", 8801, true, "internet-conferencing,collaboration,client-server,3,\"able-to-transfer-file,evasive-behavior\",zoom"),
];

/// Rules that let a session pass, and rules that stop one.
const ALLOW_RULES: [&str; 6] =
    ["Allow-Outbound-Web", "Allow-Outbound-DNS", "Allow-Outbound-O365", "Allow-Outbound-Guest", "Branch-VPN", "DC-East-West"];
const DENY_RULES: [&str; 4] = ["Deny-All", "Block-Geo", "Block-P2P", "IoT-Isolate"];

const URL_CATEGORIES: [&str; 6] =
    ["business-and-economy", "computer-and-internet-info", "search-engines", "content-delivery-networks", "news", "streaming-media"];

/// Device-ID columns: category, profile, model, vendor, OS family, OS version.
const DEVICE_PROFILES: [&str; 4] = [
    "Personal Computer,Windows PC,OptiPlex 7090,Dell Inc.,Windows,Windows 11",
    "Personal Computer,Mac,MacBook Pro,Apple Inc.,macOS,macOS 14.5",
    "Smartphone or Tablet,Apple iPhone,iPhone 14,Apple Inc.,iOS,iOS 17.5",
    "Network Appliance,Linux Server,ProLiant DL360,HPE,Linux,Ubuntu 22.04",
];

/// What both session logs carry in their columns 1 to 31, and who is behind the source.
pub(in crate::traffic) struct Session<'a> {
    /// Number of the firewall, below 100.
    pub(in crate::traffic) device: u64,
    /// Source address.
    pub(in crate::traffic) source: &'a str,
    /// Destination address.
    pub(in crate::traffic) destination: &'a str,
    /// Where the destination is.
    pub(in crate::traffic) country: &'a str,
    /// Security rule.
    pub(in crate::traffic) rule: &'a str,
    /// Account without its domain; may be empty.
    pub(in crate::traffic) user: &'a str,
    /// App-ID.
    pub(in crate::traffic) application: &'a str,
    /// Columns that describe the application: subcategory to container.
    pub(in crate::traffic) application_identity: &'a str,
    /// Session id.
    pub(in crate::traffic) id: u64,
    /// Source port.
    pub(in crate::traffic) source_port: u64,
    /// Destination port.
    pub(in crate::traffic) destination_port: u64,
    /// Whether the protocol is UDP; TCP otherwise.
    pub(in crate::traffic) udp: bool,
    /// What the firewall did.
    pub(in crate::traffic) action: &'a str,
    /// 64-bit log entry number.
    pub(in crate::traffic) sequence: u64,
}

/// What only a TRAFFIC log says.
pub(in crate::traffic) struct Volume<'a> {
    /// `start`, `end`, `drop` or `deny`.
    pub(in crate::traffic) subtype: &'a str,
    /// Bytes from client to server.
    pub(in crate::traffic) bytes_sent: u64,
    /// Bytes from server to client.
    pub(in crate::traffic) bytes_received: u64,
    /// Length of the session in seconds.
    pub(in crate::traffic) elapsed_s: u64,
    /// URL category.
    pub(in crate::traffic) category: &'a str,
    /// Why the session ended.
    pub(in crate::traffic) end_reason: &'a str,
}

/// What only a THREAT log says.
pub(in crate::traffic) struct Threat<'a> {
    /// `url`, `vulnerability`, `spyware`, `file`, ...
    pub(in crate::traffic) subtype: &'a str,
    /// URL or file name without a scheme.
    pub(in crate::traffic) url: &'a [u8],
    /// Name and number of the signature, `(9999)` for URL filtering.
    pub(in crate::traffic) id: &'a str,
    /// URL category.
    pub(in crate::traffic) category: &'a str,
    /// `informational` to `critical`.
    pub(in crate::traffic) severity: &'a str,
    /// `client-to-server` or `server-to-client`.
    pub(in crate::traffic) direction: &'a str,
    /// User agent; may be empty.
    pub(in crate::traffic) user_agent: &'a str,
    /// Threat category.
    pub(in crate::traffic) threat_category: &'a str,
}

/// A change that an administrator made.
pub(in crate::traffic) struct ConfigChange<'a> {
    /// Number of the firewall, below 100.
    pub(in crate::traffic) device: u64,
    /// Where the administrator came from.
    pub(in crate::traffic) host: &'a str,
    /// `set`, `edit`, `delete`, `commit`, ...
    pub(in crate::traffic) command: &'a str,
    /// Account.
    pub(in crate::traffic) admin: &'a str,
    /// Path in the configuration.
    pub(in crate::traffic) path: &'a str,
    /// Before the change.
    pub(in crate::traffic) before: &'a str,
    /// 64-bit log entry number.
    pub(in crate::traffic) sequence: u64,
}

/// One benign line.
pub(in crate::traffic) fn line(world: &mut World, url: &mut Vec<u8>, out: &mut Vec<u8>) {
    let World { population, random, stamp, sequence } = world;
    let app = random.pick_skewed(&APPS);
    let peer = population.peer(random);
    let allowed = random.chance(78);
    let user = if random.chance(60) { population.user(random) } else { "" };
    let action = if allowed { "allow" } else { random.weighted(&[(55, "deny"), (35, "drop"), (10, "reset-both")]) };
    let session = Session {
        device: random.below(DEVICES),
        source: population.host(random),
        destination: &peer.address,
        country: peer.country.name,
        rule: if allowed { random.pick(&ALLOW_RULES) } else { random.pick(&DENY_RULES) },
        user,
        application: app.name,
        application_identity: app.identity,
        id: random.between(1, 4_194_303),
        source_port: ephemeral_port(random),
        destination_port: app.port,
        udp: app.udp,
        action,
        sequence: 7_000_000_000_000_000_000 + *sequence,
    };
    if random.chance(85) {
        let opened = allowed && random.chance(20);
        let subtype = match action {
            "allow" if opened => "start",
            "allow" => "end",
            "drop" => "drop",
            _ => "deny",
        };
        let (bytes_received, elapsed_s) = if subtype == "end" { (random.between(60, 900_000), random.below(900)) } else { (0, 0) };
        let end_reason = match subtype {
            "start" => "n/a",
            "end" => random.weighted(&[(55, "tcp-fin"), (30, "aged-out"), (10, "tcp-rst-from-client"), (5, "tcp-rst-from-server")]),
            _ => "policy-deny",
        };
        let category = if random.chance(50) { "any" } else { random.pick(&URL_CATEGORIES) };
        let bytes_sent = random.between(60, if subtype == "end" { 90_000 } else { 600 });
        traffic(stamp, &session, &Volume { subtype, bytes_sent, bytes_received, elapsed_s, category, end_reason }, out);
    } else {
        url.clear();
        url.text("www.").text(random.pick(&["example", "contoso", "fabrikam", "static-assets", "files-share"])).number(random.below(900));
        url.text(".com/path,").number(random.below(99)).text("/index.php?id=").number(random.below(99_999));
        threat(stamp, &session, &benign_threat(random.below(100), url), out);
    }
}

/// The mix of threat logs; `dice` is below 100.
fn benign_threat(dice: u64, url: &[u8]) -> Threat<'_> {
    let (subtype, id, severity, direction, threat_category) = match dice {
        0..70 => ("url", "(9999)", "informational", "client-to-server", "unknown"),
        70..85 => ("file", "Microsoft PE File(52060)", "low", "server-to-client", "unknown"),
        85..95 => ("vulnerability", "HTTP OPTIONS Method(30520)", "informational", "client-to-server", "info-leak"),
        _ => ("spyware", "Suspicious TLS Evasion Found(14978)", "medium", "client-to-server", "spyware"),
    };
    Threat {
        subtype,
        url,
        id,
        category: "computer-and-internet-info",
        severity,
        direction,
        user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
        threat_category,
    }
}

/// The header, and the columns 1 to 31.
fn head(stamp: &Stamp, session: &Session<'_>, priority: u64, log_type: &str, subtype: &str, out: &mut Vec<u8>) {
    syslog_header(stamp, priority, session.device, out);
    first_columns(stamp, session.device, log_type, subtype, out);
    out.text(session.source).text(",").text(session.destination).text(",203.0.113.").number(session.id % 200);
    out.text(",").text(session.destination).text(",").text(session.rule).text(",");
    if !session.user.is_empty() {
        out.text("corp\\").text(session.user);
    }
    out.text(",,").text(session.application).text(",vsys1,trust,untrust,ethernet1/").number(session.id % 8 + 1);
    out.text(",ethernet1/").number(session.id % 4 + 9).text(",siem-fwd,").bytes(stamp.slashed()).text(",");
    out.number(session.id).text(",1,").number(session.source_port).text(",").number(session.destination_port).text(",");
    out.number(1024 + session.source_port % 64_512).text(",").number(session.destination_port);
    out.text(if session.udp { ",0x400019,udp," } else { ",0x400053,tcp," }).text(session.action).text(",");
}

fn syslog_header(stamp: &Stamp, priority: u64, device: u64, out: &mut Vec<u8>) {
    out.text("<").number(priority).text(">1 ").bytes(stamp.iso()).text(".").padded(stamp.millisecond(), 3);
    out.text("Z PA-FW-").padded(device, 2).text(" - - - - ");
}

/// The columns 1 to 7, which every log type has.
fn first_columns(stamp: &Stamp, device: u64, log_type: &str, subtype: &str, out: &mut Vec<u8>) {
    out.text("1,").bytes(stamp.slashed()).text(",0128010100").padded(device, 2).text(",").text(log_type).text(",");
    out.text(subtype).text(",2816,").bytes(stamp.slashed()).text(",");
}

/// Entry number, forwarding flags, countries and the unused column behind them.
fn origin(session: &Session<'_>, out: &mut Vec<u8>) {
    out.number(session.sequence).text(",0x8000000000000000,10.0.0.0-10.255.255.255,").text(session.country).text(",,");
}

/// Device-ID of the source (8 columns; one session in eight has it) and of the destination (8 empty ones),
/// then `empty` more.
fn devices(session: &Session<'_>, empty: usize, out: &mut Vec<u8>) {
    if session.user.is_empty() || !session.id.is_multiple_of(8) {
        out.text(",,,,,,,,");
    } else {
        let profile = DEVICE_PROFILES[session.source.len() % DEVICE_PROFILES.len()];
        out.text(profile)
            .text(",WS-")
            .text(session.user)
            .text(",00:50:56:ab:")
            .hex(session.id >> 8, 2)
            .text(":")
            .hex(session.id, 2)
            .text(",");
    }
    out.text(",,,,,,,,");
    for _ in 0..empty {
        out.text(",");
    }
}

fn high_resolution_time(stamp: &Stamp, out: &mut Vec<u8>) {
    out.bytes(stamp.iso()).text(".").padded(stamp.millisecond(), 3).text("+00:00,");
}

/// Which of the site's rules it was: rules keep their UUID.
fn rule_uuid(rule: &str, out: &mut Vec<u8>) {
    let sum = rule.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    out.hex(sum, 8).text("-cf8b-479b-8208-").hex(sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8, 12).text(",");
}

/// A TRAFFIC log: 115 columns.
pub(in crate::traffic) fn traffic(stamp: &Stamp, session: &Session<'_>, volume: &Volume<'_>, out: &mut Vec<u8>) {
    head(stamp, session, 14, "TRAFFIC", volume.subtype, out);
    let packets_sent = volume.bytes_sent / 900 + 1;
    let packets_received = volume.bytes_received.div_ceil(900);
    out.number(volume.bytes_sent + volume.bytes_received).text(",").number(volume.bytes_sent).text(",").number(volume.bytes_received);
    out.text(",").number(packets_sent + packets_received).text(",").bytes(stamp.slashed()).text(",").number(volume.elapsed_s);
    out.text(",").text(volume.category).text(",,");
    origin(session, out);
    out.number(packets_sent).text(",").number(packets_received).text(",").text(volume.end_reason).text(",31,42,0,0,,PA-FW-");
    // Action source to SCTP chunks: no VM, no tunnel, no SCTP.
    out.padded(session.device, 2).text(",from-policy,,,0,,0,,N/A,0,0,0,0,");
    rule_uuid(session.rule, out);
    // HTTP/2 connection, flaps, policy id, links, the SD-WAN four, dynamic group, X-Forwarded-For.
    out.text("0,0,,,,,,,,,");
    devices(session, 10, out);
    high_resolution_time(stamp, out);
    out.text(",,").text(session.application_identity).text(",").text(session.application).text(",no,no,0");
}

/// A THREAT log: 121 columns.
pub(in crate::traffic) fn threat(stamp: &Stamp, session: &Session<'_>, threat: &Threat<'_>, out: &mut Vec<u8>) {
    let priority = match threat.severity {
        "critical" => 10,
        "high" => 11,
        "medium" | "low" => 12,
        _ => 14,
    };
    head(stamp, session, priority, "THREAT", threat.subtype, out);
    out.text("\"").bytes(threat.url).text("\",").text(threat.id).text(",").text(threat.category).text(",");
    out.text(threat.severity).text(",").text(threat.direction).text(",");
    origin(session, out);
    out.text("text/html,0,,,1,");
    if !threat.user_agent.is_empty() {
        out.text("\"").text(threat.user_agent).text("\"");
    }
    // File type to recipient are empty, then report id, device groups, virtual system.
    out.text(",,,,,,,0,31,42,0,0,,PA-FW-").padded(session.device, 2).text(",,,,get,0,,0,,N/A,").text(threat.threat_category);
    out.text(",AppThreat-8799-8509,0x0,0,4294967295,,\"").text(threat.category);
    out.text(if priority == 10 { ",high-risk\"," } else { ",low-risk\"," });
    rule_uuid(session.rule, out);
    // HTTP/2 connection, dynamic group, X-Forwarded-For; behind the devices 10 columns and the partial hash.
    out.text("0,,,");
    devices(session, 10, out);
    out.text("0,");
    high_resolution_time(stamp, out);
    out.text(",,,").text(session.application_identity).text(",").text(session.application).text(",no,no,");
}

/// A CONFIG log: 28 columns.
pub(in crate::traffic) fn config(stamp: &Stamp, change: &ConfigChange<'_>, out: &mut Vec<u8>) {
    syslog_header(stamp, 14, change.device, out);
    first_columns(stamp, change.device, "CONFIG", "0", out);
    out.text(change.host).text(",,").text(change.command).text(",").text(change.admin).text(",Web,Succeeded,").text(change.path);
    out.text(",\"").text(change.before).text("\",,").number(change.sequence).text(",0x8000000000000000,31,42,0,0,,PA-FW-");
    out.padded(change.device, 2).text(",0,,,").bytes(stamp.iso()).text(".").padded(stamp.millisecond(), 3).text("+00:00");
}

#[cfg(test)]
mod tests {
    use crate::traffic::{Kind, Traffic, csv_columns};

    fn columns(line: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(line).unwrap();
        csv_columns(text.split_once(" - - - - ").unwrap().1)
    }

    #[test]
    fn every_line_has_the_columns_of_its_type() {
        let mut traffic = Traffic::new(Kind::PaloAlto, 5);
        let mut line = Vec::new();
        let mut seen = [0; 2];
        for number in 0..2_000 {
            line.clear();
            traffic.next(1_795_248_000_000 + number * 7, &mut line);
            let columns = columns(&line);
            let threat = columns[3] == "THREAT";
            assert_eq!(columns.len(), if threat { 121 } else { 115 }, "{}", String::from_utf8_lossy(&line));
            assert!(columns[29] == "tcp" || columns[29] == "udp");
            assert!(columns[if threat { 107 } else { 102 }].ends_with("+00:00"), "the high resolution timestamp is where it belongs");
            seen[usize::from(threat)] += 1;
        }
        assert!(seen[1] > 200 && seen[0] > 1_600, "{seen:?}");
    }

    #[test]
    fn totals_of_a_session_add_up() {
        let mut traffic = Traffic::new(Kind::PaloAlto, 6);
        let mut line = Vec::new();
        let mut checked = 0;
        for _ in 0..1_000 {
            line.clear();
            traffic.next(1_795_248_000_000, &mut line);
            let columns = columns(&line);
            if columns[3] == "TRAFFIC" {
                let number = |index: usize| columns[index].parse::<u64>().unwrap();
                assert_eq!(number(31), number(32) + number(33), "bytes");
                assert_eq!(number(34), number(44) + number(45), "packets");
                assert_eq!(columns[30] == "allow", matches!(columns[4].as_str(), "start" | "end"));
                checked += 1;
            }
        }
        assert!(checked > 700);
    }
}
