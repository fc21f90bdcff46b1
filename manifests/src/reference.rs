//! Registry references: `nginx:1.27` → `docker.io/library/nginx:1.27`, with every part judged.

use std::fmt;
use std::str::FromStr;

use evenkeel_schema::{Digest, full_reference};
use thiserror::Error;

/// A reference to an image in a registry, in full: host, path, and a tag or digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Says why a text is not a reference (distribution's reference grammar).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ReferenceError {
    #[error("`{0}` is not a registry host: write HOST or HOST:PORT")]
    Registry(String),
    #[error("`{0}` is not a repository: use a-z, 0-9, '.', '_', '-' and '/'")]
    Path(String),
    #[error("`{0}` is not a tag: use up to 128 of a-z, A-Z, 0-9, '_', '.' and '-'")]
    Tag(String),
    #[error("`{0}` is not a digest: write sha256: and 64 hexadecimal digits")]
    Digest(String),
}

impl Reference {
    /// Gives the digest that the reference itself states.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let full = full_reference(text);
        let (rest, digest) = match full.split_once('@') {
            None => (full.as_str(), None),
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| ReferenceError::Digest(digest.to_owned()))?))
            }
        };
        let (registry, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
        if !is_host(registry) {
            return Err(ReferenceError::Registry(registry.to_owned()));
        }
        if path.len() > 255 || !path.split('/').all(is_path_part) {
            return Err(ReferenceError::Path(path.to_owned()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let registry = registry.to_ascii_lowercase();
        Ok(Reference { registry, path: path.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("1")))
        }
        None => text.split_once(':').map_or((text, Some("1")), |(host, port)| (host, Some(port))),
    };
    let part = |part: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(part) && port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port != 0)
}

/// Letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_part(part: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joints = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|joint| !joint.is_empty());
    let edge = |b: Option<u8>| b.is_some_and(letter);
    edge(part.bytes().next())
        && edge(part.bytes().last())
        && joints.into_iter().all(|joint| matches!(joint, "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests;
