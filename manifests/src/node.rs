//! A document as a tree in which every key and value knows its place.

use std::collections::BTreeSet;

use crate::scalar::Meaning;
use crate::text::Span;

/// A value with its place. The number is unique within a file, also where an alias repeats a value.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: u32,
    pub(crate) span: Span,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar { text: String, meaning: Meaning },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// The numbers of nodes that were wrong: a typed object was made without them.
pub(crate) type Dead = BTreeSet<u32>;

/// One step down a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(field: &'a str) -> Self {
        Step::Field(field)
    }
}

impl<'a> From<&'a String> for Step<'a> {
    fn from(field: &'a String) -> Self {
        Step::Field(field)
    }
}

impl From<usize> for Step<'_> {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// Writes a way down a tree: `way!["spec", "subnets", 0, "gateway"]`.
macro_rules! way {
    ($($step:expr),* $(,)?) => { [$($crate::node::Step::from($step)),*] };
}
pub(crate) use way;

impl Node {
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Gives the text of a scalar that is text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, meaning: Meaning::Text } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar { meaning: Meaning::Null, .. })
    }

    /// Says what stands here, for "found …".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { meaning: Meaning::Null, .. } => "nothing".to_owned(),
            Value::Scalar { text, meaning: Meaning::Bool(_) } => format!("the boolean `{text}`"),
            Value::Scalar { text, meaning: Meaning::Text } => format!("the text `{}`", shortened(text)),
            Value::Scalar { text, .. } => format!("the number `{}`", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// Gives the place of a mapping as a whole: its first key, or its braces where it is empty.
    pub(crate) fn head(&self) -> Span {
        match &self.value {
            Value::Map(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            _ => self.span,
        }
    }

    /// Finds the value at a path, or the nearest one on the way to it. Dead elements of a list do not count, as the
    /// typed object does not have them.
    pub(crate) fn value_at(&self, path: &[Step<'_>], dead: &Dead) -> Span {
        self.walk(path, dead).map_or_else(|node| node.head(), |(_, node)| node.span)
    }

    /// Finds the key at the end of a path, or the nearest place on the way to it.
    pub(crate) fn key_at(&self, path: &[Step<'_>], dead: &Dead) -> Span {
        self.walk(path, dead).map_or_else(|node| node.head(), |(key, node)| key.unwrap_or_else(|| node.head()))
    }

    /// Tells whether something stands at a path.
    pub(crate) fn has(&self, path: &[Step<'_>], dead: &Dead) -> bool {
        self.walk(path, dead).is_ok()
    }

    fn walk(&self, path: &[Step<'_>], dead: &Dead) -> Result<(Option<Span>, &Node), &Node> {
        let mut here = self;
        let mut key = None;
        for step in path {
            let next = match (&here.value, step) {
                (Value::Map(entries), Step::Field(field)) => {
                    entries.iter().find(|entry| entry.key == *field).map(|entry| (Some(entry.key_span), &entry.value))
                }
                (Value::List(items), Step::Index(index)) => {
                    items.iter().filter(|item| !dead.contains(&item.id)).nth(*index).map(|item| (None, item))
                }
                _ => None,
            };
            (key, here) = next.ok_or(here)?;
        }
        Ok((key, here))
    }
}

/// Cuts a long text for a message.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && line.chars().count() <= LONGEST {
        return text.to_owned();
    }
    line.chars().take(LONGEST).chain(['…']).collect()
}
