//! What the enrichers over MaxMind DB files share: configuration, loading, look-up.
//!
//! Format: "MaxMind DB File Format Specification" 2.0, read by the `maxminddb` crate, which checks every offset.
//! The file is read into memory, not mapped: a mapped file that somebody truncates kills the process.
//! A database of IPv4 only knows no IPv6 address. A damaged record adds nothing, and is counted.

use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::{LookupResult, Reader};
use serde::Deserialize;

use super::{Bound, Cells, Damaged, Enricher, Entries, Filler, Folders, Lookup, Refresh, Watched, address, check_name};
use crate::config::{Section, schema_of};
use crate::error::{Diagnostic, Diagnostics};
use crate::event::Fields;

/// Longest file: GeoIP2 Enterprise, the largest, has about 500 MB.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A kind of record.
pub(super) trait Record: Send + Sync + 'static {
    /// What the type of a database that has such records contains, any of them.
    const DATABASES: &'static [&'static str];
    /// The fields it becomes, below the parent of the address.
    const FIELDS: &'static [&'static str];
    /// Writes the columns, in the order of [`Self::FIELDS`].
    ///
    /// # Errors
    /// The record cannot be read.
    fn write(found: &LookupResult<'_, Vec<u8>>, cells: &mut Cells<'_, '_>) -> Result<(), Damaged>;
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The database (`.mmdb`).
    path: PathBuf,
    /// Fields that hold addresses, such as `source.ip`.
    fields: Vec<String>,
}

/// The JSON schema of the section.
pub(super) fn schema() -> schemars::Schema {
    schema_of::<Config>()
}

/// Reads the section of an enricher.
pub(super) fn read<R: Record>(section: &Section, folders: Folders<'_>) -> Result<Box<dyn Enricher>, Diagnostics> {
    let config: Config = section.read()?;
    let place = section.child("fields").unwrap_or_else(|| section.clone());
    let mut diagnostics = Diagnostics::new();
    let mut lookups: Vec<Lookup> = Vec::new();
    if config.fields.is_empty() {
        diagnostics.push(place.error("no field is looked up").help("fields: [source.ip, destination.ip]"));
    }
    for (field, item) in config.fields.iter().zip(place.items()) {
        diagnostics.absorb(check_name(&item, field).map_err(Diagnostics::from));
        let Some(parent) = field.strip_suffix(".ip") else {
            diagnostics
                .push(item.error(format!("`{field}` does not end in `.ip`")).help("what is found for `x.ip` becomes `x.geo` or `x.as`"));
            continue;
        };
        let adds = R::FIELDS.iter().map(|name| format!("{parent}.{name}")).collect();
        if lookups.iter().any(|lookup| lookup.key == *field) {
            diagnostics.push(item.error(format!("`{field}` stands twice")));
        }
        lookups.push(Lookup { key: field.clone(), adds, is_usual: false });
    }
    let file = Watched::new(folders.base.join(config.path), FILE_BYTES_MAX, Database::<R>::parse);
    diagnostics.into_result(Box::new(Configured { file, lookups }))
}

struct Configured<R> {
    file: Arc<Watched<Database<R>>>,
    lookups: Vec<Lookup>,
}

impl<R: Record> Enricher for Configured<R> {
    fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    fn refresh(&self) -> Refresh {
        self.file.refresh()
    }

    fn bind(&self, fields: &Fields) -> Box<dyn Bound> {
        Box::new(Filler::new(self.file.handle(), &self.lookups, fields))
    }
}

struct Database<R> {
    reader: Reader<Vec<u8>>,
    record: PhantomData<R>,
}

impl<R: Record> Database<R> {
    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, Diagnostics> {
        let fail = |message: String| Diagnostic::error(path, 0, 0, "", message);
        let reader = Reader::from_source(bytes).map_err(|error| fail(format!("is not a MaxMind DB file: {error}")))?;
        let kind = &reader.metadata().database_type;
        if !R::DATABASES.iter().any(|name| kind.contains(name)) {
            let help = format!("its type should contain one of: {}", R::DATABASES.join(", "));
            return Err(fail(format!("is a database of type `{kind}`")).help(help).into());
        }
        Ok(Self { reader, record: PhantomData })
    }
}

impl<R: Record> Entries for Database<R> {
    /// Addresses are their own numbers: so the memo spares the walk through the tree too.
    fn find(&self, key: &[u8], _: &mut Vec<u8>) -> Option<u128> {
        match address(key)? {
            IpAddr::V4(address) => Some(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(_) if self.reader.metadata().ip_version == 4 => None,
            IpAddr::V6(address) => Some(address.to_bits()),
        }
    }

    fn write(&self, entry: u128, cells: &mut Cells<'_, '_>) -> Result<(), Damaged> {
        let address = IpAddr::V6(Ipv6Addr::from_bits(entry)).to_canonical();
        let found = self.reader.lookup(address).map_err(|_| Damaged)?;
        if found.has_data() { R::write(&found, cells) } else { Ok(()) }
    }
}
