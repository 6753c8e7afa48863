//! From source to VRL's tree and program: parsing, what we refuse before VRL's compiler sees it, and VRL's
//! diagnostics as ours.

use std::path::Path;
use std::sync::LazyLock;

use ::vrl::compiler::{CompileConfig, Compiler, Function, Program, TypeState};
use ::vrl::diagnostic::{DiagnosticList, DiagnosticMessage, Note};
use ::vrl::parser::ast::{self, Node, RootExpr};
use ::vrl::path::{OwnedSegment, OwnedTargetPath, OwnedValuePath, PathPrefix};

use crate::error::{Diagnostic, Diagnostics, nearest};

/// Longest source: the parser and the compiler recurse, and a program of this size is twenty pages.
const SOURCE_BYTES_MAX: usize = 32 * 1024;

/// Deepest nesting of expressions (`a || b || c` nests once per operator): keeps the compiler's recursion
/// within a thread's stack. A longer list belongs into `includes([...], .field)` or a rule.
const EXPRESSION_DEPTH_MAX: usize = 128;

/// Highest index that a program may assign: VRL fills an array with nulls up to it.
const INDEX_MAX: isize = 1023;

/// What a condition may not call, and why. The functions that this build leaves out are named too, so that
/// the answer is not "undefined".
const REFUSED: [(&str, &str); 17] = [
    ("dns_lookup", "asks the network"),
    ("get_env_var", "reads the environment"),
    ("get_hostname", "asks the system"),
    ("get_timezone_name", "asks the system"),
    ("http_request", "asks the network"),
    ("log", "writes to the program's own log"),
    ("now", "reads the clock"),
    ("parse_klog", "takes the missing year from the clock"),
    ("parse_linux_authorization", "takes the missing year from the clock"),
    ("parse_syslog", "takes the missing year from the clock"),
    ("random_bool", "is random"),
    ("random_bytes", "is random"),
    ("random_float", "is random"),
    ("random_int", "is random"),
    ("reverse_dns", "asks the network"),
    ("uuid_v4", "is random"),
    ("uuid_v7", "is random"),
];

static FUNCTIONS: LazyLock<Vec<Box<dyn Function>>> = LazyLock::new(::vrl::stdlib::all);

/// Where a source stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) source: &'a str,
    pub(super) file: &'a Path,
    pub(super) line: usize,
    pub(super) path: &'a str,
}

/// What the source is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Condition,
    Transform,
}

/// What the tree says that VRL's `ProgramInfo` does not.
#[derive(Debug, Default)]
pub(super) struct Facts {
    calls: Vec<(String, usize)>,
    reads: Vec<(OwnedTargetPath, usize)>,
    writes: Vec<(OwnedTargetPath, usize)>,
    /// What `del` deletes.
    pub(super) deleted: Vec<OwnedTargetPath>,
    /// Whether `unnest` copies the whole event, whatever path it is given.
    pub(super) copies_whole: bool,
    too_deep: Option<usize>,
}

impl Place<'_> {
    /// An error at a byte of the source.
    pub(super) fn error(&self, offset: usize, message: impl Into<String>) -> Diagnostic {
        let before = self.source.get(..offset).unwrap_or(self.source);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.line + before.matches('\n').count();
        let column = before.get(start..).map_or(0, |text| text.chars().count()) + 1;
        Diagnostic::error(self.file, line, column, self.path, message)
    }

    /// VRL's errors as ours.
    pub(super) fn refuse(&self, list: DiagnosticList) -> Diagnostics {
        Diagnostics(list.into_iter().filter(::vrl::diagnostic::Diagnostic::is_problem).map(|d| self.convert(&d)).collect())
    }

    fn convert(&self, diagnostic: &::vrl::diagnostic::Diagnostic) -> Diagnostic {
        let primary = diagnostic.labels.iter().find(|label| label.primary).or_else(|| diagnostic.labels.first());
        let mut message = diagnostic.message.clone();
        if let Some(label) = primary.filter(|label| !label.message.is_empty() && !message.contains(&label.message)) {
            message = format!("{message}: {}", label.message);
        }
        let context = diagnostic.labels.iter().filter(|label| !label.primary).map(|label| label.message.clone());
        let notes = diagnostic.notes.iter().filter_map(|note| match note {
            Note::Basic(text) | Note::Hint(text) | Note::Example(text) | Note::UserErrorMessage(text) => Some(text.clone()),
            _ => None,
        });
        let help: Vec<String> = context.chain(notes).filter(|text| !text.trim().is_empty()).collect();
        let error = self.error(primary.map_or(0, |label| label.span.start()), message);
        if help.is_empty() { error } else { error.help(help.join("\n  ")) }
    }
}

/// Parses and checks what VRL's compiler does not know about.
pub(super) fn parse(place: &Place<'_>, purpose: Use) -> Result<(ast::Program, Facts), Diagnostics> {
    if place.source.len() > SOURCE_BYTES_MAX {
        return Err(place.error(0, format!("a program of more than {SOURCE_BYTES_MAX} bytes")).into());
    }
    let tree = ::vrl::parser::parse(place.source).map_err(|error| {
        let error: Box<dyn DiagnosticMessage> = Box::new(error);
        place.refuse(vec![error].into())
    })?;
    let mut facts = Facts::default();
    for root in tree.iter() {
        if let RootExpr::Expr(expr) = root.inner() {
            facts.expr(expr, 0);
        }
    }
    let diagnostics = facts.check(place, purpose);
    diagnostics.into_result((tree, facts))
}

/// VRL's compiler.
pub(super) fn compile(tree: ast::Program, purpose: Use) -> Result<Program, DiagnosticList> {
    let mut config = CompileConfig::default();
    if purpose == Use::Condition {
        config.set_read_only();
    }
    Compiler::compile(&FUNCTIONS, tree, &TypeState::default(), config).map(|result| result.program)
}

/// The segments up to the first index: the field that the path reads or writes.
pub(super) fn field_of(path: &OwnedTargetPath) -> &[OwnedSegment] {
    let segments = &path.path.segments;
    let end = segments.iter().position(|segment| matches!(segment, OwnedSegment::Index(_))).unwrap_or(segments.len());
    segments.get(..end).unwrap_or(segments)
}

/// The name of a field: `source.ip`, `%native.src`; empty for `.`.
pub(super) fn name_of(prefix: PathPrefix, field: &[OwnedSegment]) -> String {
    let mut name = String::from(if prefix == PathPrefix::Metadata { "%" } else { "" });
    for (index, segment) in field.iter().enumerate() {
        if let OwnedSegment::Field(key) = segment {
            name.push_str(if index > 0 { "." } else { "" });
            name.push_str(key);
        }
    }
    name
}

impl Facts {
    fn check(&self, place: &Place<'_>, purpose: Use) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        if let Some(offset) = self.too_deep {
            let message = format!("expressions nested more than {EXPRESSION_DEPTH_MAX} deep");
            diagnostics.push(place.error(offset, message).help("write `includes([...], .field)` instead of a long chain of `||`"));
        }
        for (path, offset) in &self.reads {
            check_name(path, *offset, place, &mut diagnostics);
        }
        for (path, offset) in &self.writes {
            check_name(path, *offset, place, &mut diagnostics);
            check_write(path, *offset, place, &mut diagnostics);
        }
        if purpose == Use::Condition {
            for (call, offset) in &self.calls {
                if let Some((_, why)) = REFUSED.iter().find(|(name, _)| name == call) {
                    let message = format!("`{call}` cannot be used in a condition: it {why}");
                    diagnostics.push(place.error(*offset, message).help("a condition must answer the same whenever it is asked"));
                }
            }
        }
        diagnostics
    }

    fn expr(&mut self, node: &Node<ast::Expr>, depth: usize) {
        if depth > EXPRESSION_DEPTH_MAX {
            self.too_deep.get_or_insert_with(|| node.start());
            return;
        }
        let depth = depth + 1;
        match node.inner() {
            ast::Expr::Literal(_) | ast::Expr::Variable(_) | ast::Expr::Break(_) => {}
            ast::Expr::Container(container) => self.container(container.inner(), depth),
            ast::Expr::IfStatement(statement) => self.if_statement(statement.inner(), depth),
            ast::Expr::Op(op) => {
                self.expr(&op.0, depth);
                self.expr(&op.2, depth);
            }
            ast::Expr::Assignment(assignment) => self.assignment(assignment.inner(), depth),
            ast::Expr::Query(query) => self.query(query.inner(), depth),
            ast::Expr::FunctionCall(call) => self.call(call.inner(), depth),
            ast::Expr::Unary(unary) => {
                let ast::Unary::Not(not) = unary.inner();
                self.expr(&not.inner().clone().take().1, depth);
            }
            ast::Expr::Abort(abort) => abort.message.iter().for_each(|message| self.expr(message, depth)),
            ast::Expr::Return(result) => self.expr(&result.expr, depth),
        }
    }

    fn container(&mut self, container: &ast::Container, depth: usize) {
        match container {
            ast::Container::Group(group) => self.expr(&group.inner().0, depth),
            ast::Container::Block(block) => block.0.iter().for_each(|expr| self.expr(expr, depth)),
            ast::Container::Array(array) => array.inner().clone().into_iter().for_each(|expr| self.expr(&expr, depth)),
            ast::Container::Object(object) => object.inner().clone().into_iter().for_each(|(_, expr)| self.expr(&expr, depth)),
        }
    }

    fn if_statement(&mut self, statement: &ast::IfStatement, depth: usize) {
        match statement.predicate.inner() {
            ast::Predicate::One(expr) => self.expr(expr, depth),
            ast::Predicate::Many(exprs) => exprs.iter().for_each(|expr| self.expr(expr, depth)),
        }
        let blocks = std::iter::once(&statement.if_node).chain(&statement.else_node);
        blocks.for_each(|block| block.inner().0.iter().for_each(|expr| self.expr(expr, depth)));
    }

    fn assignment(&mut self, assignment: &ast::Assignment, depth: usize) {
        let (targets, expr) = match assignment {
            ast::Assignment::Single { target, expr, .. } => (vec![target], expr),
            ast::Assignment::Infallible { ok, err, expr, .. } => (vec![ok, err], expr),
        };
        for target in targets {
            let path = match target.inner() {
                ast::AssignmentTarget::External(path) => Some(path.clone().unwrap_or_else(OwnedTargetPath::event_root)),
                ast::AssignmentTarget::Query(query) => external(query),
                ast::AssignmentTarget::Internal(..) | ast::AssignmentTarget::Noop => None,
            };
            self.writes.extend(path.map(|path| (path, target.start())));
        }
        self.expr(expr, depth);
    }

    fn query(&mut self, query: &ast::Query, depth: usize) {
        match query.target.inner() {
            ast::QueryTarget::Internal(_) => {}
            ast::QueryTarget::External(_) => self.reads.extend(external(query).map(|path| (path, query.target.start()))),
            ast::QueryTarget::FunctionCall(call) => self.call(call, depth),
            ast::QueryTarget::Container(container) => self.container(container, depth),
        }
    }

    fn call(&mut self, call: &ast::FunctionCall, depth: usize) {
        let name: &str = call.ident.inner();
        self.calls.push((name.to_owned(), call.ident.start()));
        for argument in &call.arguments {
            let target = match argument.inner().expr.inner() {
                ast::Expr::Query(query) => external(query.inner()),
                _ => None,
            };
            match (name, target) {
                ("del", Some(path)) => {
                    self.writes.push((path.clone(), argument.start()));
                    self.deleted.push(path);
                }
                ("unnest", Some(path)) => {
                    self.copies_whole = true;
                    self.reads.push((OwnedTargetPath::root(path.prefix), argument.start()));
                }
                _ => {}
            }
            self.expr(&argument.inner().expr, depth);
        }
        call.closure.iter().for_each(|closure| closure.inner().block.inner().0.iter().for_each(|expr| self.expr(expr, depth)));
    }
}

fn external(query: &ast::Query) -> Option<OwnedTargetPath> {
    match query.target.inner() {
        ast::QueryTarget::External(prefix) => Some(OwnedTargetPath { prefix: *prefix, path: query.path.inner().clone() }),
        _ => None,
    }
}

fn check_name(path: &OwnedTargetPath, offset: usize, place: &Place<'_>, diagnostics: &mut Diagnostics) {
    let OwnedValuePath { segments } = &path.path;
    match (path.prefix, segments.first()) {
        (PathPrefix::Metadata, Some(OwnedSegment::Field(root))) if matches!(&**root, "native" | "hydrant") => {}
        (PathPrefix::Metadata, Some(OwnedSegment::Field(root))) => {
            let near = nearest(root, ["hydrant", "native"]);
            let help = near.map_or_else(
                || "`%native` holds the decoder's own fields, `%hydrant` ours".to_owned(),
                |near| format!("did you mean `%{near}`?"),
            );
            diagnostics.push(place.error(offset, format!("there is no `%{}`", &**root)).help(help));
        }
        (PathPrefix::Metadata, _) => {
            let help = "`%native` holds the decoder's own fields, `%hydrant` ours";
            diagnostics.push(place.error(offset, "`%` alone is not a field").help(help));
        }
        (PathPrefix::Event, _) => {
            let dotted = segments.iter().find_map(|segment| match segment {
                OwnedSegment::Field(key) if key.contains('.') => Some(key),
                _ => None,
            });
            if let Some(key) = dotted {
                let message = format!("a canonical name has no dot inside a segment: \"{}\"", &**key);
                diagnostics.push(place.error(offset, message).help(format!("write `.{}` without quotes", &**key)));
            }
        }
    }
}

fn check_write(path: &OwnedTargetPath, offset: usize, place: &Place<'_>, diagnostics: &mut Diagnostics) {
    let first = path.path.segments.first();
    if path.prefix == PathPrefix::Metadata && matches!(first, Some(OwnedSegment::Field(root)) if &**root == "native") {
        let help = "assign to a canonical field (`.name`) instead";
        diagnostics.push(place.error(offset, "`%native` is what the sender said and cannot be changed").help(help));
    }
    let far = path.path.segments.iter().any(|segment| matches!(segment, OwnedSegment::Index(index) if index.abs() > INDEX_MAX));
    if far {
        diagnostics.push(place.error(offset, format!("an index beyond {INDEX_MAX} cannot be assigned")));
    }
}
