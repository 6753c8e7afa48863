//! What the products of one site share: addresses, users, countries, the clock and the dice.
//!
//! The population depends on the seed alone, so the same hosts and users turn up in the logs of every
//! product; the order of events depends on the kind as well.
//!
//! Addresses: hosts inside are in 10.0.0.0/8, the site's own public side is 203.0.113.0/24 (TEST-NET-3,
//! RFC 5737), peers outside are spread over the unicast space. 198.51.100.0/24 (TEST-NET-2) is left to the
//! attacker of the scripted intrusion.

use crate::traffic::line::Line;
use crate::traffic::random::Random;
use crate::traffic::stamp::Stamp;

/// Hosts inside the site.
const INSIDE_HOSTS: usize = 2048;

/// Peers outside: with their texts they stay within the L2 cache.
const OUTSIDE_PEERS: usize = 8192;

/// People with an account.
const USERS: usize = 1024;

/// First octets of the peers outside: allocated unicast blocks of all five registries.
const OUTSIDE_OCTETS: [u64; 20] = [1, 5, 14, 23, 34, 45, 52, 64, 77, 89, 93, 103, 121, 141, 154, 176, 185, 193, 204, 212];

const SURNAMES: [&str; 12] = ["smith", "mueller", "garcia", "chen", "novak", "kim", "ivanov", "rossi", "silva", "jones", "tanaka", "singh"];

/// A country as AWS WAF writes it (ISO 3166 code) and as the firewalls write it (English name).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::traffic) struct Country {
    /// ISO 3166-1 alpha-2 code.
    pub(in crate::traffic) code: &'static str,
    /// English short name.
    pub(in crate::traffic) name: &'static str,
}

const fn country(code: &'static str, name: &'static str) -> Country {
    Country { code, name }
}

/// The most frequent first.
const COUNTRIES: [Country; 24] = [
    country("US", "United States"),
    country("DE", "Germany"),
    country("CN", "China"),
    country("RU", "Russian Federation"),
    country("GB", "United Kingdom"),
    country("FR", "France"),
    country("NL", "Netherlands"),
    country("IN", "India"),
    country("BR", "Brazil"),
    country("JP", "Japan"),
    country("SG", "Singapore"),
    country("VN", "Vietnam"),
    country("UA", "Ukraine"),
    country("IR", "Iran"),
    country("PL", "Poland"),
    country("CA", "Canada"),
    country("AU", "Australia"),
    country("IT", "Italy"),
    country("ES", "Spain"),
    country("SE", "Sweden"),
    country("HK", "Hong Kong"),
    country("MX", "Mexico"),
    country("ZA", "South Africa"),
    country("CH", "Switzerland"),
];

/// A peer outside; its country never changes.
#[derive(Clone, Debug)]
pub(in crate::traffic) struct Peer {
    /// Dotted IPv4 address.
    pub(in crate::traffic) address: Box<str>,
    /// Where it is.
    pub(in crate::traffic) country: Country,
}

/// Who takes part; see the module's first lines.
#[derive(Clone, Debug)]
pub(in crate::traffic) struct Population {
    /// Dotted addresses of hosts inside, the busiest first.
    pub(in crate::traffic) inside: Vec<Box<str>>,
    /// Peers outside, the busiest first.
    pub(in crate::traffic) outside: Vec<Peer>,
    /// Account names without a domain.
    pub(in crate::traffic) users: Vec<Box<str>>,
}

impl Population {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 0);
        let mut text = Vec::new();
        let inside = (0..INSIDE_HOSTS).map(|_| {
            text.clear();
            text.text("10.").number(random.below(61)).text(".").number(random.below(256)).text(".").number(random.between(1, 254));
            boxed(&text)
        });
        let inside = inside.collect();
        let mut text = Vec::new();
        let outside = (0..OUTSIDE_PEERS).map(|_| {
            text.clear();
            text.number(random.pick(&OUTSIDE_OCTETS)).text(".").number(random.below(256));
            text.text(".").number(random.below(256)).text(".").number(random.between(1, 254));
            Peer { address: boxed(&text), country: random.pick_skewed(&COUNTRIES) }
        });
        let outside = outside.collect();
        let users = (0..USERS).map(|number| {
            let initial = char::from(b'a' + random.below(26) as u8);
            format!("{initial}{}{number}", random.pick(&SURNAMES)).into_boxed_str()
        });
        Self { inside, outside, users: users.collect() }
    }

    /// The address of a host inside, busy ones more often.
    pub(in crate::traffic) fn host(&self, random: &mut Random) -> &str {
        &self.inside[random.skewed(self.inside.len() as u64) as usize]
    }

    /// A peer outside, busy ones more often.
    pub(in crate::traffic) fn peer(&self, random: &mut Random) -> &Peer {
        &self.outside[random.skewed(self.outside.len() as u64) as usize]
    }

    /// A peer outside, each as often as any other.
    pub(in crate::traffic) fn any_peer(&self, random: &mut Random) -> &Peer {
        &self.outside[random.below(self.outside.len() as u64) as usize]
    }

    /// An account, each as often as any other.
    pub(in crate::traffic) fn user(&self, random: &mut Random) -> &str {
        &self.users[random.below(self.users.len() as u64) as usize]
    }
}

fn boxed(text: &[u8]) -> Box<str> {
    String::from_utf8_lossy(text).into_owned().into_boxed_str()
}

/// Population, clock, dice and the number of the line that is being rendered.
#[derive(Clone, Debug)]
pub(in crate::traffic) struct World {
    /// Hosts, peers, users.
    pub(in crate::traffic) population: Population,
    /// The dice.
    pub(in crate::traffic) random: Random,
    /// The instant of the line.
    pub(in crate::traffic) stamp: Stamp,
    /// 1 for the first line.
    pub(in crate::traffic) sequence: u64,
}

impl World {
    /// The world of a seed; `stream` tells the kinds apart.
    pub(in crate::traffic) fn new(seed: u64, stream: u64) -> Self {
        Self { population: Population::new(seed), random: Random::new(seed, stream), stamp: Stamp::new(0), sequence: 0 }
    }

    /// Begins the next line, at `now_ms`.
    pub(in crate::traffic) fn advance(&mut self, now_ms: i64) {
        self.stamp.set(now_ms);
        self.sequence += 1;
    }
}

/// An ephemeral port.
pub(in crate::traffic) fn ephemeral_port(random: &mut Random) -> u64 {
    random.between(1024, 65_535)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use crate::traffic::world::World;

    #[test]
    fn addresses_are_valid_and_keep_clear_of_the_attacker() {
        let world = World::new(1, 1);
        for host in &world.population.inside {
            assert!(host.parse::<Ipv4Addr>().unwrap().is_private(), "{host}");
        }
        for peer in &world.population.outside {
            let address = peer.address.parse::<Ipv4Addr>().unwrap();
            assert!(!address.is_documentation() && !address.is_private(), "{address}");
        }
    }

    #[test]
    fn kinds_of_one_seed_share_the_population() {
        let (one, other) = (World::new(9, 1), World::new(9, 2));
        assert_eq!(one.population.inside, other.population.inside);
        assert_eq!(one.population.users, other.population.users);
    }
}
