//! AWS WAF: one JSON object for each web request.
//!
//! Source: AWS WAF Developer Guide, "Log fields for web ACL traffic". Headers are a list of name and value,
//! in the order of the request. The top-level `action` is what ended the evaluation; a rule that only counts
//! stands in its group's `nonTerminatingMatchingRules` with the action that it would have taken in
//! `overriddenAction`, and once more in `excludedRules`. Groups behind the one that blocked are not listed.
//!
//! Everything that goes into a request must need no escaping in JSON (no quote, backslash or control
//! character): rendering does not escape. A test parses what comes out.
//!
//! Benign mix: 66 % ALLOW, 30 % BLOCK (scanners asking for `/.env` and the like), 2 % CHALLENGE, 2 % CAPTCHA;
//! 3 % of the requests also match a rule that counts. Not generated: `oversizeFields`, tokens of solved challenges.

use crate::traffic::line::Line;
use crate::traffic::stamp::Stamp;
use crate::traffic::world::World;

/// Web ACLs of the site, each before a load balancer of its own.
const ACLS: u64 = 4;

/// A managed rule group and its label.
struct Group {
    name: &'static str,
    label: &'static str,
}

/// The groups of every web ACL in the order of their evaluation.
const GROUPS: [Group; 5] = [
    Group { name: "AWSManagedRulesAmazonIpReputationList", label: "amazon-ip-list" },
    Group { name: "AWSManagedRulesCommonRuleSet", label: "core-rule-set" },
    Group { name: "AWSManagedRulesKnownBadInputsRuleSet", label: "known-bad-inputs" },
    Group { name: "AWSManagedRulesSQLiRuleSet", label: "sql-database" },
    Group { name: "AWSManagedRulesBotControlRuleSet", label: "bot-control" },
];

/// A rule of a managed group.
#[derive(Clone, Copy, Debug)]
pub(in crate::traffic) struct Rule {
    /// Number of its group, below 5.
    group: usize,
    /// Name within the group.
    id: &'static str,
    /// Last part of the label that it adds.
    label: &'static str,
    /// `ruleMatchDetails`, as JSON.
    details: &'static str,
}

/// SQL injection in the query; the SQL injection rules say what they matched.
pub(in crate::traffic) const SQLI_QUERY: Rule = Rule {
    group: 3,
    id: "SQLi_QUERYARGUMENTS",
    label: "SQLi_QueryArguments",
    details: "[{\"conditionType\":\"SQL_INJECTION\",\"sensitivityLevel\":\"HIGH\",\"location\":\"ALL_QUERY_ARGS\",\"matchedData\":[\"1\",\"OR\",\"1\"],\"matchedFieldName\":\"id\"}]",
};

/// SQL injection in a cookie.
pub(in crate::traffic) const SQLI_COOKIE: Rule = Rule {
    group: 3,
    id: "SQLi_COOKIE",
    label: "SQLi_Cookie",
    details: "[{\"conditionType\":\"SQL_INJECTION\",\"sensitivityLevel\":\"HIGH\",\"location\":\"COOKIE\",\"matchedData\":[\"OR\",\"1\",\"=\",\"1\"]}]",
};

/// Path traversal in the query.
pub(in crate::traffic) const LFI_QUERY: Rule =
    Rule { group: 1, id: "GenericLFI_QUERYARGUMENTS", label: "GenericLFI_QueryArguments", details: "null" };

/// Path traversal in the path.
pub(in crate::traffic) const LFI_PATH: Rule = Rule { group: 1, id: "GenericLFI_URIPATH", label: "GenericLFI_URIPath", details: "null" };

/// Log4Shell in a header.
pub(in crate::traffic) const LOG4J_HEADER: Rule = Rule { group: 2, id: "Log4JRCE_HEADER", label: "Log4JRCE_Header", details: "null" };

/// What benign-looking scanners are blocked for.
const BLOCKING: [Rule; 4] = [
    Rule { group: 1, id: "NoUserAgent_HEADER", label: "NoUserAgent_Header", details: "null" },
    Rule { group: 0, id: "AWSManagedIPReputationList", label: "AWSManagedIPReputationList", details: "null" },
    Rule { group: 4, id: "CategoryHttpLibrary", label: "bot:category:http_library", details: "null" },
    Rule { group: 1, id: "UserAgent_BadBots_HEADER", label: "BadBots_Header", details: "null" },
];

/// What harmless requests are counted for.
const COUNTING: Rule = Rule { group: 1, id: "SizeRestrictions_BODY", label: "SizeRestrictions_Body", details: "null" };

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::traffic) enum Verdict {
    /// No rule ended the evaluation.
    Allow,
    /// Blocked by a rule.
    Block(Rule),
    /// A silent browser challenge.
    Challenge,
    /// A puzzle for a person.
    Captcha,
}

/// A web request and what became of it.
pub(in crate::traffic) struct Request<'a> {
    /// Number of the web ACL, below 4.
    pub(in crate::traffic) acl: u64,
    /// Client address.
    pub(in crate::traffic) client: &'a str,
    /// ISO 3166 code of the client's country.
    pub(in crate::traffic) country: &'a str,
    /// Method.
    pub(in crate::traffic) method: &'a str,
    /// `Host` header.
    pub(in crate::traffic) host: &'a str,
    /// Path, as sent.
    pub(in crate::traffic) uri: &'a [u8],
    /// Query, as sent.
    pub(in crate::traffic) args: &'a [u8],
    /// `User-Agent` header.
    pub(in crate::traffic) user_agent: &'a str,
    /// Further headers, as JSON objects, each behind a comma.
    pub(in crate::traffic) headers: &'a [u8],
    /// What became of it.
    pub(in crate::traffic) verdict: Verdict,
    /// A rule that matched and only counts.
    pub(in crate::traffic) counted: Option<Rule>,
    /// Randomness for ids and fingerprints.
    pub(in crate::traffic) salt: u64,
}

const BROWSERS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/127.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:129.0) Gecko/20100101 Firefox/129.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/127.0.0.0 Mobile Safari/537.36",
];

const SCANNERS: [&str; 5] =
    ["curl/8.4.0", "python-requests/2.31.0", "Go-http-client/2.0", "Mozilla/5.0 zgrab/0.x", "Mozilla/5.0 (compatible; CensysInspect/1.1)"];

const HOSTS: [&str; 5] = ["www.example.com", "api.example.com", "shop.example.com", "app.example.net", "login.example.org"];

/// Paths of the site; `#` stands for a number.
const PATHS: [&str; 10] = [
    "/",
    "/index.html",
    "/api/v1/login",
    "/api/v1/users/#",
    "/api/v2/orders/#",
    "/static/js/app.#.js",
    "/images/p/#.jpg",
    "/search",
    "/cart/checkout",
    "/graphql",
];

/// Paths that scanners ask for.
const PROBED_PATHS: [&str; 10] = [
    "/wp-login.php",
    "/wp-admin/setup-config.php",
    "/.env",
    "/.git/config",
    "/xmlrpc.php",
    "/admin/index.php",
    "/phpmyadmin/",
    "/cgi-bin/luci",
    "/actuator/health",
    "/owa/auth/logon.aspx",
];

const ARGUMENTS: [&str; 6] = ["id=", "q=shoes", "page=2", "utm_source=newsletter", "lang=en", "token="];

const LANGUAGES: [&str; 3] = ["en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "zh-CN,zh;q=0.9"];

/// Room for the parts of a request that differ each time.
#[derive(Clone, Debug, Default)]
pub(in crate::traffic) struct AwsWaf {
    uri: Vec<u8>,
    args: Vec<u8>,
    headers: Vec<u8>,
}

impl AwsWaf {
    /// Bytes that fit without growing.
    #[cfg(test)]
    pub(in crate::traffic) fn capacity(&self) -> usize {
        self.uri.capacity() + self.args.capacity() + self.headers.capacity()
    }

    /// One benign line.
    pub(in crate::traffic) fn line(&mut self, world: &mut World, out: &mut Vec<u8>) {
        let World { population, random, stamp, .. } = world;
        let peer = population.peer(random);
        let dice = random.below(100);
        let scanner = (66..96).contains(&dice);
        let verdict = match dice {
            0..66 => Verdict::Allow,
            66..96 => Verdict::Block(random.pick(&BLOCKING)),
            96..98 => Verdict::Challenge,
            _ => Verdict::Captcha,
        };
        let path = if scanner { random.pick(&PROBED_PATHS) } else { random.pick_skewed(&PATHS) };
        let host = random.pick_skewed(&HOSTS);
        let salt = random.bits();
        self.fill(path, host, &peer.address, random.bits(), stamp.second());
        let request = Request {
            acl: random.below(ACLS),
            client: &peer.address,
            country: peer.country.code,
            method: random.weighted(&[(62, "GET"), (25, "POST"), (8, "PUT"), (5, "HEAD")]),
            host,
            uri: &self.uri,
            args: &self.args,
            user_agent: if scanner { random.pick(&SCANNERS) } else { random.pick_skewed(&BROWSERS) },
            headers: &self.headers,
            verdict,
            counted: (!scanner && random.chance(3)).then_some(COUNTING),
            salt,
        };
        render(stamp, &request, out);
    }

    /// Path, query and further headers; the bits of `dice` decide which there are.
    fn fill(&mut self, path: &str, host: &str, client: &str, dice: u64, second: u64) {
        let Self { uri, args, headers } = self;
        uri.clear();
        match path.split_once('#') {
            Some((before, after)) => uri.text(before).number(dice >> 44).text(after),
            None => uri.text(path),
        };
        args.clear();
        for (number, argument) in ARGUMENTS.iter().enumerate().filter(|(number, _)| (dice >> (number * 2)) & 3 == 0) {
            args.text(if args.is_empty() { "" } else { "&" }).text(argument);
            if argument.ends_with('=') {
                args.hex(dice >> number, 12);
            }
        }
        headers.clear();
        header("Accept-Language", LANGUAGES[(dice >> 20) as usize % LANGUAGES.len()], headers);
        header("X-Forwarded-For", client, headers);
        headers.text(",{\"name\":\"X-Amzn-Trace-Id\",\"value\":\"Root=1-").hex(second, 8).text("-").hex(dice, 16).hex(dice >> 7, 8);
        headers.text("\"}");
        header("Connection", "keep-alive", headers);
        if dice >> 24 & 15 < 10 {
            headers.text(",{\"name\":\"Cookie\",\"value\":\"session=").hex(dice, 16).hex(dice >> 3, 16);
            headers.text("; _ga=GA1.1.").number(dice >> 34).text(".").number(second).text("; consent=true\"}");
        }
        if dice >> 28 & 1 == 0 {
            headers.text(",{\"name\":\"Referer\",\"value\":\"https://").text(host).text("/search?q=shoes\"}");
        }
        if dice >> 29 & 7 < 4 {
            headers.text(",{\"name\":\"sec-ch-ua\",\"value\":\"\\\"Chromium\\\";v=\\\"128\\\", \\\"Not;A=Brand\\\";v=\\\"24\\\"\"}");
            header("sec-ch-ua-mobile", "?0", headers);
            header("sec-fetch-site", "same-origin", headers);
            header("sec-fetch-mode", "cors", headers);
            header("content-type", "application/json", headers);
        }
    }
}

/// Appends a header as a JSON object behind a comma.
pub(in crate::traffic) fn header(name: &str, value: &str, out: &mut Vec<u8>) {
    out.text(",{\"name\":\"").text(name).text("\",\"value\":\"").text(value).text("\"}");
}

/// Renders a request; see the module's first lines about escaping.
pub(in crate::traffic) fn render(stamp: &Stamp, request: &Request<'_>, out: &mut Vec<u8>) {
    let account = 111_122_223_333 + request.acl;
    out.text("{\"timestamp\":").number(stamp.ms()).text(",\"formatVersion\":1,\"webaclId\":\"arn:aws:wafv2:eu-central-1:");
    out.number(account).text(":regional/webacl/prod-edge-").number(request.acl);
    out.text("/c2f4a1d0-9b1e-4c57-8f3a-00000000000").number(request.acl).text("\",\"terminatingRuleId\":\"");
    match &request.verdict {
        Verdict::Allow => out.text("Default_Action\",\"terminatingRuleType\":\"REGULAR\",\"action\":\"ALLOW"),
        Verdict::Challenge => out.text("challenge-checkout\",\"terminatingRuleType\":\"REGULAR\",\"action\":\"CHALLENGE"),
        Verdict::Captcha => out.text("captcha-login\",\"terminatingRuleType\":\"REGULAR\",\"action\":\"CAPTCHA"),
        Verdict::Block(rule) => {
            out.text("AWS-").text(GROUPS[rule.group].name);
            out.text("\",\"terminatingRuleType\":\"MANAGED_RULE_GROUP\",\"action\":\"BLOCK")
        }
    };
    out.text("\",\"terminatingRuleMatchDetails\":");
    out.text(match &request.verdict {
        Verdict::Block(rule) if rule.details != "null" => rule.details,
        _ => "[]",
    });
    out.text(",\"httpSourceName\":\"ALB\",\"httpSourceId\":\"").number(account).text("-app/prod-alb-").number(request.acl);
    out.text("/abcdef01234567").hex(0x80 + request.acl, 2).text("\",\"ruleGroupList\":[");
    groups(request, out);
    out.text("],\"rateBasedRuleList\":[");
    if request.salt & 7 < 2 {
        out.text("{\"rateBasedRuleId\":\"arn:aws:wafv2:eu-central-1:").number(account);
        out.text(
            ":regional/webacl/prod-edge_RATE\",\"rateBasedRuleName\":\"rate-per-client\",\"limitKey\":\"IP\",\"maxRateAllowed\":2000,",
        );
        out.text("\"evaluationWindowSec\":\"300\",\"limitValue\":\"").text(request.client).text("\"}");
    }
    out.text("],\"nonTerminatingMatchingRules\":[],\"requestHeadersInserted\":null,\"responseCodeSent\":");
    out.text(match request.verdict {
        Verdict::Block(_) => "403",
        Verdict::Challenge => "202",
        Verdict::Captcha => "405",
        Verdict::Allow => "null",
    });
    http_request(stamp, request, out);
    labels_and_fingerprints(request, out);
}

fn groups(request: &Request<'_>, out: &mut Vec<u8>) {
    let blocking = match &request.verdict {
        Verdict::Block(rule) => Some(rule),
        _ => None,
    };
    for (number, group) in GROUPS.iter().enumerate() {
        let blocked = blocking.filter(|rule| rule.group == number);
        let counted = request.counted.filter(|rule| rule.group == number);
        out.text(if number == 0 { "" } else { "," }).text("{\"ruleGroupId\":\"AWS#").text(group.name).text("\",\"terminatingRule\":");
        match blocked {
            Some(rule) => {
                out.text("{\"ruleId\":\"").text(rule.id).text("\",\"action\":\"BLOCK\",\"ruleMatchDetails\":").text(rule.details).text("}")
            }
            None => out.text("null"),
        };
        out.text(",\"nonTerminatingMatchingRules\":[");
        match counted {
            Some(rule) => {
                out.text("{\"ruleId\":\"")
                    .text(rule.id)
                    .text("\",\"action\":\"COUNT\",\"overriddenAction\":\"BLOCK\",\"ruleMatchDetails\":");
                out.text(if rule.details == "null" { "[]" } else { rule.details });
                out.text("}],\"excludedRules\":[{\"exclusionType\":\"EXCLUDED_AS_COUNT\",\"ruleId\":\"").text(rule.id).text("\"}]")
            }
            None => out.text("],\"excludedRules\":null"),
        };
        out.text(",\"customerConfig\":null}");
        if blocked.is_some() {
            break;
        }
    }
}

fn http_request(stamp: &Stamp, request: &Request<'_>, out: &mut Vec<u8>) {
    out.text(",\"httpRequest\":{\"clientIp\":\"").text(request.client).text("\",\"country\":\"").text(request.country);
    out.text("\",\"headers\":[{\"name\":\"Host\",\"value\":\"").text(request.host).text("\"}");
    header("User-Agent", request.user_agent, out);
    header("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", out);
    header("Accept-Encoding", "gzip, deflate, br", out);
    out.bytes(request.headers).text("],\"uri\":\"").bytes(request.uri).text("\",\"args\":\"").bytes(request.args);
    out.text("\",\"httpVersion\":\"").text(if request.salt & 1 == 0 { "HTTP/2.0" } else { "HTTP/1.1" });
    out.text("\",\"httpMethod\":\"").text(request.method).text("\",\"requestId\":\"1-").hex(stamp.second(), 8).text("-");
    out.hex(request.salt, 16).hex(request.salt.rotate_left(17), 8).text("\",\"fragment\":\"\",\"scheme\":\"https\",\"host\":\"");
    out.text(request.host).text("\"}");
}

fn labels_and_fingerprints(request: &Request<'_>, out: &mut Vec<u8>) {
    out.text(",\"labels\":[{\"name\":\"awswaf:clientip:geo:country:").text(request.country).text("\"}");
    let blocked = match &request.verdict {
        Verdict::Block(rule) => Some(*rule),
        _ => None,
    };
    for rule in [blocked, request.counted].into_iter().flatten() {
        out.text(",{\"name\":\"awswaf:managed:aws:").text(GROUPS[rule.group].label).text(":").text(rule.label).text("\"}");
    }
    let browser = request.salt >> 48 & 63;
    out.text("],\"ja3Fingerprint\":\"")
        .hex(browser.wrapping_mul(0x9e37_79b9_7f4a_7c15), 16)
        .hex(browser.wrapping_mul(0xd6e8_feb8_6659_fd93), 16);
    out.text("\",\"ja4Fingerprint\":\"t13d1516h2_8daaf6152771_").hex(browser.wrapping_mul(0x9e37_79b9_7f4a_7c15), 12);
    let body = if request.method == "GET" || request.method == "HEAD" { 0 } else { request.salt >> 40 & 4095 };
    out.text("\",\"requestBodySize\":").number(body).text(",\"requestBodySizeInspectedByWAF\":").number(body).text("}");
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::Value;

    use crate::traffic::{Kind, Traffic};

    #[test]
    fn every_line_is_json_whose_verdict_and_groups_agree() {
        let mut traffic = Traffic::new(Kind::AwsWaf, 5);
        let mut actions = HashMap::<String, u32>::new();
        let mut line = Vec::new();
        for number in 0..2_000 {
            line.clear();
            traffic.next(1_795_248_000_000 + number * 7, &mut line);
            let log: Value = serde_json::from_slice(&line).unwrap();
            let action = log["action"].as_str().unwrap();
            let groups = log["ruleGroupList"].as_array().unwrap();
            assert_eq!(action == "BLOCK", groups.last().unwrap()["terminatingRule"].is_object(), "{log}");
            assert_eq!(action == "BLOCK", log["terminatingRuleType"] == "MANAGED_RULE_GROUP");
            assert_eq!(log["timestamp"], 1_795_248_000_000 + number * 7);
            assert!(log["httpRequest"]["headers"].as_array().unwrap().len() >= 8);
            *actions.entry(action.to_owned()).or_default() += 1;
        }
        assert_eq!(actions.len(), 4, "{actions:?}");
        assert!((540..660).contains(&actions["BLOCK"]), "{actions:?}");
    }
}
