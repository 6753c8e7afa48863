//! Amazon VPC Flow Logs: version 2, the default format, as text without a header line.
//!
//! Source: Amazon VPC User Guide, "Flow log records": `version account-id interface-id srcaddr dstaddr
//! srcport dstport protocol packets bytes start end action log-status`; times are whole seconds. In a NODATA
//! record the fields of the traffic are `-`.
//!
//! Benign mix: 84 % ACCEPT, 15 % REJECT, 1 % NODATA. Not generated: custom formats, SKIPDATA.

use crate::traffic::line::Line;
use crate::traffic::world::{World, ephemeral_port};

/// Network interfaces of the account.
const INTERFACES: u64 = 600;

/// Port and protocol number. The busiest first.
const SERVICES: [(u64, u64); 5] = [(443, 6), (80, 6), (53, 17), (3306, 6), (22, 6)];

/// One benign line.
pub(in crate::traffic) fn line(world: &mut World, out: &mut Vec<u8>) {
    let World { population, random, stamp, .. } = world;
    let interface = random.below(INTERFACES);
    out.text("2 ").number(111_122_223_333 + interface % 5).text(" eni-0").hex(interface.wrapping_mul(0x9e37_79b9_7f4a_7c15), 16);
    let start = stamp.second().saturating_sub(random.between(10, 60));
    let dice = random.below(100);
    if dice == 0 {
        out.text(" - - - - - - - ").number(start).text(" ").number(stamp.second()).text(" - NODATA");
        return;
    }
    let (inside, outside) = (population.host(random), population.peer(random).address.as_ref());
    let (port, protocol) = random.pick_skewed(&SERVICES);
    let client_port = ephemeral_port(random);
    // Both directions of a flow are records of their own.
    let (source, destination, ports) =
        if random.chance(50) { (inside, outside, (client_port, port)) } else { (outside, inside, (port, client_port)) };
    let packets = random.skewed(900) + 1;
    out.text(" ").text(source).text(" ").text(destination).text(" ").number(ports.0).text(" ").number(ports.1).text(" ").number(protocol);
    out.text(" ").number(packets).text(" ").number(packets * random.between(40, 1400)).text(" ").number(start).text(" ");
    out.number(stamp.second()).text(if dice < 85 { " ACCEPT OK" } else { " REJECT OK" });
}

#[cfg(test)]
mod tests {
    use crate::traffic::{Kind, Traffic};

    #[test]
    fn every_line_has_the_fourteen_fields_of_version_2() {
        let mut traffic = Traffic::new(Kind::AwsVpcFlow, 5);
        let mut line = Vec::new();
        let mut empty = 0;
        for number in 0..5_000 {
            line.clear();
            traffic.next(1_795_248_000_000 + number * 7, &mut line);
            let fields: Vec<&str> = std::str::from_utf8(&line).unwrap().split(' ').collect();
            assert_eq!(fields.len(), 14, "{fields:?}");
            assert_eq!(fields[2].len(), "eni-".len() + 17);
            assert!(fields[10].parse::<u64>().unwrap() < fields[11].parse::<u64>().unwrap());
            match fields[13] {
                "NODATA" => empty += 1,
                status => assert!(status == "OK" && fields[3].parse::<std::net::Ipv4Addr>().is_ok(), "{fields:?}"),
            }
        }
        assert!((20..90).contains(&empty), "{empty}");
    }
}
