//! Key templates with any values: a key is never empty, has no NUL or control character, and never leaves the
//! folder that the template's own text names.
#![no_main]

use std::borrow::Cow;
use std::path::{Component, Path};

use hydrant::encode::key_template::{KeyContext, KeyTemplate, NAME_BYTES_MAX, ObjectSuffix, PATH_BYTES_MAX, PREFIX_CHARACTERS_MAX, Role};
use hydrant_fuzz::{Choices, chosen, seed};
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;

/// Templates beside those that the fuzzer makes.
const TEMPLATES: [&str; 6] = [
    "out/!{field:a}/!{field:b}.log",
    "a/!{field:a}!{field:b}",
    "!{field:a}/!{timestamp:yyyy/MM/dd}/",
    "../logs/!{timestamp:HH}-!{field:a}",
    "x/!{timestamp:'a'yyyy}.!{field:b}/!{firehose:random-string}",
    "./d/!{partitionKeyFromQuery:k}",
];

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    let mut choices = Choices(input);
    let role = choices.pick(&[Role::Prefix, Role::ErrorPrefix, Role::Path]);
    let own = choices.below(TEMPLATES.len() + 2);
    let text = match TEMPLATES.get(own) {
        Some(text) => Cow::Borrowed(*text),
        None => String::from_utf8_lossy(choices.bytes(120)),
    };
    let context = KeyContext {
        oldest_arrival_ms: i64::from_le_bytes(std::array::from_fn(|_| choices.byte())),
        seed: u128::from(choices.byte()),
        error_output_type: "processing-failed",
    };
    let Ok(template) = KeyTemplate::parse(&text, role, TimeZone::UTC) else { return };
    let values: Vec<Option<Cow<'_, [u8]>>> =
        template.references().iter().map(|_| (choices.below(8) > 0).then(|| choices.bytes(200).into())).collect();
    let mut partition = String::new();
    template.partition(|index| values[index].clone(), &mut partition);
    assert_eq!(partition.matches('/').count(), values.len());
    if let Some(key) = check(&template, role, &partition, &context) {
        assert!(!key.is_empty() || text.is_empty());
        assert!(!key.chars().any(char::is_control), "{key:?}");
    }
    // A manifest is read from disk: a damaged one may give any name, but not lead elsewhere.
    check(&template, role, &String::from_utf8_lossy(choices.0), &context);
});

/// Checks the key of a partition; nothing if it is too long.
fn check(template: &KeyTemplate, role: Role, partition: &str, context: &KeyContext<'_>) -> Option<String> {
    let mut key = "kept".to_owned();
    let rendered = template.render(partition, context, &mut key);
    let Some(key) = key.strip_prefix("kept").filter(|_| rendered.is_ok()) else {
        assert!(rendered.is_err() && key == "kept");
        return None;
    };
    // The same with values that do not matter: what the template says by itself.
    let mut plain = String::new();
    template.render("", context, &mut plain).ok()?;
    assert_eq!(levels(key), levels(&plain), "{key} beside {plain}");
    match role {
        Role::Prefix | Role::ErrorPrefix => {
            assert!(key.chars().count() <= PREFIX_CHARACTERS_MAX);
            let suffix = ObjectSuffix { stream: partition.to_owned(), version: 1, extension: ".gz".into(), zone: TimeZone::UTC };
            let mut object = key.to_owned();
            suffix.write(context, &mut object);
            assert_eq!(levels(&object), levels(&plain), "{object}");
        }
        Role::Path => assert!(key.len() <= PATH_BYTES_MAX && key.split('/').all(|name| name.len() <= NAME_BYTES_MAX)),
    }
    Some(key.to_owned())
}

/// How far a path leads up at its beginning, how many names it has, and how many of them are `.`, which a template may
/// say anywhere and a value nowhere; a name that leads up later is an escape.
fn levels(key: &str) -> (usize, usize, usize) {
    let up = Path::new(key).components().take_while(|part| matches!(part, Component::ParentDir | Component::CurDir)).count();
    let names: Vec<&str> = key.split('/').skip_while(|name| matches!(*name, "" | "." | "..")).collect();
    assert!(!names.contains(&".."), "{key}");
    (up, names.len(), names.iter().filter(|name| **name == ".").count())
}

/// Values that lead out of a folder, under every template and role.
fn seeds() -> Vec<Vec<u8>> {
    let values = b"\0\0\0\0\0\0\0\0\x07\x01\x09../../etc\x01\x04a\0/b\x01\x03\xe2\x80\xa5\x01\x01.\x01\x0a%2e%2e/abcd";
    let of_role = |role: u8| (0..TEMPLATES.len() as u8).map(move |own| chosen(&[role, own], values));
    (0..3).flat_map(of_role).collect()
}
