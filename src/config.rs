//! How a file that a person wrote is read: YAML text to [`Node`]s that know their line, nodes to typed
//! settings, every mistake named at once.
//!
//! This module knows no component. A component declares a plain serde struct (`deny_unknown_fields`, a doc
//! comment and a unit on each field) and reads it with [`Section::read`]; nothing is opened or started by
//! reading, so `validate` runs the same code.

mod schema;
mod secret;
mod section;
mod units;
mod yaml;

pub use schema::schema_of;
pub use secret::Secret;
pub use section::Section;
pub use units::{ByteSize, Interval};
pub use yaml::{Content, Node, parse_documents};
