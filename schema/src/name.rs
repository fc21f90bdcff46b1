//! Names of objects, and of the kinds they belong to.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names an object within its kind: 1 to 63 of `a-z 0-9 - _ .`, beginning and ending with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^[a-z0-9]([a-z0-9_.-]*[a-z0-9])?$", "maxLength" = 63))]
pub struct Name(String);

impl Name {
    /// Gives the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a name out of a hash: sixteen hexadecimal digits.
    pub(crate) fn from_hash(hash: u64) -> Name {
        Name(format!("{hash:016x}"))
    }
}

/// Says why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        let (first, last) = (text.bytes().next(), text.bytes().last());
        if text.len() > 63 {
            return Err(NameError(format!("name is {} characters long, at most 63 are allowed", text.len())));
        }
        if !(edge(first) && edge(last) && text.bytes().all(inner)) {
            return Err(NameError(format!(
                "`{text}` is not a name: use a-z, 0-9, '-', '_' and '.', beginning and ending with a letter or digit"
            )));
        }
        Ok(Name(text))
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Name::try_from(text.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The closed set of kinds, in the order in which they are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    Image,
    Volume,
    Network,
    Container,
}

impl Kind {
    /// Every kind, in creation order.
    pub const ALL: [Kind; 4] = [Kind::Image, Kind::Volume, Kind::Network, Kind::Container];

    /// Gives the kind as it stands in a manifest's `kind` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Image => "Image",
            Kind::Volume => "Volume",
            Kind::Network => "Network",
            Kind::Container => "Container",
        }
    }

    /// Gives the kind as the first part of a key: `image`, `volume`, `network`, `container`.
    pub fn key_prefix(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Volume => "volume",
            Kind::Network => "network",
            Kind::Container => "container",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Identifies one object of a host, written `network/mynet`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    pub kind: Kind,
    pub name: Name,
}

impl Key {
    pub fn new(kind: Kind, name: Name) -> Self {
        Key { kind, name }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.kind.key_prefix(), self.name))
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_string()
    }
}

impl FromStr for Key {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (prefix, name) = text
            .split_once('/')
            .ok_or_else(|| NameError(format!("`{text}` is not an object: write KIND/NAME, as container/web")))?;
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.key_prefix().eq_ignore_ascii_case(prefix))
            .ok_or_else(|| NameError(format!("`{prefix}` is not a kind: image, volume, network or container")))?;
        Ok(Key { kind, name: name.parse()? })
    }
}

impl TryFrom<String> for Key {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
