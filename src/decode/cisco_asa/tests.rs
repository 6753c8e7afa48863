//! Messages as appliances write them, one at least for each row of the table that carries more than a text.

use super::*;
use crate::decode::testing::{self, Case};
use crate::traffic::{Kind as TrafficKind, Traffic};

const CASES: &[Case<'_>] = &[
    // Connections: outbound means that the second side began.
    (
        "<166>Nov 21 2026 08:00:00 asa-01 : %ASA-6-302013: Built outbound TCP connection 89743274 for outside:192.0.2.43/443 (192.0.2.43/443) \
         to inside:10.123.3.42/4952 (203.0.113.7/12834)",
        &[
            ("host.hostname", "asa-01"),
            ("observer.product", "ASA"),
            ("observer.vendor", "Cisco"),
            ("observer.type", "firewall"),
            ("event.code", "302013"),
            ("event.severity", "6"),
            ("event.severity_name", "informational"),
            ("event.action", "built"),
            ("event.outcome", "success"),
            ("event.category", "network"),
            ("event.kind", "event"),
            ("event.id", "89743274"),
            ("network.direction", "outbound"),
            ("network.transport", "tcp"),
            ("source.ip", "10.123.3.42"),
            ("source.port", "4952"),
            ("source.nat.ip", "203.0.113.7"),
            ("source.nat.port", "12834"),
            ("destination.ip", "192.0.2.43"),
            ("destination.port", "443"),
            ("destination.nat.ip", "192.0.2.43"),
            ("destination.nat.port", "443"),
            ("observer.ingress.interface.name", "inside"),
            ("observer.egress.interface.name", "outside"),
            ("cisco.asa.verdict", "accept"),
            (
                "%native.text",
                "Built outbound TCP connection 89743274 for outside:192.0.2.43/443 (192.0.2.43/443) to inside:10.123.3.42/4952 (203.0.113.7/12834)",
            ),
        ],
    ),
    (
        "<142>Oct 06 2026 10:26:54 fw1 : %ASA-6-302013: Built inbound TCP connection 79766144 for outside:192.0.2.2/62848 \
         (192.0.2.2/62848)(LOCAL\\jdoe, 9999:my_Sgt) to inside:10.8.2.3/443 (10.8.2.3/443) (jdoe)",
        &[
            ("source.ip", "192.0.2.2"),
            ("source.user.name", "jdoe"),
            ("source.user.domain", "LOCAL"),
            ("user.name", "jdoe"),
            ("destination.ip", "10.8.2.3"),
            ("destination.user.name", ""),
        ],
    ),
    (
        "Jun 21 2026 11:47:09: %ASA-6-302015: Built inbound UDP connection 7 for outside:192.0.2.142/3424 (192.0.2.142/3424)(LOCAL\\al, 1) to \
         inside:10.9.20.112/9803 (10.9.20.112/9803)(AD\\dave, 246) (bob)",
        &[
            ("source.user.name", "al"),
            ("destination.user.name", "dave"),
            ("destination.user.domain", "AD"),
            ("user.name", "bob"),
            ("network.transport", "udp"),
        ],
    ),
    (
        "<166>%ASA-6-302014: Teardown TCP connection 447236 for outside:192.0.2.222/443(LOCAL\\First Last) to dmz:10.1.1.34/51678 duration \
         0:01:08 bytes 134781 TCP FINs from outside (First Last)",
        &[
            ("event.action", "teardown"),
            ("source.ip", "10.1.1.34"),
            ("source.port", "51678"),
            ("destination.ip", "192.0.2.222"),
            ("destination.user.name", "First Last"),
            ("network.bytes", "134781"),
            ("event.duration", "0:01:08"),
            ("event.reason", "TCP FINs"),
            ("user.name", "First Last"),
        ],
    ),
    (
        // No colon behind the number; a tie of ports keeps the order.
        "Aug 15 2026 23:30:09 : %ASA-6-302016 Teardown UDP connection 40 for outside:192.0.2.4/500 to inside:10.44.2.2/500 duration 0:02:02 bytes 1416",
        &[("source.ip", "192.0.2.4"), ("network.bytes", "1416"), ("event.reason", "")],
    ),
    (
        "%ASA-6-302016: Teardown UDP connection 666 for outside:192.0.2.222/53 user1 to inside:10.123.1.35/52925 user2 duration 10:00:00 bytes 999",
        &[("source.ip", "10.123.1.35"), ("destination.port", "53"), ("network.bytes", "999")],
    ),
    (
        "<166>Aug 18 2026 18:24:30 fw : %ASA-6-302020: Built inbound ICMP connection for faddr 203.0.113.20/28416 gaddr 198.51.100.10/0 \
         laddr 192.0.2.30/0 type 8 code 0 ",
        &[
            ("source.ip", "203.0.113.20"),
            ("source.port", ""),
            ("destination.ip", "192.0.2.30"),
            ("destination.nat.ip", "198.51.100.10"),
            ("icmp.type", "8"),
            ("icmp.code", "0"),
            ("network.transport", "icmp"),
        ],
    ),
    (
        "%ASA-6-302020: Built outbound ICMP connection for faddr 203.0.113.20/0(LOCAL\\u) gaddr 198.51.100.10/1 laddr 192.0.2.30/1 (u2) type 8 code 0",
        &[("source.ip", "192.0.2.30"), ("source.nat.ip", "198.51.100.10"), ("destination.ip", "203.0.113.20"), ("user.name", "u2")],
    ),
    (
        "%ASA-6-302021: Teardown ICMP connection for faddr 203.0.113.20/0 gaddr 198.51.100.10/17233 laddr 192.0.2.30/17233",
        &[("source.ip", "192.0.2.30"), ("source.port", ""), ("destination.ip", "203.0.113.20")],
    ),
    (
        "%ASA-6-302022: Built forwarder  stub TCP connection for fw1:10.10.10.10/38540 (8.8.8.5/38540) to net:192.0.2.2/10051 (192.0.2.9/10051)",
        &[("source.ip", "10.10.10.10"), ("%native.role", "forwarder")],
    ),
    (
        "%ASA-6-302023: Teardown stub TCP connection for fw1:10.10.10.10/39210 to net:192.0.2.2/10051 duration 0:00:00 forwarded bytes 0 Flow closed",
        &[("event.reason", "Flow closed"), ("network.bytes", "0")],
    ),
    ("%ASA-6-302304: Teardown TCP state-bypass connection 2751765169 from-x", &[("event.code", "302304")]),
    (
        "%ASA-6-302304: Teardown TCP state-bypass connection 27 for srv.lan:192.0.2.144/54242 to srv.lan:192.0.2.144/9101 duration 1:00:02 bytes 245 \
         Connection timeout",
        &[("network.transport", "tcp"), ("event.reason", "Connection timeout"), ("observer.ingress.interface.name", "srv.lan")],
    ),
    // Denials.
    (
        "<164>Nov 21 08:00:00 asa-02 : %ASA-4-106023: Deny tcp src outside:198.51.100.23/51000(9999:my_Sgt) dst inside:10.10.1.11/3389 by access-group \
         \"outside_access_in\" [0x2a9e189a, 0x0]",
        &[
            ("event.action", "deny"),
            ("event.outcome", "failure"),
            ("cisco.asa.verdict", "deny"),
            ("source.ip", "198.51.100.23"),
            ("source.user.name", ""),
            ("source.domain", ""),
            ("destination.port", "3389"),
            ("rule.name", "outside_access_in"),
            ("event.severity_name", "warning"),
        ],
    ),
    (
        "Apr 27 02:02:02 dev01: %ASA-4-106023: Deny tcp src outside:10.10.10.2/56444(pc.example) dst srv:192.0.2.2/51635(testhost.example) by access-group \"global\"",
        &[
            ("source.domain", "pc.example"),
            ("destination.domain", "testhost.example"),
            ("rule.name", "global"),
            ("host.hostname", "dev01"),
            ("log.syslog.appname", ""),
        ],
    ),
    (
        "%ASA-4-106023: Deny protocol 47 src outside:192.0.2.144 dst inside:10.31.98.44 by access-group \"inbound\"",
        &[("network.transport", "gre"), ("source.port", "")],
    ),
    (
        "%ASA-4-106023: Deny icmp src OUT:2a02:cf40:add:4002:91f2:a9b2:e09a:6fc6 dst IN:fe80::1 (type 128, code 0) by access-group \"v6\"",
        &[("source.ip", "2a02:cf40:add:4002:91f2:a9b2:e09a:6fc6"), ("destination.ip", "fe80::1"), ("icmp.type", "128")],
    ),
    (
        "%ASA-4-106023: Deny tcp src dmz:10.1.2.30/63016 dst outside:192.0.2.8/53 type 3, code 0, by access-group \"acl_dmz\" [0xe3aab522, 0x0]",
        &[("icmp.type", "3"), ("icmp.code", "0"), ("rule.name", "acl_dmz")],
    ),
    (
        "%ASA-2-106001: Inbound TCP connection denied from 192.0.2.2/43803 to 10.10.10.10/14322 flags SYN  on interface out1",
        &[
            ("network.direction", "inbound"),
            ("tcp.flags", "SYN"),
            ("observer.ingress.interface.name", "out1"),
            ("destination.port", "14322"),
        ],
    ),
    (
        "Jan 23 15:10:55 10.10.10.1 %ASA-2-106006: message repeated 2 times: [ Deny inbound UDP from 192.0.2.66/137 to 10.1.2.42/137 on interface inside]",
        &[
            ("event.count", "2"),
            ("source.ip", "192.0.2.66"),
            ("observer.ingress.interface.name", "inside"),
            ("host.hostname", "10.10.10.1"),
        ],
    ),
    ("%ASA-2-106007: Deny inbound UDP from 192.0.2.66/12981 to 10.1.2.60/53 due to DNS Query", &[("event.reason", "DNS Query")]),
    ("%ASA-3-106010: Deny inbound protocol 103 src inside:10.31.98.44 dst inside:192.0.2.2", &[("network.transport", "pim")]),
    ("%ASA-4-106012: Deny IP from 10.1.2.1 to 10.31.98.44, IP options: \"Router Alert\"", &[("%native.detail", "Router Alert")]),
    (
        "%ASA-3-106014: Deny inbound icmp src a:10.10.10.10 dst b:10.10.10.11(type 8, code 0)",
        &[("destination.ip", "10.10.10.11"), ("icmp.type", "8")],
    ),
    (
        "%ASA-6-106015: Deny TCP (no connection) from pc1.example/11946 to pc2.example/389 flags FIN PSH ACK  on interface inside",
        &[("source.ip", "pc1.example"), ("tcp.flags", "FIN PSH ACK"), ("network.transport", "tcp")],
    ),
    (
        "%ASA-2-106016: Deny IP spoof from (0.0.0.0) to 192.0.2.47 on interface Mobile_Traffic",
        &[("source.ip", "0.0.0.0"), ("destination.ip", "192.0.2.47")],
    ),
    ("%ASA-2-106017: Deny IP due to Land Attack from 10.1.1.1 to 10.1.1.1", &[("event.reason", "Land Attack")]),
    ("%ASA-1-106021: Deny TCP reverse path check from 192.0.2.2 to 10.10.10.10 on interface fw1", &[("destination.ip", "10.10.10.10")]),
    (
        "Apr 15 2026 09:34:34 EDT: %ASA-session-5-106100: access-list acl_in est-allowed tcp inside/10.1.2.16(2241)(LOCAL\\u) -> outside/192.0.2.89(2000) \
         hit-cnt 7 first hit [0x71a87d94, 0x0]",
        &[
            ("host.hostname", ""),
            ("event.action", "permit"),
            ("rule.name", "acl_in"),
            ("source.ip", "10.1.2.16"),
            ("source.port", "2241"),
            ("source.user.name", "u"),
            ("destination.ip", "192.0.2.89"),
            ("destination.port", "2000"),
            ("event.count", "7"),
            ("cisco.asa.verdict", "accept"),
        ],
    ),
    (
        "<140>Feb 02 2026 14:02:35: %ASA-4-106103: access-list A denied tcp for user 'jdoe' outside/192.0.2.142(51950) -> inside/10.160.20.112(443) hit-cnt \
         1 first hit [0xd3e666fa, 0x0]",
        &[("event.action", "deny"), ("user.name", "jdoe"), ("source.port", "51950")],
    ),
    // Translations.
    (
        "%ASA-6-305011: Built dynamic TCP translation from inside:10.123.3.42/4952(LOCAL\\u) to outside:203.0.113.130/12834",
        &[
            ("source.ip", "10.123.3.42"),
            ("source.nat.ip", "203.0.113.130"),
            ("source.nat.port", "12834"),
            ("observer.egress.interface.name", "outside"),
            ("destination.ip", ""),
            ("event.action", "translation_built"),
        ],
    ),
    (
        "%ASA-6-305012: Teardown dynamic UDP translation from a:10.1.1.1/54230 to b:192.0.2.2/54230 duration 0:00:05",
        &[("event.duration", "0:00:05")],
    ),
    (
        "%ASA-5-305013: Asymmetric NAT rules matched for forward and reverse flows; Connection for udp src out:192.0.2.1/5 dst in:10.0.0.1/53 denied due to \
         NAT reverse path failure",
        &[("event.reason", "NAT reverse path failure"), ("destination.port", "53"), ("network.transport", "udp")],
    ),
    // VPN and AAA.
    (
        "<166>Jun 22 2026 13:29:11 single : %ASA-6-113039: Group <GroupPolicy Remote-VPN> User <first.o'last@example.com> IP <192.0.2.144> AnyConnect parent \
         session started.",
        &[
            ("source.user.group.name", "GroupPolicy Remote-VPN"),
            ("user.name", "first.o'last@example.com"),
            ("source.ip", "192.0.2.144"),
            ("event.action", "session_start"),
            ("event.category", "session"),
        ],
    ),
    (
        "Oct 10 2026 12:34:56 localhost CiscoASA[999]: %ASA-4-113029: Group VPN User ex.user IP 192.0.2.14 Session could not be established: session limit",
        &[("user.name", "ex.user"), ("source.ip", "192.0.2.14"), ("event.outcome", "failure"), ("host.hostname", "localhost")],
    ),
    (
        "%ASA-4-113019: Group = Staff, Username = ringo, IP = 192.0.2.12, Session disconnected. Session Type: SSL, Duration: 2h:27m:34s, Bytes xmt: 45, \
         Bytes rcv: 46, Reason: Idle Timeout",
        &[
            ("user.name", "ringo"),
            ("source.bytes", "45"),
            ("destination.bytes", "46"),
            ("event.reason", "Idle Timeout"),
            ("cisco.asa.session_type", "SSL"),
            ("event.duration", "2h:27m:34s"),
        ],
    ),
    (
        "%ASA-6-113005: AAA user authentication Rejected : reason = AAA failure : server = 10.0.0.70 : user = : user IP = 192.0.2.144",
        &[
            ("event.action", "login_failed"),
            ("event.outcome", "failure"),
            ("event.category", "authentication"),
            ("event.reason", "AAA failure"),
            ("cisco.asa.server", "10.0.0.70"),
            ("user.name", ""),
            ("source.ip", "192.0.2.144"),
        ],
    ),
    (
        "<166>:: %ASA-auth-6-113005: AAA user authorization Rejected: reason = x: server = s : user = u$ : user IP = None",
        &[("user.name", "u$"), ("source.ip", "")],
    ),
    (
        "%ASA-6-113015: AAA user authentication Rejected : reason = Invalid password : local database : user = al(test user) : user IP = 192.0.2.1",
        &[("user.name", "al(test user)"), ("source.ip", "192.0.2.1"), ("event.reason", "Invalid password")],
    ),
    ("%ASA-6-113015: AAA user authentication Rejected : reason = User was not found : local database : user = al", &[("user.name", "al")]),
    (
        "%ASA-6-113004: AAA user authentication Successful: server = 192.0.2.144 , User = alice",
        &[("user.name", "alice"), ("event.outcome", "success")],
    ),
    (
        "%ASA-6-113004: AAA user accounting Successful : server =  10.0.0.8 : user = bob",
        &[("user.name", "bob"), ("cisco.asa.server", "10.0.0.8")],
    ),
    (
        "%ASA-6-113012: AAA user authentication Successful : local database : user = carl",
        &[("user.name", "carl"), ("event.action", "login")],
    ),
    ("%ASA-6-113008: AAA transaction status ACCEPT: user = dora", &[("user.name", "dora")]),
    (
        "%ASA-6-716039: Group <g 1> User <mal> IP <10.31.98.44> Authentication: rejected, Session Type: WebVPN.",
        &[("user.name", "mal"), ("cisco.asa.session_type", "WebVPN")],
    ),
    (
        "%ASA-6-716039: Authentication: rejected, group = corp user = eve , Session Type: admin",
        &[("user.name", "eve"), ("cisco.asa.session_type", "admin")],
    ),
    (
        "%ASA-6-716002: Group p User test IP 192.0.2.144 WebVPN session terminated: User Requested.",
        &[("event.reason", "User Requested."), ("event.action", "session_end")],
    ),
    ("%ASA-6-716003: Group G User U IP 10.16.0.1 WebVPN access GRANTED: \"https://x.example\"", &[("url.original", "https://x.example")]),
    (
        "%ASA-6-716059: Group <V> User IP <10.20.0.1> AnyConnect session resumed connection from IP <10.16.0.1>.",
        &[("source.ip", "10.20.0.1"), ("user.name", "")],
    ),
    (
        "%ASA-6-716055: Group <V> User <w> IP <10.20.0.2> Deflate error",
        &[("source.ip", "10.20.0.2"), ("user.name", "w"), ("event.action", "")],
    ),
    (
        "%ASA-4-722051: Group <Pol> User <john> IP <192.0.2.3> IPv4 Address <192.168.50.5> IPv6 Address <::> assigned to session",
        &[("client.nat.ip", "192.168.50.5"), ("%native.assigned_ipv6", "::"), ("user.name", "john")],
    ),
    (
        "%ASA-6-722022: Group G User me@example.com IP 10.8.0.12 UDP SVC connection established without compression",
        &[("user.name", "me@example.com"), ("event.action", "session_start")],
    ),
    ("%ASA-4-722037: Group <E> User <b> IP <192.0.2.1> SVC closing connection: DPD failure.", &[("event.reason", "DPD failure.")]),
    (
        "%ASA-4-722041: TunnelGroup <tg> GroupPolicy <gp> User <b> IP <192.0.2.1> No IPv6 address available for SVC connection",
        &[("user.name", "b"), ("source.ip", "192.0.2.1")],
    ),
    (
        "%ASA-5-713049: Group = 192.0.2.9, Username = t, IP = 192.0.2.9, Security negotiation complete for User (t) Responder",
        &[("user.name", "t"), ("source.ip", "192.0.2.9")],
    ),
    ("%ASA-6-713904: All IPSec SA proposals found unacceptable!", &[("%native.detail", "All IPSec SA proposals found unacceptable!")]),
    (
        "%ASA-6-602303: IPSEC: An outbound LAN-to-LAN SA (SPI= 0xF81283) between 192.0.2.144 and 10.2.2.2 (user= admin) has been created.",
        &[("cisco.asa.spi", "0xF81283"), ("event.action", "tunnel_up"), ("user.name", "admin"), ("destination.ip", "10.2.2.2")],
    ),
    (
        "%ASA-5-751025: Local:10.1.1.180:4500 Remote:10.2.66.123:53256 Username:anon IKEv2 Group:Power IPv4 Address=172.16.58.24 IPv6 address=fd29::1 assigned \
         to session",
        &[("source.ip", "10.2.66.123"), ("source.port", "53256"), ("destination.port", "4500"), ("client.nat.ip", "172.16.58.24")],
    ),
    (
        "%ASA-6-721016: (WebVPN-Primary) WebVPN session for client user t.user, IPv4 10.1.2.0 has been created.",
        &[("user.name", "t.user"), ("source.ip", "10.1.2.0")],
    ),
    // Management.
    (
        "<165>Nov 21 08:00:00 asa-01 : %ASA-5-111010: User 'enable_15', running 'CLI' from IP 10.212.134.200, executed 'no logging enable'",
        &[
            ("user.name", "enable_15"),
            ("process.command_line", "no logging enable"),
            ("process.name", "CLI"),
            ("source.ip", "10.212.134.200"),
            ("event.category", "configuration"),
        ],
    ),
    ("%ASA-5-111008: User 'enable_15' executed the 'write memory' command.", &[("process.command_line", "write memory")]),
    ("%ASA-7-111009: User 'aaaa' executed cmd: show access-list x brief", &[("process.command_line", "show access-list x brief")]),
    ("%ASA-5-111004: console end configuration: OK", &[("event.reason", "OK"), ("event.action", "config_end")]),
    (
        "%ASA-6-605005: Login permitted from 10.10.0.87/6651 to LAN-1:10.10.1.254/ssh for user \"admin\"",
        &[
            ("source.port", "6651"),
            ("destination.ip", "10.10.1.254"),
            ("destination.port", ""),
            ("network.protocol", "ssh"),
            ("user.name", "admin"),
        ],
    ),
    (
        "%ASA-6-605004: Login denied from 192.0.2.144/51215 to dmz-1:192.0.2.145/https for user \"\"",
        &[("user.name", ""), ("event.outcome", "failure")],
    ),
    (
        "%ASA-6-611101: User authentication succeeded: IP address: 10.10.0.87, Uname: admin",
        &[("source.ip", "10.10.0.87"), ("user.name", "admin")],
    ),
    ("%ASA-6-611101: User authentication succeeded: Uname: admin", &[("user.name", "admin"), ("event.action", "login")]),
    (
        "%ASA-5-502103: User priv level changed: Uname: enable_15 From: 1 To: 15",
        &[("cisco.asa.privilege", "15"), ("event.category", "iam")],
    ),
    (
        "%ASA-6-315011: SSH session from 10.1.2.3 on interface in-1 for user \"*****\" disconnected by SSH server, reason: \"Time-out activated\" (0x91)",
        &[("source.ip", "10.1.2.3"), ("user.name", "*****"), ("observer.ingress.interface.name", "in-1")],
    ),
    (
        "%ASA-6-315011: SSH session from on interface inside for user \"j\" terminated normally",
        &[("user.name", "j"), ("observer.ingress.interface.name", "inside")],
    ),
    (
        "%ASA-3-710003: TCP access denied by ACL from 192.0.2.144/6370 to outside:10.168.157.61/23",
        &[("event.action", "deny"), ("destination.port", "23")],
    ),
    ("%ASA-7-710006: VRRP request discarded from 192.0.2.2 to fw1:10.18.4.1", &[("network.transport", "vrrp"), ("source.ip", "192.0.2.2")]),
    // Threat detection and others.
    (
        "<164>Jun 26 2026 20:54:29: %ASA-4-733100: [ LOCAL\\al.j#012                      ] drop rate-1 exceeded. Current burst rate is 40 per second, max \
         configured rate is -4; Current average rate is 4 per second, max configured rate is 20; Cumulative total count is 2435",
        &[
            ("cisco.asa.object", "LOCAL\\al.j"),
            ("cisco.asa.burst_rate", "40"),
            ("cisco.asa.average_rate", "4"),
            ("event.count", "2435"),
            ("event.kind", "alert"),
            ("%native.rate_id", "rate-1"),
        ],
    ),
    (
        "%ASA-4-733101: Host 198.51.100.23 is attacking. Current burst rate is 22 per second, max configured rate is 10; Current average rate is 12 per second, \
         max configured rate is 5; Cumulative total count is 45",
        &[("source.ip", "198.51.100.23"), ("event.action", "attack"), ("event.count", "45")],
    ),
    (
        "%ASA-4-400013: IPS:2003 ICMP redirect from 10.4.1.2 to 10.2.1.1 on interface dmz",
        &[("rule.name", "2003"), ("event.category", "intrusion_detection")],
    ),
    (
        "%ASA-4-401004: Shunned packet: 192.0.2.1 ==> 10.0.0.1 on interface outside",
        &[("source.ip", "192.0.2.1"), ("destination.ip", "10.0.0.1")],
    ),
    (
        "%ASA-4-313005: No matching connection for ICMP error message: icmp src o:192.0.2.2(LOCAL\\g\\tu) dst i:10.8.2.3 (type 3, code 3) on myif interface.  \
         Original IP payload: udp src 10.8.2.3/53 dst 192.0.2.2/10872.",
        &[("source.user.name", "tu"), ("icmp.code", "3"), ("%native.detail", "udp src 10.8.2.3/53 dst 192.0.2.2/10872.")],
    ),
    (
        "%ASA-4-313004: Denied ICMP type=0, from laddr 10.10.10.10 on interface fw5 to 192.0.2.2: no matching session",
        &[("destination.ip", "192.0.2.2"), ("icmp.type", "0")],
    ),
    (
        "%ASA-3-313008: Denied IPv6-ICMP type=134, code=0 from fe80::1ff:fe23:4567:890a on interface ISP1",
        &[("source.ip", "fe80::1ff:fe23:4567:890a"), ("network.transport", "ipv6-icmp")],
    ),
    (
        "%ASA-5-304001: USER1@10.8.0.1(LOCAL\\USER1) Accessed JAVA URL 10.17.6.211:http://t.example/p.html",
        &[
            ("source.ip", "10.8.0.1"),
            ("user.name", "USER1"),
            ("destination.ip", "10.17.6.211"),
            ("url.original", "http://t.example/p.html"),
        ],
    ),
    (
        "%ASA-4-338004: Dynamic Filter monitored blacklisted TCP traffic from in:10.1.1.1/33340 (10.2.1.1/33340) to out:192.0.2.223/80 (192.0.2.223/80), destination \
         192.0.2.223 resolved from dynamic list: x.example, threat-level: very-high, category: Malware",
        &[("source.nat.ip", "10.2.1.1"), ("destination.port", "80"), ("event.action", "permit"), ("network.transport", "tcp")],
    ),
    ("%ASA-4-405001: Received ARP request collision from 10.0.0.1/0011.2233.4455 on interface inside", &[("event.action", "attack")]),
    ("%ASA-3-322001: Deny MAC address 0011.2233.4455, possible spoof attempt on interface in", &[("source.mac", "0011.2233.4455")]),
    (
        "%ASA-6-303002: FTP connection from net:10.8.2.2/63656 to fw:192.0.2.4/21, user test Stored file /home/x.log",
        &[("file.name", "/home/x.log"), ("user.name", "test"), ("process.command_line", "Stored")],
    ),
    ("%ASA-7-609002: Teardown local-host net:192.0.2.2 duration 0:00:00", &[("source.ip", "192.0.2.2")]),
    (
        "%ASA-6-725002: Device completed SSL handshake with client inside:10.51.100.10/52591",
        &[("source.ip", "10.51.100.10"), ("source.port", "52591")],
    ),
    (
        "%ASA-6-725001: Starting SSL handshake with client inside:10.16.0.1/1133 to 10.20.0.1/443 for TLSv1.2 session.",
        &[("destination.port", "443"), ("%native.detail", "TLSv1.2")],
    ),
    // Ids that are not in the table keep id, severity and text.
    (
        "%ASA-6-302010: 12 in use, 10 most used",
        &[("event.code", "302010"), ("%native.text", "12 in use, 10 most used"), ("event.action", ""), ("event.severity", "6")],
    ),
    ("<113>Nov 21 08:00:00 ftd-1 SFIMS: %FTD-3-199999: anything", &[("observer.product", "FTD"), ("event.code", "199999")]),
    // Security events of FTD.
    (
        "2026-03-27T08:54:54Z   %FTD-1-430003: EventPriority: Low, DeviceUUID: 5c12-11e7, InstanceID: 5, FirstPacketSecond: 2026-03-27T08:54:54Z, ConnectionID: \
         56696, AccessControlRuleAction: Block with reset, AccessControlRuleReason: File Block, SrcIP: 10.0.1.20, DstIP: 192.0.2.30, SrcPort: 50815, DstPort: 7680, \
         Protocol: tcp, IngressInterface: In, EgressInterface: Out, IngressZone: in-zone, EgressZone: out-zone, Endpoint Profile: Workstation:Windows, ACPolicy: Prod, \
         AccessControlRuleName: Block, reset, User: Not Found, Client: Windows Update client, ApplicationProtocol: HTTP, WebApplication: Ubuntu, ConnectionDuration: 30, \
         InitiatorPackets: 3, ResponderPackets: 1, InitiatorBytes: 261, ResponderBytes: 66, UserAgent: curl/7.58, HTTPResponse: 200, HTTPReferer: http://r/, \
         ReferencedHost: h.example, URLCategory: Malware Sites, DNSQuery: q.example, DNSRecordType: a host address, DNSResponseType: No Error, URL: \
         http://h.example/a, SrcIP: 6.6.6.6",
        &[
            ("event.action", "teardown"),
            ("event.outcome", "failure"),
            ("cisco.asa.verdict", "deny"),
            ("event.reason", "File Block"),
            ("source.ip", "10.0.1.20"),
            ("destination.ip", "192.0.2.30"),
            ("source.port", "50815"),
            ("source.bytes", "261"),
            ("source.packets", "3"),
            ("destination.packets", "1"),
            ("observer.ingress.zone", "in-zone"),
            ("observer.egress.zone", "out-zone"),
            ("observer.serial_number", "5c12-11e7"),
            ("rule.name", "Block, reset"),
            ("rule.ruleset", "Prod"),
            ("user.name", ""),
            ("network.application", "Ubuntu"),
            ("network.protocol", "HTTP"),
            ("event.duration_s", "30"),
            ("user_agent.original", "curl/7.58"),
            ("http.response.status_code", "200"),
            ("http.request.referrer", "http://r/"),
            ("url.domain", "h.example"),
            ("rule.category", "Malware Sites"),
            ("dns.question.name", "q.example"),
            ("dns.question.type", "a host address"),
            ("dns.response_code", "No Error"),
            ("url.original", "http://h.example/a"),
        ],
    ),
    (
        "Jan 29 14:40:10 192.168.0.7 SFIMS: %FTD-1-430001: Protocol: tcp, SrcIP: 203.0.113.100, DstIP: 10.1.1.10, SrcPort: 54321, DstPort: 80, GID: 1, SID: 648, \
         Message: \"INDICATOR, x86 NOOP\", Classification: Executable Code was Detected, Priority: 1, InlineResult: Blocked, NAT_InitiatorIP: 1.1.1.1",
        &[
            ("event.kind", "alert"),
            ("event.outcome", "failure"),
            ("event.category", "intrusion_detection"),
            ("threat.indicator.name", "INDICATOR, x86 NOOP"),
            ("rule.id", "648"),
            ("rule.category", "Executable Code was Detected"),
            ("source.nat.ip", "1.1.1.1"),
        ],
    ),
    (
        "Aug 14 2026 15:09:43 siem-ftd  %FTD-1-430005: SrcIP: 10.0.1.20, DstIP: 10.0.100.30, FileDirection: Download, FileAction: Malware Block, FileSHA256: 2546dc, \
         SHA_Disposition: Malware, ThreatName: Win.Ransomware.Eicar::95.sbx.tg, FileName: eicar_com.zip, FileType: ZIP, FileSize: 184, URI: http://10.0.100.30/e.zip",
        &[
            ("event.category", "malware"),
            ("file.hash.sha256", "2546dc"),
            ("file.name", "eicar_com.zip"),
            ("file.type", "ZIP"),
            ("file.size", "184"),
            ("threat.indicator.name", "Win.Ransomware.Eicar::95.sbx.tg"),
            ("url.original", "http://10.0.100.30/e.zip"),
            ("host.hostname", "siem-ftd"),
        ],
    ),
];

/// One of the lines above stands for a message that goes on otherwise than its pattern.
const CUT: &str = "%ASA-6-302304: Teardown TCP state-bypass connection 2751765169 from-x";

fn cases() -> Vec<Case<'static>> {
    CASES.iter().copied().filter(|(line, _)| *line != CUT).collect()
}

fn lines() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|(line, _)| *line).chain([CiscoAsa.sample()])
}

#[test]
fn real_messages_give_their_fields() {
    testing::check(&CiscoAsa, &cases());
    testing::check_every_name_is_filled(&CiscoAsa, lines(), &[]);
    testing::check_sniffed(&CiscoAsa, lines());
}

#[test]
fn broken_lines_never_panic() {
    testing::check_broken_lines(&CiscoAsa, lines());
}

#[test]
fn a_message_that_goes_on_otherwise_keeps_what_was_read() {
    let decoded = testing::decode(&CiscoAsa, &["event.action", "network.transport"], CUT);
    assert_eq!((decoded.field("event.action"), decoded.field("network.transport")), ("teardown", "tcp"));
    assert_eq!(decoded.flaw, Some(Flaw::Truncated));
    let other = "<166>Nov 21 08:00:00 h app: 100%ASA is not a tag";
    assert_eq!(testing::decode(&CiscoAsa, &["event.code"], other).flaw, Some(Flaw::Malformed));
    assert_eq!(CiscoAsa.sniff(other.as_bytes()), None);
}

#[test]
fn the_table_is_sorted_and_every_brace_of_it_is_a_field() {
    assert!(TEMPLATES.is_sorted_by_key(|row| row.id));
    for row in TEMPLATES.iter().chain(RANGES.iter().map(|(_, row)| row)) {
        assert!(Pattern::new(row.pattern).is_sound(row.pattern), "{}: {}", row.id, row.pattern);
    }
}

#[test]
fn all_generated_traffic_is_read_without_a_flaw() {
    let mut traffic = Traffic::new(TrafficKind::CiscoAsa, 3);
    let bench = testing::Bench::of_everything(&CiscoAsa);
    for number in 0..5_000 {
        let mut line = Vec::new();
        traffic.next(testing::RECEIVED_MS + number, &mut line);
        let decoded = bench.decode(&line);
        assert_eq!(decoded.flaw, None, "{}", String::from_utf8_lossy(&line));
        assert!(decoded.field("event.action") == "rate_exceeded" || !decoded.field("source.ip").is_empty(), "{decoded:?}");
    }
}

/// The source of a teardown is that of its connection.
#[test]
fn both_ends_of_a_connection_agree_who_began() {
    let mut traffic = Traffic::new(TrafficKind::CiscoAsa, 9);
    let bench = testing::Bench::new(&CiscoAsa, &["event.id", "event.action", "source.ip", "destination.port"]);
    let mut open = std::collections::HashMap::new();
    let (mut closed, mut wrong) = (0, 0);
    for number in 0..20_000 {
        let mut line = Vec::new();
        traffic.next(testing::RECEIVED_MS + number, &mut line);
        let decoded = bench.decode(&line);
        let sides = (decoded.field("source.ip").to_owned(), decoded.field("destination.port").to_owned());
        match decoded.field("event.action") {
            "built" => drop(open.insert(decoded.field("event.id").to_owned(), sides)),
            "teardown" => {
                wrong += usize::from(open.remove(decoded.field("event.id")) != Some(sides));
                closed += 1;
            }
            _ => {}
        }
    }
    // A client may happen to have the port of a service.
    assert!(closed > 4_000 && wrong * 500 < closed, "{wrong} of {closed}");
}
