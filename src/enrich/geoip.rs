//! `geoip`: where addresses are, from a MaxMind DB file.
//!
//! In: GeoLite2 or GeoIP2 City, Country or Enterprise, DB-IP's Lite databases, or another database with their
//! layout (MaxMind, "GeoIP2 City and Country databases"). Out, in ECS 8 names, for `x.ip`:
//!
//! | Field | From |
//! |---|---|
//! | `x.geo.city_name` | `city.names.en` |
//! | `x.geo.continent_code`, `.continent_name` | `continent.code`, `continent.names.en` |
//! | `x.geo.country_iso_code`, `.country_name` | `country.iso_code`, `country.names.en` |
//! | `x.geo.location` | `{"lat":..,"lon":..}` from `location`, four decimals |
//! | `x.geo.postal_code` | `postal.code` |
//! | `x.geo.region_iso_code`, `.region_name` | the first of `subdivisions`; the code with the country before it (`US-CA`) |
//! | `x.geo.timezone` | `location.time_zone` |
//!
//! Not supported: other languages than English, registered and represented countries, flat layouts (IPinfo).

use std::fmt;

use maxminddb::LookupResult;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::mmdb::{self, Record};
use super::{Cells, Damaged, Enricher, EnricherKind, Folders};
use crate::config::Section;
use crate::error::Diagnostics;
use crate::event::Kind;

pub(super) struct Geoip;

const SAMPLE: &str = r#"
type: geoip
path: GeoLite2-City.mmdb              # City, Country or Enterprise; read again when it changes
fields: [source.ip, destination.ip]   # adds source.geo.country_iso_code and so on, destination.geo...
"#;

impl EnricherKind for Geoip {
    fn name(&self) -> &'static str {
        "geoip"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        mmdb::schema()
    }

    fn read(&self, section: &Section, folders: Folders<'_>) -> Result<Box<dyn Enricher>, Diagnostics> {
        mmdb::read::<Place<'static>>(section, folders)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Place<'a> {
    #[serde(borrow)]
    city: Area<'a>,
    #[serde(borrow)]
    continent: Area<'a>,
    #[serde(borrow)]
    country: Area<'a>,
    #[serde(borrow)]
    location: Location<'a>,
    #[serde(borrow)]
    postal: Area<'a>,
    #[serde(borrow)]
    subdivisions: First<Area<'a>>,
}

/// A part of a record: each kind has some of these.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Area<'a> {
    code: Option<&'a str>,
    iso_code: Option<&'a str>,
    #[serde(borrow)]
    names: Names<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names<'a> {
    en: Option<&'a str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Location<'a> {
    latitude: Option<f64>,
    longitude: Option<f64>,
    time_zone: Option<&'a str>,
}

/// The first item of a list; no memory for the others.
#[derive(Default)]
struct First<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<First<T>, A::Error> {
                let first = items.next_element()?;
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }

        deserializer.deserialize_seq(List(std::marker::PhantomData))
    }
}

const CITY: usize = 0;
const CONTINENT_CODE: usize = 1;
const CONTINENT_NAME: usize = 2;
const COUNTRY_CODE: usize = 3;
const COUNTRY_NAME: usize = 4;
const LOCATION: usize = 5;
const POSTAL_CODE: usize = 6;
const REGION_CODE: usize = 7;
const REGION_NAME: usize = 8;
const TIMEZONE: usize = 9;

impl Record for Place<'static> {
    const DATABASES: &'static [&'static str] = &["City", "Country", "Enterprise"];
    const FIELDS: &'static [&'static str] = &[
        "geo.city_name",
        "geo.continent_code",
        "geo.continent_name",
        "geo.country_iso_code",
        "geo.country_name",
        "geo.location",
        "geo.postal_code",
        "geo.region_iso_code",
        "geo.region_name",
        "geo.timezone",
    ];

    fn write(found: &LookupResult<'_, Vec<u8>>, cells: &mut Cells<'_, '_>) -> Result<(), Damaged> {
        let Some(place) = found.decode::<Place<'_>>().map_err(|_| Damaged)? else { return Ok(()) };
        let region = place.subdivisions.0.unwrap_or_default();
        let texts = [
            (CITY, place.city.names.en),
            (CONTINENT_CODE, place.continent.code),
            (CONTINENT_NAME, place.continent.names.en),
            (COUNTRY_CODE, place.country.iso_code),
            (COUNTRY_NAME, place.country.names.en),
            (POSTAL_CODE, place.postal.code),
            (REGION_NAME, region.names.en),
            (TIMEZONE, place.location.time_zone),
        ];
        for (column, text) in texts {
            if let Some(text) = text {
                cells.set(column, Kind::Text, text.as_bytes());
            }
        }
        if let (Some(country), Some(region)) = (place.country.iso_code, region.iso_code) {
            cells.set_formatted(REGION_CODE, Kind::Text, format_args!("{country}-{region}"));
        }
        if let (Some(lat), Some(lon)) = (place.location.latitude, place.location.longitude)
            && lat.abs() <= 90.0
            && lon.abs() <= 180.0
        {
            cells.set_formatted(LOCATION, Kind::Object, format_args!("{{\"lat\":{lat:.4},\"lon\":{lon:.4}}}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::Refresh;
    use crate::enrich::testing::mmdb::{Value, Writer, map, text};
    use crate::enrich::testing::{filled, kinds, read};

    fn named(code: &'static str, value: &str, name: &str) -> Value {
        Value::Map(vec![
            (code, text(value)),
            ("geoname_id", Value::U32(1)),
            ("names", Value::Map(vec![("de", text("x")), ("en", text(name))])),
        ])
    }

    fn berlin() -> Value {
        Value::Map(vec![
            ("city", map("names", map("en", text("Berlin")))),
            ("continent", named("code", "EU", "Europe")),
            ("country", named("iso_code", "DE", "Germany")),
            (
                "location",
                Value::Map(vec![
                    ("accuracy_radius", Value::U16(100)),
                    ("latitude", Value::Double(52.5244)),
                    ("longitude", Value::Double(-13.5)),
                    ("time_zone", text("Europe/Berlin")),
                ]),
            ),
            ("postal", map("code", text("10178"))),
            ("subdivisions", Value::Array(vec![named("iso_code", "BE", "Land Berlin"), named("iso_code", "ZZ", "inner")])),
            ("unknown", Value::Array(vec![text("a name of more than twenty-nine bytes")])),
        ])
    }

    fn database() -> Vec<u8> {
        let mut writer = Writer::new();
        writer.add("192.0.2.0".parse().unwrap(), 24, &map("country", map("iso_code", text("US"))));
        writer.add("192.0.2.128".parse().unwrap(), 25, &berlin());
        writer.add("2001:db8::".parse().unwrap(), 32, &map("country", map("iso_code", text("FR"))));
        writer.finish("GeoLite2-City")
    }

    const CONFIG: &str = "type: geoip\npath: g.mmdb\nfields: [source.ip]\n";

    fn open(bytes: &[u8], config: &str) -> (tempfile::TempDir, Result<Box<dyn Enricher>, String>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("g.mmdb"), bytes).unwrap();
        let enricher = read(&Geoip, config, folder.path()).map_err(|d| d.to_string()).and_then(|enricher| match enricher.refresh() {
            Refresh::Failed(diagnostics) => Err(diagnostics.to_string()),
            _ => Ok(enricher),
        });
        (folder, enricher)
    }

    #[test]
    fn every_field_of_a_city_is_found_by_address() {
        let (_folder, enricher) = open(&database(), CONFIG);
        let enricher = enricher.unwrap();
        let names: Vec<String> = Place::FIELDS.iter().map(|name| format!("source.{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            filled(&*enricher, "source.ip", &["192.0.2.200"], &names)[0],
            [
                "Berlin",
                "EU",
                "Europe",
                "DE",
                "Germany",
                "{\"lat\":52.5244,\"lon\":-13.5000}",
                "10178",
                "DE-BE",
                "Land Berlin",
                "Europe/Berlin"
            ]
        );
        let keys = ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1::1", "192.0.3.1", "2001:db9::", "host", "192.0.2.1:80"];
        let codes: Vec<String> = filled(&*enricher, "source.ip", &keys, &["source.geo.country_iso_code"]).concat();
        assert_eq!(codes, ["US", "US", "FR", "-", "-", "-", "-"]);
        assert_eq!(kinds(&*enricher, "source.ip", &[(Kind::Number, "1")], &["source.geo.city_name"])[0], ["-"]);
    }

    #[test]
    fn files_of_another_kind_are_refused() {
        let error = |bytes: &[u8]| open(bytes, CONFIG).1.err().unwrap();
        assert!(error(b"").contains("is not a MaxMind DB file"));
        assert!(error(&database()[..200]).contains("is not a MaxMind DB file"));
        let other = error(&Writer::new().finish("GeoLite2-ASN"));
        assert!(other.contains("is a database of type `GeoLite2-ASN`\n  help: its type should contain one of: City"), "{other}");
        let cut = error(&database()[1000..]);
        assert!(cut.contains("is not a MaxMind DB file"), "{cut}");
    }

    #[test]
    fn damage_anywhere_never_panics() {
        use crate::event::{Chunk, Events, Fields, Sender, Span};
        let good = database();
        let mut given_up = 0;
        for at in (0..good.len()).step_by(7) {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            let (_folder, Ok(enricher)) = open(&bytes, CONFIG) else { continue };
            let mut fields = Fields::default();
            let key = fields.slot("source.ip");
            fields.slot("source.geo.city_name");
            let sender = std::sync::Arc::new(Sender { source: "t".into(), source_index: 0 });
            let chunk = Chunk::new(b"192.0.2.200".to_vec(), vec![Span::new(0, 11)], sender, 0);
            let mut events = Events::default();
            events.reset(&chunk, fields.width());
            events.row_mut(&chunk, 0).set_text(key, Span::new(0, 11));
            given_up += enricher.bind(&fields).enrich(&chunk, 0..1, &mut events);
        }
        assert!(given_up > 0, "damaged records are counted");
    }

    #[test]
    fn every_mistake_of_the_section_is_named() {
        let error = |config: &str| open(&database(), config).1.err().unwrap();
        let text = error("type: geoip\npath: g.mmdb\nfields: [source.address, .source.ip, source.ip, source.ip]\n");
        for part in [
            "c.yaml:3:10: error: fields[0]: `source.address` does not end in `.ip`",
            "fields[1]: `.source.ip` is not the name of a field\n  help: write `source.ip`",
            "fields[3]: `source.ip` stands twice",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(error("type: geoip\npath: g.mmdb\nfields: []\n").contains("no field is looked up"));
    }
}
