//! Fortinet FortiGate: traffic, IPS, SSL VPN and system event logs as key=value pairs.
//!
//! Source: FortiOS 7.4 Log Message Reference: 0000000013 forward traffic, 0419016384 IPS signature,
//! 0101039426 SSL VPN login failed, 0101039947 SSL VPN tunnel up, 0100032001 and 0100032002 administrator
//! login, 0100044546 and 0100044547 configuration changed. Texts are quoted, numbers and addresses are not.
//! `eventtime` is in nanoseconds and does not fit a double. The header is RFC 3164, as a relay writes it:
//! the appliance itself sends `<PRI>date=...` without one.
//!
//! Benign mix: 79 % forward traffic, 20 % IPS (none of it critical), 1 % VPN events, a few of them a
//! mistyped password.

use crate::traffic::line::Line;
use crate::traffic::stamp::Stamp;
use crate::traffic::world::{World, ephemeral_port};

/// Appliances of the site.
const DEVICES: u64 = 17;

/// Service, destination port, protocol number, application, its category and risk. The busiest first.
const SERVICES: [(&str, u64, u64, &str, &str, &str); 10] = [
    ("HTTPS", 443, 6, "HTTPS.BROWSER", "Web.Client", "medium"),
    ("DNS", 53, 17, "DNS", "Network.Service", "elevated"),
    ("HTTPS", 443, 6, "Microsoft.Office.365", "Collaboration", "elevated"),
    ("HTTP", 80, 6, "HTTP.BROWSER_Chrome", "Web.Client", "elevated"),
    ("HTTPS", 443, 6, "Google.Services", "General.Interest", "elevated"),
    ("SMB", 445, 6, "SMB.v3", "Network.Service", "elevated"),
    ("NTP", 123, 17, "NTP", "Network.Service", "elevated"),
    ("SSH", 22, 6, "SSH", "Network.Service", "elevated"),
    ("RDP", 3389, 6, "RDP", "Remote.Access", "high"),
    ("SMTP", 25, 6, "SMTP", "Email", "elevated"),
];

const POLICIES: [&str; 7] = ["Outbound-Web", "Outbound-DNS", "Outbound-O365", "Guest-Internet", "Branch-VPN", "DC-East-West", "Mgmt"];

/// Operating system, its version, hardware vendor.
const CLIENTS: [(&str, &str, &str); 4] =
    [("Windows", "11 build 22631", "Dell"), ("Windows", "10 build 19045", "HP"), ("macOS", "14.5", "Apple"), ("Linux", "6.8", "Lenovo")];

/// Signatures that the Internet trips all day, with their severity and number.
const SIGNATURES: [(&str, &str, u64); 4] = [
    ("ZGrab.Scanner", "low", 50_398),
    ("Nmap.Script.Scanner", "low", 46_289),
    ("HTTP.URI.Overflow", "medium", 107_347_979),
    ("PHP.CGI.Argument.Injection", "high", 31_752),
];

/// An IPS log.
pub(in crate::traffic) struct Ips<'a> {
    /// Number of the appliance, below 100.
    pub(in crate::traffic) device: u64,
    /// Who attacks.
    pub(in crate::traffic) source: &'a str,
    /// Where the attacker is.
    pub(in crate::traffic) country: &'a str,
    /// Source port.
    pub(in crate::traffic) source_port: u64,
    /// What is attacked.
    pub(in crate::traffic) destination: &'a str,
    /// Signature.
    pub(in crate::traffic) attack: &'a str,
    /// Number of the signature.
    pub(in crate::traffic) attack_id: u64,
    /// `low` to `critical`.
    pub(in crate::traffic) severity: &'a str,
    /// `dropped`, `detected`, `reset`.
    pub(in crate::traffic) action: &'a str,
    /// Path and query.
    pub(in crate::traffic) url: &'a [u8],
    /// Session id.
    pub(in crate::traffic) session: u64,
}

/// An attempt to log in to the SSL VPN.
pub(in crate::traffic) struct VpnLogin<'a> {
    /// Number of the appliance, below 100.
    pub(in crate::traffic) device: u64,
    /// Where the client is on the Internet.
    pub(in crate::traffic) remote: &'a str,
    /// Account.
    pub(in crate::traffic) user: &'a str,
    /// The address given to the client; `None` if the login failed.
    pub(in crate::traffic) tunnel: Option<&'a str>,
    /// Tunnel id, 0 for a failed login.
    pub(in crate::traffic) tunnel_id: u64,
}

/// An attempt to log in as an administrator.
pub(in crate::traffic) struct AdminLogin<'a> {
    /// Number of the appliance, below 100.
    pub(in crate::traffic) device: u64,
    /// Where the administrator is.
    pub(in crate::traffic) source: &'a str,
    /// Account.
    pub(in crate::traffic) user: &'a str,
    /// Whether it worked.
    pub(in crate::traffic) success: bool,
}

/// A change that an administrator made.
pub(in crate::traffic) struct ConfigChange<'a> {
    /// Number of the appliance, below 100.
    pub(in crate::traffic) device: u64,
    /// Where the administrator is.
    pub(in crate::traffic) source: &'a str,
    /// Account.
    pub(in crate::traffic) user: &'a str,
    /// `Add`, `Edit`, `Delete`.
    pub(in crate::traffic) action: &'a str,
    /// Path in the configuration.
    pub(in crate::traffic) path: &'a str,
    /// Name of the changed object; `None` for settings that exist once.
    pub(in crate::traffic) object: Option<&'a str>,
    /// Attributes with their old and new values.
    pub(in crate::traffic) attributes: &'a str,
}

/// One benign line.
pub(in crate::traffic) fn line(world: &mut World, url: &mut Vec<u8>, out: &mut Vec<u8>) {
    match world.random.below(100) {
        0..79 => forward(world, out),
        79..99 => {
            let World { population, random, stamp, .. } = world;
            let peer = population.peer(random);
            let (attack, severity, attack_id) = random.pick(&SIGNATURES);
            url.clear();
            url.text("/index.php?id=").number(random.below(200_000)).text("&lang=en&x=a b c");
            let found = Ips {
                device: random.below(DEVICES),
                source: &peer.address,
                country: peer.country.name,
                source_port: ephemeral_port(random),
                destination: population.host(random),
                attack,
                attack_id,
                severity,
                action: random.weighted(&[(80, "dropped"), (20, "detected")]),
                url,
                session: random.bits() >> 33,
            };
            ips(stamp, &found, out);
        }
        _ => {
            let World { population, random, stamp, .. } = world;
            let known = random.chance(90);
            let login = VpnLogin {
                device: random.below(DEVICES),
                remote: &population.any_peer(random).address,
                user: population.user(random),
                tunnel: known.then_some("10.212.134.17"),
                tunnel_id: if known { random.bits() >> 33 } else { 0 },
            };
            vpn_login(stamp, &login, out);
        }
    }
}

/// The header, and the pairs that every log begins with.
fn head(stamp: &Stamp, device: u64, priority: u64, id_and_type: &str, out: &mut Vec<u8>) {
    out.text("<").number(priority).text(">").bytes(stamp.bsd()).text(" fgt-").padded(device, 2);
    out.text(" date=").bytes(stamp.date()).text(" time=").bytes(stamp.time()).text(" devname=\"FGT-").padded(device, 2);
    out.text("\" devid=\"FG100FTK20").padded(device, 6).text("\" eventtime=").number(stamp.ms()).text("000000 tz=\"+0000\" ");
    out.text(id_and_type).text(" vd=\"root\"");
}

fn forward(world: &mut World, out: &mut Vec<u8>) {
    let World { population, random, stamp, .. } = world;
    let device = random.below(DEVICES);
    let peer = population.peer(random);
    let (service, port, protocol, app, category, risk) = random.pick_skewed(&SERVICES);
    let (os, os_version, hardware) = random.pick_skewed(&CLIENTS);
    let action = random.weighted(&[(45, "close"), (30, "accept"), (15, "deny"), (6, "timeout"), (4, "server-rst")]);
    let denied = action == "deny";
    let source_port = ephemeral_port(random);
    let session = random.bits() >> 33;
    let policy = random.below(POLICIES.len() as u64);
    let interface = session % 6 + 1;
    let (head_line, priority) = if denied {
        ("logid=\"0000000013\" type=\"traffic\" subtype=\"forward\" level=\"warning\"", 188)
    } else {
        ("logid=\"0000000013\" type=\"traffic\" subtype=\"forward\" level=\"notice\"", 189)
    };
    head(stamp, device, priority, head_line, out);
    out.text(" srcip=").text(population.host(random)).text(" srcport=").number(source_port);
    out.text(" srcintf=\"port").number(interface).text("\" srcintfrole=\"lan\" dstip=").text(&peer.address).text(" dstport=").number(port);
    out.text(" dstintf=\"wan1\" dstintfrole=\"wan\" srccountry=\"Reserved\" dstcountry=\"").text(peer.country.name);
    out.text("\" sessionid=").number(session).text(" proto=").number(protocol).text(" action=\"").text(action);
    out.text("\" policyid=").number(if denied { 0 } else { policy + 1 }).text(" policytype=\"policy\" poluuid=\"");
    out.hex(0x1f2e_3d4c + policy, 8).text("-5735-51e9-f247-d1d2ce663f4b\" policyname=\"");
    out.text(if denied { "Implicit-Deny" } else { POLICIES[policy as usize] }).text("\" service=\"").text(service);
    out.text("\" trandisp=\"snat\" transip=203.0.113.").number(device + 100).text(" transport=").number(source_port);
    out.text(" appid=")
        .number(16_000 + port)
        .text(" app=\"")
        .text(app)
        .text("\" appcat=\"")
        .text(category)
        .text("\" apprisk=\"")
        .text(risk);
    let (bytes_sent, bytes_received) = if denied { (0, 0) } else { (random.between(60, 90_000), random.between(60, 900_000)) };
    out.text("\" applist=\"default\" duration=").number(if denied { 0 } else { random.between(1, 3600) });
    out.text(" sentbyte=").number(bytes_sent).text(" rcvdbyte=").number(bytes_received);
    out.text(" sentpkt=").number(bytes_sent.div_ceil(700)).text(" rcvdpkt=").number(bytes_received.div_ceil(900));
    out.text(" user=\"").text(population.user(random)).text("\" srchwvendor=\"").text(hardware);
    out.text("\" osname=\"").text(os).text("\" srcswversion=\"").text(os_version);
    out.text("\" mastersrcmac=\"00:09:0f:").hex(session >> 8, 2).text(":").hex(session, 2).text(":01\"");
}

/// An IPS log (0419016384).
pub(in crate::traffic) fn ips(stamp: &Stamp, ips: &Ips<'_>, out: &mut Vec<u8>) {
    let id_and_type = "logid=\"0419016384\" type=\"utm\" subtype=\"ips\" eventtype=\"signature\" level=\"alert\"";
    head(stamp, ips.device, 185, id_and_type, out);
    let (score, action, level) = match ips.severity {
        "critical" => (50, 4096, "critical"),
        "high" => (30, 8192, "high"),
        "medium" => (10, 16_384, "medium"),
        _ => (5, 32_768, "low"),
    };
    out.text(" severity=\"").text(ips.severity).text("\" srcip=").text(ips.source).text(" srccountry=\"").text(ips.country);
    out.text("\" dstip=").text(ips.destination).text(" dstcountry=\"Reserved\" srcintf=\"wan1\" srcintfrole=\"wan\" dstintf=\"port");
    out.number(ips.session % 6 + 1).text("\" dstintfrole=\"dmz\" sessionid=").number(ips.session).text(" action=\"").text(ips.action);
    out.text("\" proto=6 service=\"HTTPS\" policyid=")
        .number(ips.session % 40 + 1)
        .text(" poluuid=\"1f2e3d4c-5735-51e9-f247-d1d2ce663f4b\"");
    out.text(" policytype=\"policy\" attack=\"").text(ips.attack).text("\" srcport=").number(ips.source_port);
    out.text(" dstport=443 hostname=\"www.example.com\" url=\"")
        .bytes(ips.url)
        .text("\" httpmethod=\"GET\" direction=\"incoming\" attackid=");
    out.number(ips.attack_id).text(" profile=\"protect_http_server\" ref=\"http://www.fortinet.com/ids/VID").number(ips.attack_id);
    out.text("\" incidentserialno=").number(ips.session >> 2).text(" msg=\"web_server: ").text(ips.attack);
    out.text("\" crscore=").number(score).text(" craction=").number(action).text(" crlevel=\"").text(level).text("\"");
}

/// An SSL VPN login (0101039947 or 0101039426).
pub(in crate::traffic) fn vpn_login(stamp: &Stamp, login: &VpnLogin<'_>, out: &mut Vec<u8>) {
    match login.tunnel {
        Some(tunnel) => {
            head(stamp, login.device, 190, "logid=\"0101039947\" type=\"event\" subtype=\"vpn\" level=\"information\"", out);
            out.text(" logdesc=\"SSL VPN tunnel up\" action=\"tunnel-up\" tunneltype=\"ssl-tunnel\" tunnelid=").number(login.tunnel_id);
            out.text(" remip=").text(login.remote).text(" tunnelip=").text(tunnel).text(" user=\"").text(login.user);
            out.text("\" group=\"vpn-users\" dst_host=\"N/A\" reason=\"tunnel established\" msg=\"SSL tunnel established\"");
        }
        None => {
            head(stamp, login.device, 185, "logid=\"0101039426\" type=\"event\" subtype=\"vpn\" level=\"alert\"", out);
            out.text(" logdesc=\"SSL VPN login fail\" action=\"ssl-login-fail\" tunneltype=\"ssl-web\" tunnelid=").number(login.tunnel_id);
            out.text(" remip=").text(login.remote).text(" user=\"").text(login.user).text("\" group=\"N/A\" dst_host=\"N/A\"");
            out.text(" reason=\"sslvpn_login_permission_denied\" msg=\"SSL user failed to logged in\"");
        }
    }
}

/// An administrator's login (0100032001 or 0100032002).
pub(in crate::traffic) fn admin_login(stamp: &Stamp, login: &AdminLogin<'_>, out: &mut Vec<u8>) {
    let (priority, id_and_type, description) = if login.success {
        (190, "logid=\"0100032001\" type=\"event\" subtype=\"system\" level=\"information\"", "Admin login successful")
    } else {
        (185, "logid=\"0100032002\" type=\"event\" subtype=\"system\" level=\"alert\"", "Admin login failed")
    };
    head(stamp, login.device, priority, id_and_type, out);
    out.text(" logdesc=\"").text(description).text("\" sn=\"").number(stamp.second()).text("\" user=\"").text(login.user);
    out.text("\" ui=\"https(").text(login.source).text(")\" method=\"https\" srcip=").text(login.source);
    out.text(" dstip=203.0.113.20 action=\"login\" status=\"");
    if login.success {
        out.text("success\" reason=\"none\" profile=\"super_admin\" msg=\"Administrator ").text(login.user);
        out.text(" logged in successfully from https(").text(login.source).text(")\"");
    } else {
        out.text("failed\" reason=\"passwd_invalid\" msg=\"Administrator ").text(login.user).text(" login failed from https(");
        out.text(login.source).text(") because of invalid password\"");
    }
}

/// A configuration change (0100044547 with an object, 0100044546 without).
pub(in crate::traffic) fn config_change(stamp: &Stamp, change: &ConfigChange<'_>, out: &mut Vec<u8>) {
    let (id_and_type, description) = match change.object {
        Some(_) => ("logid=\"0100044547\" type=\"event\" subtype=\"system\" level=\"information\"", "Object attribute configured"),
        None => ("logid=\"0100044546\" type=\"event\" subtype=\"system\" level=\"information\"", "Attribute configured"),
    };
    head(stamp, change.device, 190, id_and_type, out);
    out.text(" logdesc=\"").text(description).text("\" user=\"").text(change.user).text("\" ui=\"GUI(").text(change.source);
    out.text(")\" action=\"").text(change.action).text("\" cfgtid=").number(stamp.second() % 1_000_000_000);
    out.text(" cfgpath=\"").text(change.path).text("\"");
    if let Some(object) = change.object {
        out.text(" cfgobj=\"").text(object).text("\"");
    }
    out.text(" cfgattr=\"").text(change.attributes).text("\" msg=\"").text(change.action).text(" ").text(change.path);
    out.text(" ").text(change.object.unwrap_or_default()).text("\"");
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::traffic::{Kind, Traffic, key_values};

    #[test]
    fn every_line_is_a_header_and_key_value_pairs() {
        let mut traffic = Traffic::new(Kind::Fortigate, 5);
        let mut line = Vec::new();
        let mut types = HashMap::<String, u32>::new();
        for number in 0..2_000 {
            line.clear();
            traffic.next(1_795_248_000_000 + number * 7, &mut line);
            let text = std::str::from_utf8(&line).unwrap();
            let (header, pairs) = text.split_at(text.find("date=").unwrap());
            assert!(header.starts_with("<18") || header.starts_with("<190>"), "{header}");
            let pairs = key_values(pairs);
            assert!(pairs["eventtime"].parse::<u64>().unwrap() > 1 << 60, "nanoseconds");
            assert_eq!(pairs["logid"].len(), 10);
            *types.entry(pairs["subtype"].clone()).or_default() += 1;
        }
        assert_eq!(types.len(), 3, "{types:?}");
        assert!(types["forward"] > 1_480 && types["ips"] > 320 && types["vpn"] > 5, "{types:?}");
    }
}
