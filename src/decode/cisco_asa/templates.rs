//! The texts of the messages that are understood, as patterns (see [`super::pattern`]).
//!
//! Source: "Cisco Secure Firewall ASA Series Syslog Messages", by id. Several rows of one id are its forms in
//! different versions; the first that fits counts. Sorted by id, which a test holds.

use std::ops::RangeInclusive;

/// Which side is the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The first.
    Given,
    /// The first if inbound, the second if outbound.
    Direction,
    /// The one with the higher port.
    Ports,
    /// As [`Order::Direction`]; the ports are identifiers of a ping, no ports.
    Ping,
    /// As [`Order::Ports`], with such identifiers.
    PingEnd,
}

use Order::{Direction, Given, Ping, PingEnd, Ports};

/// A message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) id: u32,
    pub(super) order: Order,
    /// What happened, unless the message's own word (`{verdict}`) says it.
    pub(super) action: &'static str,
    pub(super) pattern: &'static str,
}

const fn row(id: u32, order: Order, action: &'static str, pattern: &'static str) -> Row {
    Row { id, order, action, pattern }
}

/// Words of messages and the actions that they are.
pub(super) static VERDICTS: &[(&str, &str)] = &[
    ("permitted", "permit"),
    ("est-allowed", "permit"),
    ("monitored", "permit"),
    ("denied", "deny"),
    ("dropped", "deny"),
    ("Successful", "login"),
    ("Rejected", "login_failed"),
    ("started", "session_start"),
    ("ended", "session_end"),
    ("established", "session_start"),
    ("terminated", "session_end"),
    ("created", "tunnel_up"),
    ("deleted", "tunnel_down"),
];

const BUILT: &str = "Built {direction} {protocol}{? state-bypass} connection {connection_id} for {A}{? {A=}} to {B}{? {B=}}{? ({user})}";
const TEARDOWN: &str = "Teardown {protocol}{? state-bypass} connection {connection_id} for {A} to {B} duration {duration} bytes {bytes}\
                        {? {reason}}{? from {interface}}{? ({user})}";
/// With the users behind the addresses, as before 8.3.
const TEARDOWN_OLD: &str =
    "Teardown {protocol} connection {connection_id} for {A} {user} to {B} {detail} duration {duration} bytes {bytes}{? {reason}}";
const STUB_BUILT: &str = "Built {role} stub {protocol} connection for {A}{? {A=}} to {B}{? {B=}}";
const STUB_TEARDOWN: &str = "Teardown stub {protocol} connection for {A} to {B} duration {duration} forwarded bytes {bytes}{? {reason}}";
const FILTER: &str = "Dynamic Filter {verdict}{? blacklisted}{? black listed}{? whitelisted}{? white listed}{? greylisted} {protocol} traffic from \
                      {A}{? {A=}} to {B}{? {B=}}, {detail}";
const ACCESS_LIST: &str = "access-list {rule} {verdict} {protocol}{? for user {user}} {A/} -> {B/} hit-cnt {hit_count} {detail}";
const RATE: &str = "[{object}] drop {rate_id} exceeded. Current burst rate is {burst_rate} per second, max configured rate is {detail}; \
                    Current average rate is {average_rate} per second, max configured rate is {detail}; Cumulative total count is {total_count}";
const ATTACKING: &str = "{role} {a} is attacking. Current burst rate is {burst_rate} per second, max configured rate is {detail}; Current average \
                         rate is {average_rate} per second, max configured rate is {detail}; Cumulative total count is {total_count}";
const TARGETED: &str = "{role} {b} is targeted. Current burst rate is {burst_rate} per second, max configured rate is {detail}; Current average \
                        rate is {average_rate} per second, max configured rate is {detail}; Cumulative total count is {total_count}";
const AAA_REJECTED: &str = "AAA user {session_type} {verdict} : reason = {reason} : {? server = {server} :}{? local database :} user = {user}\
                            {? : user IP = {a}}";
const SESSION: &str = "Group {group} User {user} IP {a} {detail}";

/// By id.
pub(super) static TEMPLATES: &[Row] = &[
    row(106_001, Given, "deny", "{direction} {protocol} connection denied from {a} to {b} flags {tcp_flags} on interface {interface}"),
    row(106_002, Given, "deny", "{protocol} Connection denied by {direction} list {rule} src {a} dest {b}"),
    row(106_006, Given, "deny", "Deny {direction} {protocol} from {a} to {b} on interface {interface}"),
    row(106_007, Given, "deny", "Deny {direction} {protocol} from {a} to {b} due to {reason}"),
    row(106_010, Given, "deny", "Deny {direction} {protocol} src {A} dst {B}{? (type {icmp_type}, code {icmp_code})}"),
    row(106_011, Given, "deny", "Deny {direction} (No xlate) {protocol} src {A} dst {B}"),
    row(106_012, Given, "deny", "Deny {protocol} from {a} to {b}, IP options: {detail}"),
    row(106_012, Given, "deny", "Deny {protocol} from {a} to {b}, IP options {detail}"),
    row(106_013, Given, "deny", "Dropping echo request from {a} to PAT address {b}"),
    row(106_014, Given, "deny", "Deny {direction} {protocol} src {A} dst {B}{? (type {icmp_type}, code {icmp_code})}"),
    row(106_015, Given, "deny", "Deny {protocol} (no connection) from {a} to {b} flags {tcp_flags} on interface {interface}"),
    row(106_016, Given, "deny", "Deny {protocol} spoof from ({a}) to {b} on interface {interface}"),
    row(106_017, Given, "deny", "Deny {protocol} due to {reason} from {a} to {b}"),
    row(106_018, Given, "deny", "{protocol} packet type {icmp_type} denied by {direction} list {rule} src {a} dest {b}"),
    row(106_020, Given, "deny", "Deny {protocol} teardrop fragment ({detail}) from {a} to {b}"),
    row(106_021, Given, "deny", "Deny {protocol} reverse path check from {a} to {b} on interface {interface}"),
    row(106_022, Given, "deny", "Deny {protocol} connection spoof from {a} to {b} on interface {interface}"),
    row(
        106_023,
        Given,
        "deny",
        "Deny {protocol} src {A} dst {B}{? (type {icmp_type}, code {icmp_code})}{? type {icmp_type}, code {icmp_code},} by access-group {rule}\
         {? [{detail}}",
    ),
    row(106_027, Given, "deny", "Deny src {A} dst {B} by access-group {rule}"),
    row(106_100, Given, "deny", ACCESS_LIST),
    row(106_102, Given, "deny", ACCESS_LIST),
    row(106_103, Given, "deny", ACCESS_LIST),
    row(109_001, Given, "login_start", "Auth start for user {user} from {a} to {b}"),
    row(109_005, Given, "login", "Authentication succeeded for user {user} from {a} to {b} on interface {interface}"),
    row(109_006, Given, "login_failed", "Authentication failed for user {user} from {a} to {b} on interface {interface}"),
    row(109_007, Given, "permit", "Authorization permitted for user {user} from {a} to {b} on interface {interface}"),
    row(109_008, Given, "deny", "Authorization denied for user {user} from {a} to {b} on interface {interface}"),
    row(
        109_025,
        Given,
        "deny",
        "Authorization denied (acl={rule}) for user {user} from {a} to {b} on interface {interface} using {protocol}",
    ),
    row(110_002, Given, "deny", "Failed to locate egress interface for {protocol} from {A} to {b}"),
    row(110_003, Given, "deny", "Routing failed to locate next hop for {protocol} from {A} to {B}"),
    row(111_001, Given, "config_write", "Begin configuration: {a} writing to {object}"),
    row(111_002, Given, "config_read", "Begin configuration: {a} reading from {object}"),
    row(111_004, Given, "config_end", "{client} end configuration: {reason}"),
    row(111_005, Given, "config_end", "{client} end configuration: {reason}"),
    row(111_007, Given, "config_read", "Begin configuration: {a} reading from {object}"),
    row(111_008, Given, "command", "User {user} executed the {command} command."),
    row(111_008, Given, "command", "User {user} executed the command {command}"),
    row(111_009, Given, "command", "User {user} executed cmd: {command}"),
    row(111_010, Given, "command", "User {user}, running {application} from IP {a}, executed {command}"),
    row(113_003, Given, "policy", "AAA group policy for user {user} is being set to {group}"),
    row(113_004, Given, "login", "AAA user {session_type} {verdict} : server = {server} , User = {user}"),
    row(113_004, Given, "login", "AAA user {session_type} {verdict} : server = {server} : user = {user}"),
    row(113_005, Given, "login_failed", AAA_REJECTED),
    row(113_006, Given, "account_locked", "User {user} locked out on exceeding {object} successive failed authentication attempts"),
    row(113_007, Given, "account_unlocked", "User {user} unlocked by {client}"),
    row(113_008, Given, "login", "AAA transaction status {reason} : user = {user}"),
    row(113_009, Given, "policy", "AAA retrieved default group policy {group} for user {user}"),
    row(113_010, Given, "login_start", "AAA challenge received for user {user} from server {server}"),
    row(113_011, Given, "policy", "AAA retrieved user specific group policy {group} for user {user}"),
    row(113_012, Given, "login", "AAA user {session_type} {verdict} : local database : user = {user}"),
    row(113_013, Given, "login_failed", "AAA unable to complete the request Error : reason = {reason} : user = {user}"),
    row(113_014, Given, "login_failed", "AAA authentication server not accessible : server = {server} : user = {user}"),
    row(113_015, Given, "login_failed", AAA_REJECTED),
    row(
        113_016,
        Given,
        "login_failed",
        "AAA credentials rejected : reason = {reason} : server = {server} : user = {user}{? : user IP = {a}}",
    ),
    row(113_017, Given, "login_failed", "AAA credentials rejected : reason = {reason} : local database : user = {user}{? : user IP = {a}}"),
    row(
        113_019,
        Given,
        "session_end",
        "Group = {group}, Username = {user}, IP = {a}, Session disconnected. Session Type: {session_type}, Duration: {duration}, \
         Bytes xmt: {bytes_sent}, Bytes rcv: {bytes_received}, Reason: {reason}",
    ),
    row(113_021, Given, "login_failed", "Attempted console login failed. User {user} did NOT have appropriate Admin Rights"),
    row(113_029, Given, "session_failed", SESSION),
    row(113_030, Given, "session_failed", SESSION),
    row(113_033, Given, "session_failed", SESSION),
    row(113_035, Given, "session_failed", SESSION),
    row(113_038, Given, "session_failed", SESSION),
    row(113_039, Given, "session_start", SESSION),
    row(113_042, Given, "deny", "{detail} connection from {A} to {B} denied by redirect filter"),
    row(302_013, Direction, "built", BUILT),
    row(302_014, Ports, "teardown", TEARDOWN),
    row(302_014, Ports, "teardown", TEARDOWN_OLD),
    row(302_015, Direction, "built", BUILT),
    row(302_016, Ports, "teardown", TEARDOWN),
    row(302_016, Ports, "teardown", TEARDOWN_OLD),
    row(302_017, Direction, "built", "Built {direction} {protocol} connection {connection_id} from {A}{? {A=}} to {B}{? {B=}}{? ({user})}"),
    row(
        302_018,
        Given,
        "teardown",
        "Teardown {protocol} connection {connection_id} from {A}{? {A=}} to {B}{? {B=}} duration {duration} bytes {bytes}{? ({user})}",
    ),
    row(
        302_020,
        Ping,
        "built",
        "Built {direction} {protocol} connection for faddr {a} gaddr {b=} laddr {b}{? ({user})}{? type {icmp_type} code {icmp_code}}",
    ),
    row(
        302_021,
        PingEnd,
        "teardown",
        "Teardown {protocol} connection for faddr {a} gaddr {b=} laddr {b}{? ({user})}{? type {icmp_type} code {icmp_code}}",
    ),
    row(302_022, Ports, "built", STUB_BUILT),
    row(302_023, Ports, "teardown", STUB_TEARDOWN),
    row(302_024, Ports, "built", STUB_BUILT),
    row(302_025, Ports, "teardown", STUB_TEARDOWN),
    row(302_026, PingEnd, "built", STUB_BUILT),
    row(302_027, PingEnd, "teardown", STUB_TEARDOWN),
    row(302_035, Direction, "built", BUILT),
    row(302_036, Ports, "teardown", TEARDOWN),
    row(302_303, Direction, "built", BUILT),
    row(302_304, Ports, "teardown", TEARDOWN),
    row(303_002, Given, "file_transfer", "{protocol} connection from {A} to {B}, user {user} {command} file {file_name}"),
    row(304_001, Given, "url_access", "{a} Accessed{? JAVA} URL {b:}:{url}"),
    row(304_002, Given, "deny", "Access denied URL {url} SRC {a} DEST {b}{? on interface {interface}}"),
    row(305_005, Given, "deny", "No translation group found for {protocol} src {A} dst {B}"),
    row(305_006, Given, "deny", "{detail} translation creation failed for {protocol} src {A} dst {B}"),
    row(305_009, Given, "translation_built", "Built {role} translation from {A} to {N}"),
    row(305_010, Given, "translation_teardown", "Teardown {role} translation from {A} to {N} duration {duration}"),
    row(305_011, Given, "translation_built", "Built {role} {protocol} translation from {A} to {N}"),
    row(305_012, Given, "translation_teardown", "Teardown {role} {protocol} translation from {A} to {N} duration {duration}"),
    row(
        305_013,
        Given,
        "deny",
        "Asymmetric NAT rules matched for forward and reverse flows; Connection {? for }{protocol} src {A} dst {B} denied due to {reason}",
    ),
    row(313_001, Given, "deny", "Denied {protocol} type={icmp_type}, code={icmp_code} from {a} on interface {interface}"),
    row(313_004, Given, "deny", "Denied {protocol} type={icmp_type}, from{? laddr} {a} on interface {interface} to {b}: {reason}"),
    row(
        313_005,
        Given,
        "deny",
        "No matching connection for ICMP error message: {protocol} src {A} dst {B} (type {icmp_type}, code {icmp_code}) on {interface} interface. \
         Original IP payload: {detail}",
    ),
    row(313_008, Given, "deny", "Denied {protocol} type={icmp_type}, code={icmp_code} from {a} on interface {interface}"),
    row(
        313_009,
        Given,
        "deny",
        "Denied invalid {protocol} code {icmp_code}, for {A}{? {A=}} to {B}{? {B=}}, ICMP id {detail}, ICMP type {icmp_type}",
    ),
    row(
        315_011,
        Given,
        "session_end",
        "SSH session from {a} on interface {interface} for user {user} disconnected by SSH server, reason: {reason}",
    ),
    row(315_011, Given, "session_end", "SSH session from {a} on interface {interface} for user {user} terminated {reason}"),
    row(315_011, Given, "session_end", "SSH session from on interface {interface} for user {user} {detail}"),
    row(322_001, Given, "deny", "Deny MAC address {mac}, possible spoof attempt on interface {interface}"),
    row(338_001, Given, "permit", FILTER),
    row(338_002, Given, "permit", FILTER),
    row(338_003, Given, "permit", FILTER),
    row(338_004, Given, "permit", FILTER),
    row(338_005, Given, "deny", FILTER),
    row(338_006, Given, "deny", FILTER),
    row(338_007, Given, "deny", FILTER),
    row(338_008, Given, "deny", FILTER),
    row(401_004, Given, "deny", "Shunned packet: {a} ==> {b} on interface {interface}"),
    row(405_001, Given, "attack", "Received ARP {detail} collision from {a} on interface {interface}"),
    row(419_002, Given, "attack", "Duplicate {protocol} SYN from {A} to {B} with different initial sequence number"),
    row(430_001, Given, "intrusion", ""),
    row(430_002, Given, "built", ""),
    row(430_003, Given, "teardown", ""),
    row(430_004, Given, "file", ""),
    row(430_005, Given, "malware", ""),
    row(434_002, Given, "deny", "SFR requested to drop {protocol} packet from {A} to {B}"),
    row(
        434_004,
        Given,
        "permit",
        "SFR requested {client} to bypass further packet redirection and process {protocol} flow from {A} to {B} locally",
    ),
    row(502_101, Given, "account_created", "New user added to local dbase: Uname: {user} Priv: {level} Encpass: {detail}"),
    row(502_102, Given, "account_deleted", "User deleted from local dbase: Uname: {user} Priv: {level} Encpass: {detail}"),
    row(502_103, Given, "privilege_changed", "User priv level changed: Uname: {user} From: {detail} To: {level}"),
    row(507_003, Given, "deny", "{protocol} flow from {A} to {B} terminated by inspection engine, reason - {reason}"),
    row(
        602_303,
        Given,
        "tunnel_up",
        "IPSEC: An {direction} {session_type} SA (SPI= {spi}) between {a} and {b} (user= {user}) has been {verdict}{?.}",
    ),
    row(
        602_304,
        Given,
        "tunnel_down",
        "IPSEC: An {direction} {session_type} SA (SPI= {spi}) between {a} and {b} (user= {user}) has been {verdict}{?.}",
    ),
    row(605_004, Given, "login_failed", "Login denied from {a} to {B} for user {user}"),
    row(605_005, Given, "login", "Login permitted from {a} to {B} for user {user}"),
    row(606_001, Given, "session_start", "ASDM session number {connection_id} from {a} {verdict}"),
    row(606_002, Given, "session_end", "ASDM session number {connection_id} from {a} {verdict}"),
    row(606_003, Given, "session_start", "ASDM logging session number {connection_id} from {a} {verdict}"),
    row(606_004, Given, "session_end", "ASDM logging session number {connection_id} from {a} {verdict}"),
    row(609_001, Given, "host_built", "Built local-host {A}"),
    row(609_002, Given, "host_teardown", "Teardown local-host {A} duration {duration}"),
    row(611_101, Given, "login", "User authentication succeeded: {? IP address: {a}, }Uname: {user}"),
    row(611_102, Given, "login_failed", "User authentication failed: {? IP address: {a}, }Uname: {user}"),
    row(611_103, Given, "logout", "User logged out: Uname: {user}"),
    row(710_001, Given, "permit", "{protocol} access requested from {a} to {B}"),
    row(710_002, Given, "permit", "{protocol} access permitted from {a} to {B}"),
    row(710_003, Given, "deny", "{protocol} access denied by ACL from {a} to {B}"),
    row(710_004, Given, "deny", "{protocol} connection limit exceeded from {a} to {B} ({detail})"),
    row(710_005, Given, "deny", "{protocol} request discarded from {a} to {B}"),
    row(710_006, Given, "deny", "{protocol} request discarded from {a} to {B}"),
    row(716_001, Given, "session_start", SESSION),
    row(716_002, Given, "session_end", "Group {group} User {user} IP {a} {session_type} session terminated: {reason}"),
    row(716_003, Given, "url_access", "Group {group} User {user} IP {a} WebVPN access GRANTED: {url}"),
    row(716_003, Given, "url_access", "Group {group} User {user} IP {a} WebVPN access {url}"),
    row(716_004, Given, "deny", "Group {group} User {user} IP {a} WebVPN access DENIED to specified location: {url}"),
    row(716_038, Given, "login", "Group {group} User {user} IP {a} Authentication: {detail}, Session Type: {session_type}{?.}"),
    row(716_039, Given, "login_failed", "Group {group} User {user} IP {a} Authentication: {detail}, Session Type: {session_type}{?.}"),
    row(716_039, Given, "login_failed", "Authentication: {detail}, group = {group} user = {user} , Session Type: {session_type}"),
    row(716_058, Given, "session_lost", SESSION),
    row(716_059, Given, "session_resumed", SESSION),
    row(721_016, Given, "session_start", "({role}) WebVPN session for client user {user},{? IPv4}{? IP} {a} has been {detail}"),
    row(721_018, Given, "session_end", "({role}) WebVPN session for client user {user},{? IPv4}{? IP} {a} has been {detail}"),
    row(722_022, Given, "session_start", "Group {group} User {user} IP {a} {protocol} SVC connection {verdict} {detail}"),
    row(722_023, Given, "session_end", "Group {group} User {user} IP {a} {protocol} SVC connection {verdict} {detail}"),
    row(722_033, Given, "session_start", "Group {group} User {user} IP {a} First {protocol} SVC connection {verdict} for SVC session"),
    row(722_037, Given, "session_end", "Group {group} User {user} IP {a} SVC closing connection: {reason}"),
    row(
        722_051,
        Given,
        "address_assigned",
        "Group {group} User {user} IP {a} IPv4 Address {assigned_ip} IPv6 Address {assigned_ipv6} assigned to session",
    ),
    row(722_051, Given, "address_assigned", "Group {group} User {user} IP {a} Address {assigned_ip} assigned to session"),
    row(722_055, Given, "session_info", "Group {group} User {user} IP {a} Client Type: {client}"),
    row(725_001, Given, "tls_start", "Starting SSL handshake with {client} {A}{? to {b}} for {detail} session"),
    row(725_002, Given, "tls_established", "Device completed SSL handshake with {client} {A}{? to {b}}{? for {detail} session}"),
    row(725_003, Given, "tls_resumed", "SSL client {A}{? to {b}} request to resume previous session"),
    row(725_006, Given, "tls_failed", "Device failed SSL handshake with {client} {A}{? to {b}}"),
    row(725_007, Given, "tls_end", "SSL session with {client} {A}{? to {b}} terminated"),
    row(733_100, Given, "rate_exceeded", RATE),
    row(733_101, Given, "attack", ATTACKING),
    row(733_101, Given, "attack", TARGETED),
    row(733_102, Given, "shun", "Threat-detection adds host {a} to shun list"),
    row(733_103, Given, "unshun", "Threat-detection removes host {a} from shun list"),
    row(
        734_001,
        Given,
        "policy",
        "DAP: User {user}, Addr {a}, Connection {session_type}: The following DAP records were selected for this connection: {detail}",
    ),
    row(746_012, Given, "login", "user-identity: Add IP-User mapping {a} - {user} {reason}"),
    row(746_013, Given, "logout", "user-identity: Delete IP-User mapping {a} - {user} {reason}"),
    row(750_002, Given, "tunnel_start", "Local:{b} Remote:{a} Username:{user} Received a {detail}"),
    row(750_003, Given, "tunnel_failed", "Local:{b} Remote:{a} Username:{user} Negotiation aborted due to ERROR: {reason}"),
    row(
        751_025,
        Given,
        "address_assigned",
        "Local:{b} Remote:{a} Username:{user} IKEv2 Group:{group} IPv4 Address={assigned_ip} IPv6 address={assigned_ipv6} assigned to session",
    ),
    row(805_001, Ports, "offloaded", "Offloaded {protocol} Flow for connection {connection_id} from {A}{? {A=}} to {B}{? {B=}}"),
    row(
        805_002,
        Ports,
        "offloaded",
        "{protocol} Flow is no longer offloaded for connection {connection_id} from {A}{? {A=}} to {B}{? {B=}}",
    ),
];

/// Groups of messages that begin alike; asked when no row above fits.
pub(super) static RANGES: &[(RangeInclusive<u32>, Row)] = &[
    (400_000..=400_051, row(0, Given, "attack", "IPS:{rule} {detail} from {a} to {b} on interface {interface}")),
    (713_000..=713_999, row(0, Given, "", "{?Group = {group}, }{?Username = {user}, }{?IP = {a}, }{detail}")),
    (716_000..=716_999, row(0, Given, "", "{?Group {group} User {user} IP {a} }{detail}")),
    (
        722_000..=722_999,
        row(
            0,
            Given,
            "",
            "{?TunnelGroup {tunnel_group} GroupPolicy {group} User {user} IP {a} }{?Group {group} User {user} IP {a} }{detail}",
        ),
    ),
];

/// Keys of FTD's security events and the natives that they fill.
pub(super) static FTD_KEYS: &[(&str, &str)] = &[
    ("SrcIP", "src_ip"),
    ("DstIP", "dst_ip"),
    ("SrcPort", "src_port"),
    ("DstPort", "dst_port"),
    ("NAT_InitiatorIP", "src_nat_ip"),
    ("NAT_InitiatorPort", "src_nat_port"),
    ("NAT_ResponderIP", "dst_nat_ip"),
    ("NAT_ResponderPort", "dst_nat_port"),
    ("Protocol", "protocol"),
    ("ICMPType", "icmp_type"),
    ("ICMPCode", "icmp_code"),
    ("IngressInterface", "src_interface"),
    ("EgressInterface", "dst_interface"),
    ("IngressZone", "src_zone"),
    ("EgressZone", "dst_zone"),
    ("User", "user"),
    ("AccessControlRuleAction", "rule_action"),
    ("AccessControlRuleName", "rule"),
    ("AccessControlRuleReason", "reason"),
    ("ACPolicy", "policy"),
    ("ConnectionID", "connection_id"),
    ("ConnectionDuration", "duration_s"),
    ("InitiatorBytes", "bytes_sent"),
    ("ResponderBytes", "bytes_received"),
    ("InitiatorPackets", "packets_sent"),
    ("ResponderPackets", "packets_received"),
    ("ApplicationProtocol", "application_protocol"),
    ("Client", "client"),
    ("WebApplication", "application"),
    ("URL", "url"),
    ("URI", "url"),
    ("URLCategory", "url_category"),
    ("URLReputation", "url_reputation"),
    ("HTTPResponse", "http_status"),
    ("HTTPReferer", "http_referrer"),
    ("ReferencedHost", "http_host"),
    ("UserAgent", "user_agent"),
    ("DNSQuery", "dns_query"),
    ("DNSRecordType", "dns_type"),
    ("DNSResponseType", "dns_response"),
    ("FileName", "file_name"),
    ("FileType", "file_type"),
    ("FileSize", "file_size"),
    ("FileSHA256", "file_sha256"),
    ("FileAction", "file_action"),
    ("FilePolicy", "policy"),
    ("SHA_Disposition", "file_disposition"),
    ("ThreatName", "threat_name"),
    ("Message", "signature"),
    ("GID", "generator_id"),
    ("SID", "signature_id"),
    ("Classification", "classification"),
    ("Priority", "priority"),
    ("EventPriority", "event_priority"),
    ("InlineResult", "inline_result"),
    ("IntrusionPolicy", "policy"),
    ("DeviceUUID", "device_uuid"),
    ("FirstPacketSecond", "first_packet_time"),
];

/// What FTD writes where there is no value.
pub(super) static FTD_ABSENT: &[&[u8]] = &[b"No Authentication Required", b"Not Found", b"Unknown", b"N/A", b""];
