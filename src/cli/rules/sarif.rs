//! Findings as a SARIF log, which code hosts show beside the lines of a change: `diagnostics -> one JSON document`.
//!
//! Format: OASIS SARIF 2.1.0 (run 3.14, tool component 3.19, result 3.27, region 3.30). Paths stay relative as they were given,
//! so that a host finds them in its repository; one that begins with `/` becomes a `file:` URI.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::lint::{LINTS, kind};
use crate::error::{Diagnostic, Diagnostics, Severity};

/// One run of the linter.
pub(super) fn log(diagnostics: &Diagnostics) -> Value {
    let rules: Vec<Value> = LINTS.iter().map(|lint| json!({ "id": lint.id, "shortDescription": { "text": lint.about } })).collect();
    let driver = json!({ "name": "hydrant", "version": env!("CARGO_PKG_VERSION"), "rules": rules });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "columnKind": "unicodeCodePoints",
            "results": diagnostics.0.iter().map(result).collect::<Vec<Value>>(),
        }],
    })
}

fn result(diagnostic: &Diagnostic) -> Value {
    let index = kind(diagnostic);
    let mut text = diagnostic.message.clone();
    if let Some(help) = &diagnostic.help {
        // Writing to a String cannot fail.
        let _ = write!(text, " ({help})");
    }
    let mut place = json!({ "artifactLocation": { "uri": uri(&diagnostic.file) } });
    // Lines and columns begin with 1; without a region the whole file is meant.
    if let (Value::Object(place), true) = (&mut place, diagnostic.line > 0) {
        let column = (diagnostic.column > 0).then_some(diagnostic.column);
        let region = match column {
            Some(column) => json!({ "startLine": diagnostic.line, "startColumn": column }),
            None => json!({ "startLine": diagnostic.line }),
        };
        place.insert("region".to_owned(), region);
    }
    let mut location = json!({ "physicalLocation": place });
    if let (Value::Object(location), false) = (&mut location, diagnostic.path.is_empty()) {
        location.insert("logicalLocations".to_owned(), json!([{ "fullyQualifiedName": diagnostic.path }]));
    }
    json!({
        "ruleId": LINTS[index].id,
        "ruleIndex": index,
        "level": if diagnostic.severity == Severity::Error { "error" } else { "warning" },
        "message": { "text": text },
        "locations": [location],
    })
}

/// A path as a URI reference (RFC 3986).
fn uri(path: &Path) -> String {
    let mut uri = if path.is_absolute() { "file://".to_owned() } else { String::new() };
    for byte in path.to_string_lossy().trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uri_references() {
        assert_eq!(uri(Path::new("./rules/a b.yml")), "rules/a%20b.yml");
        assert_eq!(uri(Path::new("/rules/ü:1.yml")), "file:///rules/%C3%BC%3A1.yml");
    }
}
