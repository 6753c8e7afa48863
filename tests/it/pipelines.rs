//! Processing pipelines and filters: what becomes of rules, as `tests/cases/pipelines/cases.yaml` says, which
//! `tests/real/pysigma.py` holds to pySigma; and what is not supported, or wrong, is told with its line.

use std::path::Path;

use hydrant::config::Section;
use hydrant::detect::sigma::pipeline::{Pipeline, Pipelines};
use hydrant::detect::sigma::{Loaded, Loader, SigmaRule};
use hydrant::matcher::{Expr, Glob, Number, Order, Predicate, TextOp};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    pipelines: Vec<String>,
    rules: String,
    expect: Vec<String>,
}

fn pipelines(texts: &[&str]) -> Result<Pipelines, String> {
    let mut read = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let file = format!("p{number}.yml");
        read.push(Pipeline::parse(Path::new(&file), text).map_err(|diagnostics| diagnostics.to_string())?.0);
    }
    Pipelines::new(read).map_err(|diagnostics| diagnostics.to_string())
}

fn load(pipelines: &Pipelines, rules: &str) -> Loaded {
    let placeholders = Default::default();
    let mut loader = Loader::new(&placeholders, pipelines);
    loader.add(Path::new("r.yml"), rules);
    loader.finish()
}

/// The parts of a list, lists of its own kind taken apart.
fn parts(items: &[Expr<String>], is_all: bool, out: &mut Vec<String>) {
    for item in items {
        match (item, is_all) {
            (Expr::All(inner), true) | (Expr::Any(inner), false) => parts(inner, is_all, out),
            _ => out.push(show(item)),
        }
    }
}

fn list(items: &[Expr<String>], is_all: bool) -> String {
    let mut shown = Vec::new();
    parts(items, is_all, &mut shown);
    if shown.len() == 1 { shown.remove(0) } else { format!("{}({})", if is_all { "all" } else { "any" }, shown.join(", ")) }
}

fn show(expr: &Expr<String>) -> String {
    match expr {
        Expr::All(items) => list(items, true),
        Expr::Any(items) => list(items, false),
        Expr::Not(inner) => format!("not({})", show(inner)),
        Expr::Field(field, predicate) => show_predicate(field, predicate),
        Expr::Fields { left, right, .. } => format!("{left} = field {right}"),
        Expr::Keyword(predicate) => show_predicate("event", predicate),
    }
}

/// A string as a rule writes it.
fn written(pieces: &[Glob]) -> String {
    let piece = |piece: &Glob| match piece {
        Glob::Any => "*".to_owned(),
        Glob::One => "?".to_owned(),
        Glob::Text(text) => text.replace('*', "\\*").replace('?', "\\?"),
    };
    pieces.iter().map(piece).collect()
}

fn show_predicate(field: &str, predicate: &Predicate) -> String {
    let any = |yes: bool| if yes { "*" } else { "" };
    match predicate {
        Predicate::Text { op, text, .. } => {
            let (start, end) = (matches!(op, TextOp::Contains | TextOp::EndsWith), matches!(op, TextOp::Contains | TextOp::StartsWith));
            format!("{field} = {}{}{}", any(start), written(&[Glob::Text(text.clone())]), any(end))
        }
        Predicate::Glob { pieces, .. } => format!("{field} = {}", written(pieces)),
        Predicate::Number { op, number } => {
            let sign = match op {
                Order::Equal => "==",
                Order::Greater => ">",
                Order::GreaterOrEqual => ">=",
                Order::Less => "<",
                Order::LessOrEqual => "<=",
            };
            match number {
                Number::Integer(number) => format!("{field} {sign} {number}"),
                Number::Float(number) => format!("{field} {sign} {number}"),
            }
        }
        Predicate::Regex(regex) => format!("{field} ~ {regex}"),
        Predicate::Cidr(network) => format!("{field} in {network}"),
        Predicate::Exists => format!("{field} exists"),
        Predicate::Null => format!("{field} is null"),
        other => panic!("{other:?} is not compared"),
    }
}

/// The documents of a text by line: the log source and the fields as written.
fn as_written(rules: &str) -> Vec<SigmaRule> {
    load(&Pipelines::default(), rules).rules
}

fn results(case: &Case) -> Vec<String> {
    let texts: Vec<&str> = case.pipelines.iter().map(String::as_str).collect();
    let loaded = load(&pipelines(&texts).unwrap_or_else(|error| panic!("{}: {error}", case.name)), &case.rules);
    assert!(!loaded.diagnostics.has_errors(), "{}: {}", case.name, loaded.diagnostics);
    let before = as_written(&case.rules);
    let mut found = Vec::new();
    for rule in loaded.rules {
        let own = before.iter().find(|own| own.line == rule.line);
        let mut text = show(&rule.condition);
        if !rule.fields.is_empty() {
            text.push_str(&format!("; fields {}", rule.fields.join(", ")));
        }
        if own.is_some_and(|own| own.logsource != rule.logsource) {
            text.push_str(&format!("; {}", rule.logsource));
        }
        found.push((rule.line, text));
    }
    for correlation in loaded.correlations {
        let names: Vec<&str> = correlation.group_by.iter().map(|name| name.text.as_str()).collect();
        let mut text = format!("group-by {}; field {}", names.join(", "), correlation.condition.fields.join(", "));
        for (alias, (rule, field)) in correlation.aliases.iter().flat_map(|alias| alias.fields.iter().map(move |field| (alias, field))) {
            text.push_str(&format!("; {} of {} {field}", alias.name.text, rule.text));
        }
        found.push((correlation.line, text));
    }
    let refused = loaded.skipped.iter().map(|skipped| (skipped.line, skipped.reason.to_string()));
    found.extend(refused.map(|(line, reason)| (line, reason.replace("not loaded: a pipeline says", "refused"))));
    found.sort();
    found.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn pipelines_make_of_rules_what_pysigma_makes() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/pipelines/cases.yaml");
    // Not by `Section::parse`, which would look for environment variables in templates.
    let mut documents = hydrant::config::parse_documents(&file, &std::fs::read_to_string(&file).unwrap()).unwrap();
    let cases: Vec<Case> = Section::at(&file, "", documents.remove(0)).read().unwrap();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in &cases {
        let found = results(case);
        compared += found.len();
        if found != case.expect {
            wrong.push(format!("{}:\n  expected {:?}\n  found    {found:?}", case.name, case.expect));
        }
    }
    println!("{compared} rules in {} cases", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_wrong_with_a_pipeline_is_told_at_once_with_its_lines() {
    let text = "name: p\nprioritty: 5\ntransformations:\n- { type: field_name_maping, mapping: { a: b } }\n\
        - { type: nest, items: [] }\n- { type: set_state, key: a }\n\
        - { type: field_name_suffix, suffix: x, rule_conditions: [{ type: logsource, categroy: x }] }\n\
        - { type: rule_failure, message: x, rule_cond_op: xor, rule_conditions: [{ type: is_sigma_rule }] }\n\
        - { type: rule_failure, message: x, rule_cond_expr: a and (b, rule_conditions: { a: { type: is_sigma_rule } } }\n\
        - { type: replace_string, regex: '(', replacement: x }\n\
        - { type: replace_string, regex: '(a)', replacement: '\\2' }\n\
        - { type: drop_detection_item, detection_item_cond_not: true }\n\
        - { type: drop_detection_item, field_name_conditions: [{ type: include_fields, fields: [a], mode: glob }] }\n\
        postprocessing: [{ type: embed }]\nfinalizers: [{ type: concat }]\n";
    let said = pipelines(&[text]).unwrap_err();
    for expected in [
        "p0.yml:2:1: error: prioritty: unknown key\n  help: did you mean `priority`?",
        "p0.yml:4:11: error: transformations[0].type: there is no type `field_name_maping`\n  help: did you mean `field_name_mapping`?",
        "p0.yml:5:11: error: transformations[1].type: `nest` is not supported\n  help: write its items one after the other",
        "p0.yml:6:3: error: transformations[2]: the key `val` is missing",
        "p0.yml:7:78: error: transformations[3].rule_conditions[0].categroy: unknown key\n  help: did you mean `category`?",
        "p0.yml:8:51: error: transformations[4].rule_cond_op: `and` or `or` is expected, found `xor`",
        "p0.yml:9:53: error: transformations[5].rule_cond_expr: there is no condition `b`",
        "p0.yml:10:34: error: transformations[6].regex: not a regular expression: unclosed group",
        "p0.yml:11:54: error: transformations[7].replacement: the expression has no group `2`",
        "p0.yml:12:57: error: transformations[8].detection_item_cond_not: there are no `detection_item_conditions` for this",
        "p0.yml:13:99: error: transformations[9].field_name_conditions[0].mode: `glob` is not a value of this key",
        "p0.yml:14:17: error: postprocessing: `postprocessing` changes the text of queries",
        "p0.yml:15:13: error: finalizers: `finalizers` changes the text of queries",
    ] {
        assert!(said.contains(expected), "{expected}\nin\n{said}");
    }
}

#[test]
fn an_id_that_no_transformation_has_is_told() {
    let said = pipelines(&["transformations:\n- { id: mapped, type: field_name_suffix, suffix: x }\n\
         - { type: field_name_suffix, suffix: x, rule_conditions: [{ type: processing_item_applied, processing_item_id: maped }] }\n"]);
    assert_eq!(
        said.unwrap_err(),
        "p0.yml:3:3: error: transformations[1]: no transformation has the id `maped`\n  help: did you mean `mapped`?"
    );
}

const RULE: &str =
    "title: t\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\nlogsource: { product: windows }\ndetection: { s: { f: x }, condition: s }\n";

#[test]
fn what_a_step_cannot_do_refuses_the_rule_at_the_step() {
    let said = |pipeline: &str, rule: &str| load(&pipelines(&[pipeline]).unwrap(), rule).diagnostics.to_string();
    let template = "transformations:\n- { type: add_condition, template: true, conditions: { index: $service } }\n";
    let expected = "p0.yml:2:3: error: transformations[0]: `$service`: the log source of the rule `t` does not say it";
    assert!(said(template, RULE).starts_with(expected), "{}", said(template, RULE));
    let everything = said("transformations: [{ type: drop_detection_item }]", RULE);
    assert!(everything.starts_with("r.yml:4:") && everything.contains("pipelines drop everything that this rule asks"), "{everything}");
    let placeholder =
        said("vars: { a: x }\ntransformations: [{ type: value_placeholders }]", &RULE.replace("{ f: x }", "{ 'f|expand': '%b%' }"));
    assert!(placeholder.contains("r.yml:4:") && placeholder.contains("the placeholder `%b%` has no values"), "{placeholder}");
    let bad = said("transformations:\n- { type: add_condition, conditions: { 'index|contians': x } }\n", RULE);
    assert!(bad.starts_with("p0.yml:2:40: error: transformations[0].conditions.index|contians: there is no modifier"), "{bad}");
}

#[test]
fn names_and_values_cannot_multiply_without_bound() {
    let twice = "{ type: field_name_mapping, mapping: { f: [f, f] } },".repeat(40);
    let said = load(&pipelines(&[&format!("transformations: [{twice}]")]).unwrap(), RULE).diagnostics.to_string();
    assert!(said.contains("become more than 2000000 predicates"), "{said}");
    let values = vec!["v"; 2_000].join(", ");
    let many = pipelines(&[&format!("vars: {{ n: [{values}] }}\ntransformations: [{{ type: value_placeholders }}]")]).unwrap();
    let said = load(&many, &RULE.replace("{ f: x }", "{ 'f|expand': '%n%%n%%n%' }")).diagnostics.to_string();
    assert!(said.contains("a value becomes 8000000000 values"), "{said}");
}

#[test]
fn a_pipeline_counts_in_the_hash_of_the_rules_that_it_changes_only() {
    let hash = |pipeline: &str| load(&pipelines(&[pipeline]).unwrap(), RULE).rules.remove(0).hash;
    let none = hash("transformations: []");
    let other = hash("transformations: [{ type: field_name_suffix, suffix: x, rule_conditions: [{ type: logsource, product: linux }] }]");
    let some = hash("transformations: [{ type: field_name_suffix, suffix: x }]");
    assert!(none == other && none != some);
}
