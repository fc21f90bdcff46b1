//! YAML to spanned trees; the only module that knows the YAML crate.
//!
//! It works on the parser's events and not through serde, since those keep for every key and value its place, its
//! quotes and its spelling, and since the parser can go on with the next document after an error. What the events leave
//! to the receiver is done here: aliases, merge keys, equal keys, tags, and limits on depth and size.

use std::collections::HashMap;

use serde_yaml::granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Tag};

use crate::node::{Entry, Node, Value, shortened};
use crate::problem::{Finding, Findings, Spot};
use crate::scalar::{self, Meaning};
use crate::text::{SourceFile, Span};

/// Deepest nesting of lists and mappings, aliases followed. The manifest language needs 6.
const DEEPEST: usize = 64;
/// Most values of a file that come from aliases: an alias of an alias multiplies.
const MOST_REPEATED: usize = 100_000;
/// Most values of a file. A thousand containers have fifty thousand.
const MOST_VALUES: u32 = 500_000;
/// Most syntax errors listed for one file.
const MOST_ERRORS: usize = 20;

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Node,
    /// The first problem in words, if there is any.
    pub(crate) broken: Option<String>,
    /// Whether it was read to its end. If not, it serves for no more than its kind and name.
    pub(crate) whole: bool,
}

/// The documents of a file, as far as it could be read.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    /// Those without any content are left out.
    pub(crate) trees: Vec<Tree>,
    /// Whether something stands in the file that is in none of the trees: perhaps a whole object.
    pub(crate) lacking: bool,
}

/// Reads all documents of a file.
pub(crate) fn parse(file: usize, source: &SourceFile, findings: &mut Findings<'_>) -> Trees {
    let mut builder = Builder {
        file,
        next_id: 0,
        stack: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        broken: None,
        lacking: false,
        room: MOST_REPEATED,
    };
    if let Some(finding) = forbidden_character(file, &source.text) {
        findings.add(finding);
        return Trees { trees: Vec::new(), lacking: true };
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = DEEPEST;
    options.block_nesting_limit = DEEPEST;
    let mut parser = Parser::new_from_str_with_options(&source.text, options);
    let mut trees = Vec::new();
    let mut errors = 0;
    while let Some(result) = parser.next_event() {
        match result {
            Ok((Event::DocumentEnd, _)) => trees.extend(builder.finish(true)),
            Ok((event, span)) => {
                let span = byte_span(&source.text, span.start.byte_offset(), span.end.byte_offset());
                builder.event(event, span, findings);
                if builder.next_id > MOST_VALUES {
                    let message = format!("the file has more than {MOST_VALUES} values from here on: part it");
                    builder.fail(Finding::new(Spot { file, span }, message), findings);
                    trees.extend(builder.finish(false));
                    builder.lacking = true;
                    break;
                }
            }
            Err(error) => {
                builder.fail(syntax(file, &source.text, &error), findings);
                let tree = builder.finish(false);
                builder.lacking |= tree.is_none();
                trees.extend(tree);
                errors += 1;
                let next = if errors < MOST_ERRORS { parser.proceed_next_document().ok() } else { None };
                builder.lacking |= next.is_none();
                if next != Some(true) {
                    break;
                }
            }
        }
    }
    Trees { trees, lacking: builder.lacking }
}

/// Finds a character that no text file has. The parser would take a NUL for the end of the file.
fn forbidden_character(file: usize, text: &str) -> Option<Finding> {
    let (start, found) =
        text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'))?;
    let at = Spot { file, span: Span { start, end: start + found.len_utf8() } };
    let message = format!("the control character U+{:04X} cannot stand in YAML", u32::from(found));
    Some(Finding::new(at, message).help("in double quotes, write it as an escape, as \"\\x1b\""))
}

fn byte_span(text: &str, start: Option<usize>, end: Option<usize>) -> Span {
    let start = start.unwrap_or_default().min(text.len());
    let end = end.unwrap_or(start).clamp(start, text.len());
    Span { start, end }
}

fn syntax(file: usize, text: &str, error: &ScanError) -> Finding {
    let marker = error.marker();
    let by_characters = || text.char_indices().nth(marker.index()).map_or(text.len(), |(offset, _)| offset);
    let mut start = marker.byte_offset().unwrap_or_else(by_characters).min(text.len());
    // An error at the very end is shown at the last character that stands there.
    if text.get(start..).is_some_and(|rest| rest.trim().is_empty()) {
        start = text.trim_end().char_indices().next_back().map_or(0, |(offset, _)| offset);
    }
    let at = Spot { file, span: Span { start, end: start } };
    let help = match error.kind() {
        ErrorKind::TabInIndentation | ErrorKind::TabInBlockIndentation | ErrorKind::TabNotAllowed => {
            Some("YAML is indented with spaces only")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            Some("a key is written `key: value`, with a space after the colon")
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            Some("the keys of one mapping begin in the same column")
        }
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::DocumentIndicatorInQuotedScalar => Some("a quote was opened before this and is not closed"),
        ErrorKind::UnexpectedCharacter { .. } => Some("put the value in quotes"),
        _ => None,
    };
    Finding::new(at, format!("not YAML: {}", error.kind())).maybe_help(help.map(str::to_owned))
}

/// A list or mapping whose end was not seen yet.
struct Open {
    id: u32,
    span: Span,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, keys: HashMap<String, Span>, merged: Vec<Node>, key: Option<Key> },
}

enum Key {
    Named(String, Span),
    /// `<<`: the value's entries are taken over.
    Merge,
    /// Something that cannot be a key, or a second one of a name: its value is dropped.
    Dropped,
}

struct Builder {
    file: usize,
    next_id: u32,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    broken: Option<String>,
    /// Whether something was dropped that may have been an object of its own.
    lacking: bool,
    /// How many more values may come from aliases.
    room: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span, findings: &mut Findings<'_>) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let mut meaning = if style == ScalarStyle::Plain { scalar::resolve(&text) } else { Meaning::Text };
                if let Some(tag) = tag.as_deref() {
                    meaning = self.tagged(tag, &text, meaning, span, findings);
                }
                if text.contains('\0') {
                    let message = "a text with a NUL character cannot be handed to the kernel";
                    self.fail(Finding::new(self.spot(span), message), findings);
                }
                // The parser gives `~` for a value that is not there at all.
                let text = if span.start == span.end && style == ScalarStyle::Plain {
                    String::new()
                } else {
                    text.into_owned()
                };
                let node = Node { id: self.id(), span, value: Value::Scalar { text, meaning } };
                self.complete(node, anchor, findings);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.core_only(tag.as_deref(), span, findings);
                self.open(Content::List(Vec::new()), span, anchor);
            }
            Event::MappingStart(_, anchor, tag) => {
                self.core_only(tag.as_deref(), span, findings);
                self.open(
                    Content::Map { entries: Vec::new(), keys: HashMap::new(), merged: Vec::new(), key: None },
                    span,
                    anchor,
                );
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span.end, findings),
            Event::Alias(anchor) => self.alias(anchor, span, findings),
            Event::UnresolvedAlias(name) => {
                let message = format!("`*{name}` repeats the value marked `&{name}`, and there is none before it");
                let finding = Finding::new(self.spot(span), message);
                self.fail(finding.help("put the text in quotes if no alias was meant"), findings);
                let null =
                    Node { id: self.id(), span, value: Value::Scalar { text: String::new(), meaning: Meaning::Null } };
                self.complete(null, 0, findings);
            }
            _ => {}
        }
    }

    fn id(&mut self) -> u32 {
        self.next_id = self.next_id.saturating_add(1);
        self.next_id
    }

    fn spot(&self, span: Span) -> Spot {
        Spot { file: self.file, span }
    }

    fn fail(&mut self, finding: Finding, findings: &mut Findings<'_>) {
        self.broken.get_or_insert_with(|| findings.in_words(&finding));
        findings.add(finding);
    }

    fn tagged(&mut self, tag: &Tag, text: &str, plain: Meaning, span: Span, findings: &mut Findings<'_>) -> Meaning {
        match tag.core_suffix() {
            Some("str") => Meaning::Text,
            Some("int" | "float" | "bool" | "null") => scalar::resolve(text),
            _ if tag.original() == "!" => Meaning::Text,
            _ => {
                self.core_only(Some(tag), span, findings);
                plain
            }
        }
    }

    fn core_only(&mut self, tag: Option<&Tag>, span: Span, findings: &mut Findings<'_>) {
        if let Some(tag) = tag.filter(|tag| tag.core_suffix().is_none()) {
            let message = format!("the tag `{}` has no meaning here", shortened(&tag.original()));
            self.fail(Finding::new(self.spot(span), message), findings);
        }
    }

    fn open(&mut self, content: Content, span: Span, anchor: usize) {
        let id = self.id();
        self.stack.push(Open { id, span, anchor, content });
    }

    fn close(&mut self, end: usize, findings: &mut Findings<'_>) {
        let Some(Open { id, span, anchor, content }) = self.stack.pop() else { return };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { mut entries, mut keys, merged, .. } => {
                let merged = merged.into_iter().map(|node| node.value);
                for entry in merged.flat_map(|value| if let Value::Map(entries) = value { entries } else { Vec::new() })
                {
                    if keys.insert(entry.key.clone(), entry.key_span).is_none() {
                        entries.push(entry);
                    }
                }
                Value::Map(entries)
            }
        };
        let span = Span { start: span.start, end: end.max(span.end) };
        self.complete(Node { id, span, value }, anchor, findings);
    }

    /// Puts a whole value where it belongs: below the list or mapping that is open, or at the root.
    fn complete(&mut self, node: Node, anchor: usize, findings: &mut Findings<'_>) {
        if anchor != 0 {
            self.keep(anchor, &node, findings);
        }
        let file = self.file;
        let outermost = self.stack.len() == 1;
        let Some(open) = self.stack.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        let (entries, keys, merged, key) = match &mut open.content {
            Content::List(items) => return items.push(node),
            Content::Map { entries, keys, merged, key } => (entries, keys, merged, key),
        };
        let finding = match key.take() {
            None => {
                let (next, finding) = self::key(file, node, keys);
                // Where `kind` and `metadata` stand twice, a `---` was forgotten before another object.
                self.lacking |= outermost && matches!(next, Key::Dropped);
                *key = Some(next);
                finding
            }
            Some(Key::Dropped) => None,
            Some(Key::Named(key, key_span)) => {
                // A value that is not there has its place at its key.
                let span = if node.span.start == node.span.end { key_span } else { node.span };
                entries.push(Entry { key, key_span, value: Node { span, ..node } });
                None
            }
            Some(Key::Merge) => match node.value {
                Value::Map(_) => {
                    merged.push(node);
                    None
                }
                Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                    merged.extend(items);
                    None
                }
                _ => {
                    let message = format!("`<<` takes over the entries of a mapping, and here is {}", node.describe());
                    Some(Finding::new(Spot { file, span: node.span }, message))
                }
            },
        };
        if let Some(finding) = finding {
            self.fail(finding, findings);
        }
    }

    /// Remembers a value for the aliases to come. Anchors may stand in one another, so that what is kept counts as repeated.
    fn keep(&mut self, anchor: usize, node: &Node, findings: &mut Findings<'_>) {
        match size(node, self.room, DEEPEST) {
            Some(size) => {
                self.room -= size;
                self.anchors.insert(anchor, node.clone());
            }
            None => {
                self.room = 0;
                let message = "anchors make this document too large";
                self.fail(Finding::new(self.spot(node.span), message), findings);
            }
        }
    }

    fn alias(&mut self, anchor: usize, span: Span, findings: &mut Findings<'_>) {
        let depth = DEEPEST.saturating_sub(self.stack.len());
        let copied = self.anchors.get(&anchor).map(|node| (size(node, self.room, depth), node));
        let refused = match copied {
            Some((Some(size), node)) => {
                self.room = self.room.saturating_sub(size);
                let mut copy = node.clone();
                self.renumber(&mut copy);
                return self.complete(copy, 0, findings);
            }
            Some((None, _)) => {
                // Counting up to the limit again for every further alias would take long itself.
                self.room = 0;
                "aliases make this document too large"
            }
            None => "an alias stands in the value that it repeats",
        };
        self.fail(Finding::new(self.spot(span), refused), findings);
        let null = Node { id: self.id(), span, value: Value::Scalar { text: String::new(), meaning: Meaning::Null } };
        self.complete(null, 0, findings);
    }

    fn renumber(&mut self, node: &mut Node) {
        node.id = self.id();
        match &mut node.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.renumber(item)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| self.renumber(&mut entry.value)),
        }
    }

    /// Ends the document; what a syntax error left open is closed, so that kind and name may still be read.
    fn finish(&mut self, whole: bool) -> Option<Tree> {
        while let Some(Open { id, span, content, .. }) = self.stack.pop() {
            let value = match content {
                Content::List(items) => Value::List(items),
                Content::Map { entries, .. } => Value::Map(entries),
            };
            let node = Node { id, span, value };
            match self.stack.last_mut().map(|open| &mut open.content) {
                Some(Content::List(items)) => items.push(node),
                Some(Content::Map { entries, key, .. }) => {
                    if let Some(Key::Named(key, key_span)) = key.take() {
                        entries.push(Entry { key, key_span, value: node });
                    }
                }
                None => self.root = self.root.take().or(Some(node)),
            }
        }
        self.anchors.clear();
        let broken = self.broken.take();
        self.root.take().filter(|root| broken.is_some() || !root.is_null()).map(|root| Tree { root, broken, whole })
    }
}

/// Makes a key of a value, or says why it is none.
fn key(file: usize, node: Node, keys: &mut HashMap<String, Span>) -> (Key, Option<Finding>) {
    let span = node.span;
    let at = Spot { file, span };
    let found = node.describe();
    match node.value {
        Value::Scalar { meaning: Meaning::Null, .. } => {
            (Key::Dropped, Some(Finding::new(at, "a key is missing before the `:`")))
        }
        Value::Scalar { text, .. } if text == "<<" => (Key::Merge, None),
        Value::Scalar { text, .. } => match keys.get(&text) {
            None => {
                keys.insert(text.clone(), span);
                (Key::Named(text, span), None)
            }
            Some(first) => {
                let message = format!("`{}` stands twice in one mapping", shortened(&text));
                let first = Spot { file, span: *first };
                (Key::Dropped, Some(Finding::new(at, message).label("second time").also(first, "first time")))
            }
        },
        Value::List(_) | Value::Map(_) => {
            let message = format!("a key is text, and here is {found}");
            (Key::Dropped, Some(Finding::new(at, message)))
        }
    }
}

/// Counts the values of a tree; nothing where there are more than `room` or they lie deeper than `depth`.
fn size(node: &Node, room: usize, depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    let mut total = 1;
    let children: Box<dyn Iterator<Item = &Node>> = match &node.value {
        Value::Scalar { .. } => Box::new(std::iter::empty()),
        Value::List(items) => Box::new(items.iter()),
        Value::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
    };
    for child in children {
        total += size(child, room.checked_sub(total)?, depth)?;
    }
    (total <= room).then_some(total)
}
