//! A part of the configuration, with its path for messages, read into plain serde structs.
//!
//! serde stops at the first mistake. [`Section::read`] therefore takes the offending entry out and reads
//! again until nothing is left to complain about, so that a person sees every mistake at once.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::secret::{self, SecretError};
use super::yaml::{Content, Node, parse_documents};
use crate::error::{Diagnostic, Diagnostics, nearest};

/// Mistakes of one section that are reported before reading gives up.
const MISTAKES_MAX: usize = 100;

/// A node of the configuration with its file and path.
#[derive(Clone, Debug)]
pub struct Section {
    file: PathBuf,
    path: String,
    node: Node,
}

impl Section {
    /// The root of a configuration file. `${VAR}` and `${VAR:-default}` are replaced in scalar values.
    ///
    /// # Errors
    /// Syntax errors, an empty file, more than one document, unset variables.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let mut root = Self::document(file, text)?;
        substitute(&mut root.node, "", &mut |node, path, why| diagnostics.push(Diagnostic::error(file, node.line, node.column, path, why)));
        diagnostics.into_result(root)
    }

    /// The same for a configuration that runs elsewhere, of which nothing is sent or listened to here. A variable that is not set
    /// and a secret that cannot be had are mistakes only where a setting that is no secret needs them.
    ///
    /// # Errors
    /// Syntax errors, an empty file, more than one document.
    pub fn parse_elsewhere(file: &Path, text: &str) -> Result<Self, Diagnostics> {
        let mut root = Self::document(file, text)?;
        substitute(&mut root.node, "", &mut |node, _, why| node.content = Content::Unknown(why));
        forget_secrets(&mut root.node);
        Ok(root)
    }

    fn document(file: &Path, text: &str) -> Result<Self, Diagnostics> {
        let mut documents = parse_documents(file, text)?;
        if documents.len() > 1 {
            return Err(Diagnostic::error(file, documents[1].line, 1, "", "a configuration is one document; this is a second one").into());
        }
        let Some(node) = documents.pop().filter(|node| !node.is_null()) else {
            return Err(Diagnostic::error(file, 0, 0, "", "the file is empty").help("`hydrant init` writes a commented example").into());
        };
        Ok(Self { file: file.to_owned(), path: String::new(), node })
    }

    /// A part of a document that somebody else has parsed; `path` is where it stands in it.
    pub fn at(file: &Path, path: &str, node: Node) -> Self {
        Self { file: file.to_owned(), path: path.to_owned(), node }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The path from the root, such as `sinks.splunk`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The value under `key`.
    pub fn child(&self, key: &str) -> Option<Section> {
        let node = self.node.entry(key)?.clone();
        Some(Self { file: self.file.clone(), path: join(&self.path, key), node })
    }

    /// The named children of a map, in the order of the file.
    pub fn children(&self) -> Vec<(String, Section)> {
        let named = |(key, node): &(Node, Node)| {
            let name = key.text()?.to_owned();
            let section = Self { file: self.file.clone(), path: join(&self.path, &name), node: node.clone() };
            Some((name, section))
        };
        self.node.entries().iter().filter_map(named).collect()
    }

    /// The items of a list, each with its path.
    pub fn items(&self) -> Vec<Section> {
        let Content::Sequence(items) = &self.node.content else { return Vec::new() };
        let item =
            |(index, node): (usize, &Node)| Self { file: self.file.clone(), path: format!("{}[{index}]", self.path), node: node.clone() };
        items.iter().enumerate().map(item).collect()
    }

    /// The same section without some keys, which somebody else reads.
    pub fn without(&self, keys: &[&str]) -> Section {
        let mut section = self.clone();
        if let Content::Mapping(entries) = &mut section.node.content {
            entries.retain(|(key, _)| !key.text().is_some_and(|text| keys.contains(&text)));
        }
        section
    }

    /// An error at this section.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.file, self.node.line, self.node.column, &self.path, message)
    }

    /// The entry of `table` that `type:` names.
    ///
    /// # Errors
    /// No `type`, or one that is not in the table, with the nearest name.
    pub fn component<'t, K: ?Sized>(&self, table: &'t [&'t K], name: impl Fn(&K) -> &'static str) -> Result<&'t K, Diagnostics> {
        let names = || table.iter().map(|kind| name(kind)).collect::<Vec<_>>();
        let Some(kind) = self.child("type") else {
            return Err(self.error("`type` is missing").help(format!("one of: {}", names().join(", "))).into());
        };
        let text = kind.node.text().unwrap_or_default();
        table.iter().find(|k| name(k) == text).copied().ok_or_else(|| {
            let near = nearest(text, names()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let help = format!("{near}one of: {}", names().join(", "));
            kind.error(format!("there is no type {}", kind.node.describe())).help(help).into()
        })
    }

    /// Reads the section into `T`.
    ///
    /// # Errors
    /// Every unknown key, wrong type, wrong value and the first missing key.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Diagnostics> {
        let mut node = self.node.clone();
        let mut diagnostics = Diagnostics::new();
        let mut removed: Vec<String> = Vec::new();
        while diagnostics.0.len() < MISTAKES_MAX {
            let error = match T::deserialize(Reader { node: &node, path: self.path.clone() }) {
                Ok(value) => return diagnostics.into_result(value),
                Err(error) => error,
            };
            let place = error.place.unwrap_or_else(|| (self.node.line, self.node.column, self.path.clone()));
            let (line, column, path) = place;
            // A key taken out for another reason is not missing as well.
            let consequence = error.missing.as_ref().is_some_and(|key| removed.contains(&join(&path, key)));
            if !consequence {
                let mut diagnostic = Diagnostic::error(&self.file, line, column, &path, error.message);
                diagnostic.help = error.help;
                diagnostics.push(diagnostic);
            }
            if error.missing.is_some() || !remove(&mut node, &self.path, &path) {
                break;
            }
            removed.push(path);
        }
        Err(diagnostics)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Takes the entry at `target` out of the tree below `path`; false if it is the root itself.
fn remove(node: &mut Node, path: &str, target: &str) -> bool {
    match &mut node.content {
        Content::Mapping(entries) => {
            let at = |key: &Node| key.text().map(|text| join(path, text));
            if let Some(index) = entries.iter().position(|(key, _)| at(key).as_deref() == Some(target)) {
                entries.remove(index);
                return true;
            }
            entries.iter_mut().any(|(key, value)| at(key).is_some_and(|path| remove(value, &path, target)))
        }
        Content::Sequence(items) => {
            if let Some(index) = (0..items.len()).find(|index| format!("{path}[{index}]") == target) {
                // A neutral value keeps the indices of the items behind it; lists of anything accept it or
                // report it once more under the same path, which ends the loop.
                items.remove(index);
                return true;
            }
            items.iter_mut().enumerate().any(|(index, item)| remove(item, &format!("{path}[{index}]"), target))
        }
        Content::Scalar { .. } | Content::Unknown(_) => false,
    }
}

/// Replaces variables; `fail` is told of what cannot be replaced, where, and why.
fn substitute(node: &mut Node, path: &str, fail: &mut impl FnMut(&mut Node, &str, String)) {
    match &mut node.content {
        Content::Scalar { text, .. } if text.contains("${") => match expand(text) {
            Ok(expanded) => *text = expanded,
            Err(why) => fail(node, path, why),
        },
        Content::Scalar { .. } | Content::Unknown(_) => {}
        Content::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                substitute(item, &format!("{path}[{index}]"), fail);
            }
        }
        Content::Mapping(entries) => {
            for (key, value) in entries {
                let path = join(path, key.text().unwrap_or("?"));
                substitute(value, &path, fail);
            }
        }
    }
}

/// Marks references to secrets that cannot be had.
fn forget_secrets(node: &mut Node) {
    match &mut node.content {
        Content::Scalar { text, .. } => {
            if let Err(SecretError::Absent(why)) = secret::resolve(text) {
                node.content = Content::Unknown(why);
            }
        }
        Content::Sequence(items) => items.iter_mut().for_each(forget_secrets),
        Content::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| forget_secrets(value)),
        Content::Unknown(_) => {}
    }
}

fn expand(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = inner.find('}').ok_or_else(|| format!("`{text}` has `${{` without `}}`"))?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        match (std::env::var(name), default) {
            (Ok(value), _) => out.push_str(&value),
            (Err(_), Some(default)) => out.push_str(default),
            (Err(_), None) => {
                return Err(format!("the environment variable {name} is not set and `${{{name}}}` has no default (`${{{name}:-...}}`)"));
            }
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Why reading stopped, and where.
#[derive(Debug)]
struct ReadError {
    message: String,
    help: Option<String>,
    missing: Option<String>,
    place: Option<(usize, usize, String)>,
}

impl ReadError {
    fn at(mut self, node: &Node, path: &str) -> Self {
        self.place.get_or_insert_with(|| (node.line, node.column, path.to_owned()));
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), help: None, missing: None, place: None }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let near = nearest(field, expected.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
        let help = format!("{near}keys here: {}", expected.join(", "));
        Self { message: "unknown key".into(), help: Some(help), missing: None, place: None }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = nearest(variant, expected.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
        let help = format!("{near}one of: {}", expected.join(", "));
        Self { message: format!("`{variant}` is not a value of this key"), help: Some(help), missing: None, place: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { message: format!("the key `{field}` is missing"), help: None, missing: Some(field.into()), place: None }
    }
}

struct Reader<'n> {
    node: &'n Node,
    path: String,
}

impl<'n> Reader<'n> {
    fn wrong(&self, expected: &dyn de::Expected) -> ReadError {
        if let Content::Unknown(why) = &self.node.content {
            return de::Error::custom(why);
        }
        // serde names the types of numbers as Rust does.
        let expected = match expected.to_string().as_str() {
            "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
            "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
            "f32" | "f64" => "a number".to_owned(),
            "a boolean" => "`true` or `false`".to_owned(),
            other => other.to_owned(),
        };
        de::Error::custom(format!("expected {expected}, found {}", self.node.describe()))
    }

    fn scalar<T: std::str::FromStr>(&self) -> Option<T> {
        self.node.text().and_then(|text| text.parse().ok())
    }

    fn visit<'de, V: Visitor<'de>, T>(
        self,
        visitor: V,
        visit: impl FnOnce(V, T) -> Result<V::Value, ReadError>,
    ) -> Result<V::Value, ReadError>
    where
        T: std::str::FromStr,
    {
        match self.scalar::<T>() {
            Some(value) => visit(visitor, value).map_err(|e| e.at(self.node, &self.path)),
            None => Err(self.wrong(&visitor).at(self.node, &self.path)),
        }
    }

    fn collection<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let (node, path) = (self.node, self.path.clone());
        match &node.content {
            Content::Sequence(items) => visitor.visit_seq(Items { items, index: 0, path: self.path }),
            Content::Mapping(entries) => visitor.visit_map(Entries { entries, index: 0, path: self.path }),
            Content::Scalar { .. } | Content::Unknown(_) => Err(self.wrong(&visitor)),
        }
        .map_err(|e| e.at(node, &path))
    }

    /// A value that is not known here, for who can do without: a secret.
    fn unknown<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let why = self.wrong(&visitor);
        visitor.visit_none().map_err(|_: ReadError| why.at(self.node, &self.path))
    }
}

macro_rules! scalars {
    ($($method:ident $visit:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.visit(visitor, |v, value: $type| v.$visit(value))
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    scalars!(
        deserialize_bool visit_bool bool,
        deserialize_i8 visit_i64 i64, deserialize_i16 visit_i64 i64, deserialize_i32 visit_i64 i64, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u64 u64, deserialize_u16 visit_u64 u64, deserialize_u32 visit_u64 u64, deserialize_u64 visit_u64 u64,
        deserialize_f32 visit_f64 f64, deserialize_f64 visit_f64 f64, deserialize_char visit_char char
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let (text, plain) = match &self.node.content {
            Content::Scalar { text, plain } => (text, plain),
            Content::Unknown(_) => return self.unknown(visitor),
            Content::Sequence(_) | Content::Mapping(_) => return self.collection(visitor),
        };
        let (node, path) = (self.node, self.path.clone());
        let result = match text.as_str() {
            _ if !plain => visitor.visit_str(text),
            _ if node.is_null() => visitor.visit_unit(),
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => match (self.scalar::<u64>(), self.scalar::<i64>(), self.scalar::<f64>()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) if value.is_finite() => visitor.visit_f64(value),
                _ => visitor.visit_str(text),
            },
        };
        result.map_err(|e: ReadError| e.at(node, &path))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.text() {
            Some(text) if !self.node.is_null() => visitor.visit_str(text).map_err(|e: ReadError| e.at(self.node, &self.path)),
            None if matches!(self.node.content, Content::Unknown(_)) => self.unknown(visitor),
            _ => Err(self.wrong(&visitor).at(self.node, &self.path)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, ReadError> {
        match self.node.text() {
            Some(text) => visitor.visit_enum(text.into_deserializer()).map_err(|e: ReadError| e.at(self.node, &self.path)),
            None => Err(self.wrong(&visitor).at(self.node, &self.path)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Sequence(_) => self.collection(visitor),
            _ => Err(self.wrong(&visitor).at(self.node, &self.path)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Mapping(_) => self.collection(visitor),
            _ => Err(self.wrong(&visitor).at(self.node, &self.path)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, ReadError> {
        if self.node.is_null() {
            let nothing = Content::Mapping(Vec::new());
            let node = Node { content: nothing, ..self.node.clone() };
            return Reader { node: &node, path: self.path }.collection(visitor);
        }
        self.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! { bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any }
}

struct Items<'n> {
    items: &'n [Node],
    index: usize,
    path: String,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.items.get(self.index) else { return Ok(None) };
        let path = format!("{}[{}]", self.path, self.index);
        self.index += 1;
        seed.deserialize(Reader { node, path: path.clone() }).map(Some).map_err(|e| e.at(node, &path))
    }
}

struct Entries<'n> {
    entries: &'n [(Node, Node)],
    index: usize,
    path: String,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((key, _)) = self.entries.get(self.index) else { return Ok(None) };
        let text = key.text().unwrap_or_default();
        let path = join(&self.path, text);
        seed.deserialize(text.into_deserializer()).map(Some).map_err(|e: ReadError| e.at(key, &path))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, node) = &self.entries[self.index];
        self.index += 1;
        let path = join(&self.path, key.text().unwrap_or_default());
        seed.deserialize(Reader { node, path: path.clone() }).map_err(|e| e.at(node, &path))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::{Interval, Secret};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by the test's messages only")]
    struct Sample {
        endpoint: String,
        token: Secret,
        interval: Option<Interval>,
        #[serde(default)]
        tags: Vec<String>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by the test's messages only")]
    struct Inner {
        port: u16,
    }

    fn f(text: &str) -> Result<Sample, String> {
        Section::parse(Path::new("t.yaml"), text).and_then(|s| s.read()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_mistake_is_named_at_once_with_its_line_and_the_nearest_key() {
        let error = f("endpiont: x\ntoken: [1]\ninterval: 5\ninner: { port: many }\n").unwrap_err();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(
            lines,
            [
                "t.yaml:1:1: error: endpiont: unknown key",
                "  help: did you mean `endpoint`? keys here: endpoint, token, interval, tags, inner",
                "t.yaml:2:8: error: token: expected a string, found a list",
                "t.yaml:3:11: error: interval: `5` is not a time span; expected a number with ms, s, m, h or d, such as `30s`",
                "t.yaml:4:16: error: inner.port: expected a whole number, 0 or more, found `many`",
            ]
        );
    }

    #[test]
    fn a_secret_is_not_shown() {
        let sample = f("endpoint: x\ntoken: swordfish\n").unwrap();
        assert!(!format!("{sample:?}").contains("swordfish"));
    }

    #[test]
    fn elsewhere_a_secret_may_be_unknown_and_nothing_else() {
        let read = |text: &str| -> Result<Sample, String> {
            Section::parse_elsewhere(Path::new("t.yaml"), text).and_then(|section| section.read()).map_err(|error| error.to_string())
        };
        for token in ["secret://env/HYDRANT_TEST_UNSET", "secret://file/nowhere/x", "'${HYDRANT_TEST_UNSET}'", "'a${HYDRANT_TEST_UNSET}'"] {
            assert!(f(&format!("endpoint: x\ntoken: {token}\n")).is_err(), "{token}");
            assert!(!read(&format!("endpoint: x\ntoken: {token}\n")).unwrap().token.is_known(), "{token}");
        }
        let known = read("endpoint: '${HYDRANT_TEST_UNSET:-b}'\ntoken: secret://env/PATH\n").unwrap();
        assert_eq!((known.endpoint.as_str(), known.token.reveal()), ("b", std::env::var("PATH").unwrap().as_str()));
        let unset = "the environment variable HYDRANT_TEST_UNSET is not set and `${HYDRANT_TEST_UNSET}` has no default";
        for (text, part) in [
            ("endpoint: '${HYDRANT_TEST_UNSET}'\ntoken: x\n", &*format!("t.yaml:1:11: error: endpoint: {unset}")),
            ("endpoint: x\ntoken: x\ninterval: '${HYDRANT_TEST_UNSET}'\n", &format!("t.yaml:3:11: error: interval: {unset}")),
            ("endpoint: x\ntoken: x\ninner: '${HYDRANT_TEST_UNSET}'\n", &format!("t.yaml:3:8: error: inner: {unset}")),
            ("endpoint: x\ntoken: x\ninner: { port: '${HYDRANT_TEST_UNSET}' }\n", &format!("t.yaml:3:16: error: inner.port: {unset}")),
            ("endpoint: x\ntoken: ~\n", "t.yaml:2:8: error: token: expected a string, found nothing"),
            ("endpoint: x\ntoken: secret://environment/A\n", "token: secret://environment/A is not `secret://env/NAME`"),
            ("endpoint: x\ntoken: secret://env/HYDRANT_TEST_UNSET\ntagz: []\n", "t.yaml:3:1: error: tagz: unknown key"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn variables_are_replaced_in_values_only() {
        let sample = f("endpoint: 'a${HYDRANT_TEST_UNSET:-b}c'\ntoken: x\ntags: ['${HYDRANT_TEST_UNSET:-}']\n").unwrap();
        assert_eq!((sample.endpoint.as_str(), sample.tags[0].as_str()), ("abc", ""));
        assert!(f("endpoint: '${HYDRANT_TEST_UNSET}'\ntoken: x\n").unwrap_err().contains("HYDRANT_TEST_UNSET is not set"));
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(f("# nothing\n").unwrap_err().contains("the file is empty"));
    }
}
