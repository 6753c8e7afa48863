//! AWS Network Firewall: Suricata EVE events in AWS's envelope.
//!
//! Source: AWS Network Firewall Developer Guide, "Contents of a Network Firewall log", and Suricata's EVE
//! JSON format. `event_timestamp` is text with whole seconds, `timestamp` has microseconds and an offset
//! without a colon. A netflow event describes one direction.
//!
//! Benign mix: 65 % netflow, 35 % alert (policy and reputation signatures). Not generated: TLS inspection logs.

use crate::traffic::line::Line;
use crate::traffic::stamp::Stamp;
use crate::traffic::world::{World, ephemeral_port};

/// Signature, its number, severity and category.
const SIGNATURES: [(&str, u64, u64, &str); 5] = [
    ("ET INFO Observed DNS Query to .biz TLD", 2_027_863, 3, "Potentially Bad Traffic"),
    ("ET POLICY curl User-Agent Outbound", 2_013_028, 2, "Attempted Information Leak"),
    ("ET SCAN Suspicious inbound to MSSQL port 1433", 2_010_935, 2, "Potentially Bad Traffic"),
    ("ET DROP Spamhaus DROP Listed Traffic Inbound group 1", 2_400_000, 2, "Misc Attack"),
    ("aws:alert_established action", 3, 3, ""),
];

const PORTS: [u64; 5] = [443, 80, 22, 1433, 25];

/// One benign line.
pub(in crate::traffic) fn line(world: &mut World, out: &mut Vec<u8>) {
    let number = world.random.below(3);
    out.text("{\"firewall_name\":\"egress-nfw-").number(number).text("\",\"availability_zone\":\"eu-central-1");
    out.text(["a", "b", "c"][number as usize]).text("\",\"event_timestamp\":\"").number(world.stamp.second()).text("\",\"event\":{");
    let alert = world.random.chance(35);
    let World { population, random, stamp, .. } = &mut *world;
    out.text("\"src_ip\":\"").text(population.host(random)).text("\",\"src_port\":").number(ephemeral_port(random));
    out.text(if alert { ",\"event_type\":\"alert\"" } else { ",\"event_type\":\"netflow\"" });
    out.text(",\"flow_id\":").number(1 << 50 | random.bits() >> 14).text(",\"dest_ip\":\"");
    out.text(&population.peer(random).address).text("\",\"proto\":\"TCP\",\"dest_port\":");
    out.number(random.pick_skewed(&PORTS)).text(",\"timestamp\":\"");
    instant(stamp, out);
    if alert {
        alert_fields(world, out)
    } else {
        netflow_fields(world, out)
    }
    out.text("}}");
}

fn instant(stamp: &Stamp, out: &mut Vec<u8>) {
    out.bytes(stamp.iso()).text(".").padded(stamp.millisecond(), 3).text("000+0000\"");
}

fn alert_fields(world: &mut World, out: &mut Vec<u8>) {
    let random = &mut world.random;
    let (signature, id, severity, category) = random.pick(&SIGNATURES);
    let blocked = random.chance(40);
    out.text(",\"alert\":{\"severity\":").number(severity).text(",\"signature_id\":").number(id).text(",\"rev\":").number(id % 9 + 1);
    out.text(",\"gid\":1,\"signature\":\"").text(signature).text("\",\"action\":\"").text(if blocked { "blocked" } else { "allowed" });
    out.text("\",\"category\":\"").text(category);
    out.text("\",\"metadata\":{\"created_at\":[\"2021_12_10\"],\"updated_at\":[\"2024_03_01\"],\"mitre_tactic_id\":[\"TA0001\"]}}");
    out.text(",\"app_proto\":\"tls\",\"tls\":{\"sni\":\"host").number(random.below(9000));
    out.text(".example.com\",\"version\":\"TLS 1.3\",\"ja3\":{\"hash\":\"").hex(random.below(512).wrapping_mul(0x9e37_79b9_7f4a_7c15), 16);
    out.hex(id, 16).text("\"}},\"verdict\":{\"action\":\"").text(if blocked { "drop" } else { "pass" }).text("\"}");
}

fn netflow_fields(world: &mut World, out: &mut Vec<u8>) {
    let World { random, stamp, .. } = world;
    let packets = random.skewed(4000) + 1;
    out.text(",\"netflow\":{\"pkts\":")
        .number(packets)
        .text(",\"bytes\":")
        .number(packets * random.between(60, 1400))
        .text(",\"start\":\"");
    instant(stamp, out);
    out.text(",\"end\":\"");
    instant(stamp, out);
    out.text(",\"age\":0,\"min_ttl\":55,\"max_ttl\":64,\"tx_cnt\":").number(random.below(5));
    out.text("},\"tcp\":{\"tcp_flags\":\"1b\",\"syn\":true,\"fin\":true,\"psh\":true,\"ack\":true},\"app_proto\":\"");
    out.text(random.pick(&["tls", "http", "dns", "unknown"])).text("\"");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::traffic::{Kind, Traffic};

    #[test]
    fn every_line_is_json_with_the_fields_of_its_event_type() {
        let mut traffic = Traffic::new(Kind::AwsNetworkFirewall, 5);
        let mut line = Vec::new();
        let mut alerts = 0;
        for number in 0..2_000 {
            line.clear();
            traffic.next(1_795_248_000_000 + number * 7, &mut line);
            let log: Value = serde_json::from_slice(&line).unwrap();
            assert!(log["event_timestamp"].is_string());
            let event = &log["event"];
            let kind = event["event_type"].as_str().unwrap();
            assert!(event[kind].is_object(), "{log}");
            assert!(event["timestamp"].as_str().unwrap().ends_with("+0000"));
            alerts += u32::from(kind == "alert");
        }
        assert!((640..760).contains(&alerts), "{alerts}");
    }
}
