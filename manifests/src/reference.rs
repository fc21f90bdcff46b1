//! Registry references: `nginx:1.27` → `docker.io/library/nginx:1.27`, and the name of the Image that one stands for.

use std::fmt;
use std::str::FromStr;

use evenkeel_schema::{Digest, Name};
use sha2::Digest as _;
use thiserror::Error;

/// A reference to an image in a registry, in full: host, path, and a tag or digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Says why a text is not a reference (distribution's reference grammar).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
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
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Derives the name of the Image that a container's reference stands for.
    ///
    /// It is the repository's last part, the tag, and eight digits of the SHA-256 of the whole reference, as in
    /// `nginx-1.27-5c2c8a3b`: readable, and different for references that differ.
    pub fn image_name(&self) -> Name {
        let last = self.path.rsplit('/').next().unwrap_or_default();
        let tag = self.tag.as_deref().map(|tag| format!("-{}", tag.to_ascii_lowercase())).unwrap_or_default();
        let mut front = format!("{last}{tag}");
        front.truncate(63 - 9);
        let hash = hex::encode(sha2::Sha256::digest(self.to_string()));
        let name = format!("{front}-{}", hash.get(..8).unwrap_or_default());
        name.parse().expect(
            "a repository's part begins with a letter or digit, its and a tag's other characters are of a name's",
        )
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| ReferenceError::Digest(digest.to_owned()))?))
            }
        };
        // A colon after the last slash begins the tag; one before it, the registry's port.
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        let (registry, path) = match repository.split_once('/') {
            Some((host, path)) if host == "localhost" || host.contains(['.', ':']) => (host, path.to_owned()),
            Some(_) => ("docker.io", repository.to_owned()),
            None => ("docker.io", format!("library/{repository}")),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let path = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        if !is_host(registry) {
            return Err(ReferenceError::Registry(registry.to_owned()));
        }
        if path.len() > 255 || !path.split('/').all(is_path_part) {
            return Err(ReferenceError::Path(repository.to_owned()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Reference { registry: registry.to_ascii_lowercase(), path, tag, digest })
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
