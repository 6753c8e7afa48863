//! `asn`: the autonomous system of addresses, from a MaxMind DB file.
//!
//! In: GeoLite2-ASN, GeoIP2-ISP, DB-IP's ASN Lite, or another database with their layout:
//! `autonomous_system_number`, `autonomous_system_organization` (MaxMind, "GeoLite2 ASN database"). Out, in ECS 8
//! names: `x.as.number`, `x.as.organization.name` for `x.ip`.

use maxminddb::LookupResult;
use serde::Deserialize;

use super::mmdb::{self, Record};
use super::{Cells, Damaged, Enricher, EnricherKind, Folders};
use crate::config::Section;
use crate::error::Diagnostics;
use crate::event::Kind;

pub(super) struct Asn;

const SAMPLE: &str = r#"
type: asn
path: GeoLite2-ASN.mmdb               # read again when it changes
fields: [source.ip, destination.ip]   # adds source.as.number, source.as.organization.name, destination.as...
"#;

impl EnricherKind for Asn {
    fn name(&self) -> &'static str {
        "asn"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        mmdb::schema()
    }

    fn read(&self, section: &Section, folders: Folders<'_>) -> Result<Box<dyn Enricher>, Diagnostics> {
        mmdb::read::<System<'static>>(section, folders)
    }
}

#[derive(Deserialize)]
struct System<'a> {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<&'a str>,
}

impl Record for System<'static> {
    const DATABASES: &'static [&'static str] = &["ASN", "ISP"];
    const FIELDS: &'static [&'static str] = &["as.number", "as.organization.name"];

    fn write(found: &LookupResult<'_, Vec<u8>>, cells: &mut Cells<'_, '_>) -> Result<(), Damaged> {
        let Some(system) = found.decode::<System<'_>>().map_err(|_| Damaged)? else { return Ok(()) };
        if let Some(number) = system.autonomous_system_number {
            cells.set_formatted(0, Kind::Number, format_args!("{number}"));
        }
        if let Some(name) = system.autonomous_system_organization {
            cells.set(1, Kind::Text, name.as_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::Refresh;
    use crate::enrich::testing::mmdb::{Value, Writer, text};
    use crate::enrich::testing::{filled, read};

    #[test]
    fn systems_are_found_by_address() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new();
        let system = |number, name| {
            Value::Map(vec![("autonomous_system_number", Value::U32(number)), ("autonomous_system_organization", text(name))])
        };
        writer.add("192.0.2.0".parse().unwrap(), 24, &system(64496, "Example Carrier"));
        writer.add("2001:db8::".parse().unwrap(), 32, &Value::Map(vec![("autonomous_system_number", Value::U32(4_200_000_000))]));
        std::fs::write(folder.path().join("a.mmdb"), writer.finish("GeoLite2-ASN")).unwrap();
        let enricher = read(&Asn, "type: asn\npath: a.mmdb\nfields: [source.ip]\n", folder.path()).unwrap();
        assert!(matches!(enricher.refresh(), Refresh::Loaded));
        let found = filled(
            &*enricher,
            "source.ip",
            &["192.0.2.9", "2001:db8::1", "198.51.100.1"],
            &["source.as.number", "source.as.organization.name"],
        );
        assert_eq!(found, [["64496", "Example Carrier"], ["4200000000", "-"], ["-", "-"]]);
    }
}
