//! Why a value does not fit its type, and where.

use std::fmt;
use std::net::IpAddr;

use serde::de;

use super::Context;
use crate::node::{Node, Value, shortened};
use crate::problem::{Finding, Spot};
use crate::scalar::Meaning;
use crate::suggest;

/// An error, which learns its place from the innermost value that it passes on its way out.
#[derive(Debug)]
pub(super) struct DecodeError {
    cause: Cause,
    located: Option<Located>,
}

#[derive(Debug)]
struct Located {
    id: u32,
    /// Boxed, since every result carries room for it.
    finding: Option<Box<Finding>>,
}

#[derive(Debug)]
pub(super) enum Cause {
    /// A sentence of the type's own.
    Said(String),
    /// Another type was expected, in words.
    Type { expected: String },
    /// One of these words was expected.
    Word { expected: &'static [&'static str] },
    /// A required field is not there. It was noted when the mapping was entered.
    Missing,
}

impl DecodeError {
    pub(super) fn new(cause: Cause) -> DecodeError {
        DecodeError { cause, located: None }
    }

    /// Gives the error its place, unless it has one.
    pub(super) fn at(mut self, node: &Node, context: &Context) -> DecodeError {
        if self.located.is_none() {
            let finding = self.cause.word(node, context).map(Box::new);
            self.located = Some(Located { id: node.id, finding });
        }
        self
    }

    /// Adds advice that is better than the general one.
    pub(super) fn hinted(mut self, hint: Option<String>) -> DecodeError {
        if let Some(located) = &mut self.located {
            located.finding = located.finding.take().map(|finding| Box::new(finding.maybe_help(hint)));
        }
        self
    }

    /// Gives the value that is wrong, and what is to be said about it.
    pub(super) fn into_finding(self) -> (u32, Option<Finding>) {
        self.located.map_or((0, None), |located| (located.id, located.finding.map(|finding| *finding)))
    }
}

impl Cause {
    /// Words the finding; nothing where it only follows from what was said already.
    fn word(&self, node: &Node, context: &Context) -> Option<Finding> {
        let spot = |span| Spot { file: context.file, span };
        let follows = node.entries().iter().any(|entry| context.is_dead(&entry.value));
        if follows {
            return None;
        }
        match self {
            Cause::Missing => None,
            Cause::Said(message) => Some(said(message, node, context)),
            Cause::Type { .. } | Cause::Word { .. } if node.is_null() => {
                let finding = Finding::new(spot(node.span), "a value is missing");
                Some(finding.help("write a value, or leave the field out"))
            }
            Cause::Type { expected } => {
                let message = format!("expected {expected}, found {}", node.describe());
                let finding = Finding::new(spot(node.span), message).label(format!("expected {expected}"));
                Some(finding.maybe_help(type_help(expected, node)))
            }
            Cause::Word { expected } => {
                let listed: Vec<String> = expected.iter().map(|word| format!("`{word}`")).collect();
                let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
                let listed = suggest::list(&listed);
                let Some(text) = node.text() else {
                    return Some(Finding::new(
                        spot(node.span),
                        format!("expected {listed}, found {}", node.describe()),
                    ));
                };
                let message = format!("`{}` is not known here: write {listed}", shortened(text));
                let nearest = suggest::nearest(text, expected.iter().copied());
                let help = nearest.map(|word| format!("did you mean `{word}`?"));
                Some(Finding::new(spot(node.span), message).maybe_help(help))
            }
        }
    }
}

/// Places a type's own sentence: at the field that it names in backticks, or at the value.
fn said(message: &str, node: &Node, context: &Context) -> Finding {
    let spot = |span| Spot { file: context.file, span };
    let Value::Map(entries) = &node.value else {
        let text = if let Value::Scalar { text, .. } = &node.value { shortened(text) } else { String::new() };
        let message = match message {
            _ if text.is_empty() || message.contains(&format!("`{text}`")) => message.to_owned(),
            // The messages of addresses say nothing of what they are about. What is an address but not accepted as one
            // stands where a subnet belongs.
            "invalid IP address syntax" if text.parse::<IpAddr>().is_ok() => {
                format!("`{text}` is not a subnet: the length of its prefix is missing, as in {text}/24")
            }
            "invalid IP address syntax" if text.contains('/') => format!("`{text}` is not a subnet in prefix notation"),
            "invalid IP address syntax" => format!("`{text}` is not an IP address"),
            "invalid IPv4 address syntax" => format!("`{text}` is not an IPv4 address"),
            "invalid IPv6 address syntax" => format!("`{text}` is not an IPv6 address"),
            _ => format!("`{text}`: {message}"),
        };
        return Finding::new(spot(node.span), message);
    };
    let named = message.split('`').skip(1).step_by(2);
    let named: Vec<&crate::node::Entry> = named
        .filter_map(|word| entries.iter().find(|entry| Some(entry.key.as_str()) == word.split(':').next()))
        .collect();
    match named.as_slice() {
        [first, .., second] if message.contains("only one of") => {
            Finding::new(spot(second.key_span), message).also(spot(first.key_span), "the other one")
        }
        [only, ..] if message.starts_with(&format!("`{}` is", only.key)) => {
            Finding::new(spot(only.value.span), message)
        }
        [first, ..] => Finding::new(spot(first.key_span), message),
        [] => Finding::new(spot(node.head()), message),
    }
}

fn type_help(expected: &str, node: &Node) -> Option<String> {
    let scalar = match &node.value {
        Value::Scalar { text, meaning } => Some((shortened(text), *meaning)),
        _ => None,
    };
    // Docker and Compose write an environment as a list.
    if let (super::deserializer::MAPPING, Value::List(items)) = (expected, &node.value)
        && let Some((name, value)) = items.first().and_then(Node::text).and_then(|text| text.split_once('='))
    {
        return Some(format!("write it as a mapping: {{{name}: \"{value}\"}}"));
    }
    match (expected, scalar) {
        (_, Some((text, meaning))) if expected == super::deserializer::TEXT && meaning != Meaning::Text => {
            Some(format!("put it in quotes: \"{text}\""))
        }
        (_, Some((text, Meaning::Text))) if expected == super::deserializer::BOOLEAN => {
            match text.to_ascii_lowercase().as_str() {
                "yes" | "y" | "on" | "true" => Some("write true, without quotes".to_owned()),
                "no" | "n" | "off" | "false" => Some("write false, without quotes".to_owned()),
                _ => None,
            }
        }
        (_, Some((text, Meaning::Text))) if expected.starts_with("a whole number") && text.parse::<u64>().is_ok() => {
            Some(format!("write {text}, without quotes"))
        }
        (_, Some((text, _))) if expected == super::deserializer::LIST => Some(format!("write it as a list: [{text}]")),
        _ => None,
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Said(message) => f.write_str(message),
            Cause::Type { expected } => write!(f, "expected {expected}"),
            Cause::Word { expected } => write!(f, "expected one of {}", expected.join(", ")),
            Cause::Missing => f.write_str("a field is missing"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        DecodeError::new(Cause::Said(message.to_string()))
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        DecodeError::new(Cause::Type { expected: expected.to_string() })
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        DecodeError::new(Cause::Type { expected: expected.to_string() })
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        DecodeError::new(Cause::Word { expected })
    }

    fn missing_field(_: &'static str) -> Self {
        DecodeError::new(Cause::Missing)
    }
}
