//! serde's view of a spanned tree.
//!
//! Types are strict: text is not a number and a number is not text, since `version: 1.10` would otherwise become `1.1`.
//! Types that take several forms ask with `deserialize_any` and get the form that stands there.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::error::{Cause, DecodeError};
use super::required::required;
use super::{Context, hints};
use crate::node::{Entry, Node, Value};
use crate::problem::{Finding, Spot};
use crate::scalar::Meaning;
use crate::text::Span;

pub(super) const TEXT: &str = "text";
pub(super) const BOOLEAN: &str = "true or false";
pub(super) const LIST: &str = "a list";
pub(super) const MAPPING: &str = "a mapping";

#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a> {
    node: &'a Node,
    /// The key that the value stands under.
    key: Option<Span>,
    context: &'a Context,
}

impl<'a> NodeDeserializer<'a> {
    pub(super) fn new(node: &'a Node, key: Option<Span>, context: &'a Context) -> Self {
        NodeDeserializer { node, key, context }
    }

    fn wrong_type<T>(self, expected: &str) -> Result<T, DecodeError> {
        Err(DecodeError::new(Cause::Type { expected: expected.to_owned() }).at(self.node, self.context))
    }

    fn spot(self, span: Span) -> Spot {
        Spot { file: self.context.file, span }
    }

    fn visit_text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.text() {
            Some(text) => visitor.visit_str(text).map_err(|error: DecodeError| error.at(self.node, self.context)),
            None => self.wrong_type(TEXT),
        }
    }

    fn visit_number<'de, V: Visitor<'de>>(self, least: i64, most: u64, visitor: V) -> Result<V::Value, DecodeError> {
        let whole = match self.node.value {
            Value::Scalar { meaning: Meaning::Unsigned(number), .. } if number <= most => visitor.visit_u64(number),
            Value::Scalar { meaning: Meaning::Signed(number), .. } if number >= least => visitor.visit_i64(number),
            _ => return self.wrong_type(&format!("a whole number from {least} to {most}")),
        };
        whole.map_err(|error: DecodeError| error.at(self.node, self.context))
    }

    fn list<'de, V: Visitor<'de>>(self, items: &'a [Node], visitor: V) -> Result<V::Value, DecodeError> {
        let living = items.iter().filter(|item| !self.context.is_dead(item));
        visitor.visit_seq(List { items: living.collect::<Vec<_>>().into_iter(), context: self.context })
    }

    fn map<'de, V: Visitor<'de>>(
        self,
        entries: &'a [Entry],
        fields: Option<&[&str]>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let known = |entry: &&Entry| fields.is_none_or(|fields| fields.contains(&entry.key.as_str()));
        let living = entries.iter().filter(|entry| !self.context.is_dead(&entry.value)).filter(known);
        let entries = living.collect::<Vec<_>>().into_iter();
        visitor.visit_map(Map { entries, value: None, context: self.context })
    }
}

macro_rules! numbers {
    ($($method:ident $type:ident),*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            #[allow(clippy::unnecessary_cast, reason = "one of the types is already as wide")]
            self.visit_number($type::MIN as i64, $type::MAX as u64, visitor)
        }
    )* };
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let visited = match &self.node.value {
            Value::List(items) => self.list(items, visitor),
            Value::Map(entries) => self.map(entries, None, visitor),
            Value::Scalar { text, meaning } => match meaning {
                Meaning::Null => visitor.visit_unit(),
                Meaning::Bool(value) => visitor.visit_bool(*value),
                Meaning::Unsigned(number) => visitor.visit_u64(*number),
                Meaning::Signed(number) => visitor.visit_i64(*number),
                Meaning::Float(number) => visitor.visit_f64(*number),
                Meaning::Text => visitor.visit_str(text),
            },
        };
        visited.map_err(|error: DecodeError| error.at(self.node, self.context))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Scalar { meaning: Meaning::Bool(value), .. } => visitor.visit_bool(value),
            _ => self.wrong_type(BOOLEAN),
        }
    }

    numbers!(
        deserialize_u8 u8, deserialize_u16 u16, deserialize_u32 u32, deserialize_u64 u64,
        deserialize_i8 i8, deserialize_i16 i16, deserialize_i32 i32, deserialize_i64 i64
    );

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Scalar { meaning: Meaning::Float(_) | Meaning::Unsigned(_) | Meaning::Signed(_), .. } => {
                self.deserialize_any(visitor)
            }
            _ => self.wrong_type("a number"),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    /// A field without a value is no way to leave it out: whoever cleared `ipRange:` by mistake would get the whole subnet.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.node.is_null() {
            return self.wrong_type("a value");
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::List(items) => self.list(items, visitor),
            _ => self.wrong_type(LIST),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Map(entries) => self.map(entries, None, visitor),
            _ => self.wrong_type(MAPPING),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Value::Map(entries) = &self.node.value else {
            let error = DecodeError::new(Cause::Type { expected: MAPPING.to_owned() });
            return Err(error.at(self.node, self.context).hinted(hints::scalar(name, self.node)));
        };
        for entry in entries.iter().filter(|entry| !fields.contains(&entry.key.as_str())) {
            // A further decoding meets it again.
            if !self.context.bury(entry.value.id) {
                continue;
            }
            let finding = Finding::new(self.spot(entry.key_span), format!("unknown field `{}`", entry.key));
            let help = hints::field(name, &entry.key, fields);
            self.context.note(finding.label("not known here").maybe_help(Some(help)));
        }
        let place = self.key.unwrap_or_else(|| self.node.head());
        for field in required(name) {
            let is_there = entries.iter().any(|entry| entry.key == *field);
            if !is_there && self.context.misses(self.spot(place), field) {
                let finding = Finding::new(self.spot(place), format!("missing field `{field}`"));
                self.context.note(finding.maybe_help(hints::missing(name, field)));
            }
        }
        self.map(entries, Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.node.text() {
            Some(text) if variants.contains(&text) => {
                let word: StrDeserializer<'_, DecodeError> = text.into_deserializer();
                visitor.visit_enum(word)
            }
            found => {
                let error = DecodeError::new(Cause::Word { expected: variants });
                let hint = found.and_then(|text| hints::word(name, text));
                Err(error.at(self.node, self.context).hinted(hint))
            }
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 }
}

struct List<'a> {
    items: std::vec::IntoIter<&'a Node>,
    context: &'a Context,
}

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let element = seed.deserialize(NodeDeserializer::new(node, None, self.context));
        element.map(Some).map_err(|error| error.at(node, self.context))
    }
}

struct Map<'a> {
    entries: std::vec::IntoIter<&'a Entry>,
    value: Option<&'a Entry>,
    context: &'a Context,
}

impl<'de> MapAccess<'de> for Map<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        let key: StrDeserializer<'_, DecodeError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.at(&entry.value, self.context))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        // serde asks for a value only after a key.
        let Some(Entry { key_span, value, .. }) = self.value.take() else {
            return Err(DecodeError::new(Cause::Missing));
        };
        let deserializer = NodeDeserializer::new(value, Some(*key_span), self.context);
        seed.deserialize(deserializer).map_err(|error| error.at(value, self.context))
    }
}
