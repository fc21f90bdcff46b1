//! The envelope: which kind a document is of and how it is called, then the object itself.

use evenkeel_schema::{API_VERSION, ContainerSpec, ImageSpec, Key, Kind, Name, NetworkSpec, Object, VolumeSpec};
use serde::de::DeserializeOwned;

use crate::decode::{self, Decoded};
use crate::node::{Dead, Entry, Node, Step, Value, shortened, way};
use crate::problem::{DocumentId, Finding, Findings, Spot};
use crate::suggest;
use crate::text::Span;
use crate::yaml::Tree;

/// One document that could be decoded, perhaps without its wrong values.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) id: DocumentId,
    pub(crate) file: usize,
    pub(crate) key: Key,
    pub(crate) body: Body,
    /// Whether something in it was wrong: what it lacks is then no second problem.
    pub(crate) partial: bool,
    root: Node,
    dead: Dead,
}

#[derive(Debug)]
pub(crate) enum Body {
    Image(Object<ImageSpec>),
    Volume(Object<VolumeSpec>),
    Network(Object<NetworkSpec>),
    Container(Box<Object<ContainerSpec>>),
}

/// Every document of the source, by how much of it is known.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub(crate) decoded: Vec<Document>,
    pub(crate) held: Vec<Held>,
    pub(crate) unknown: Vec<Unknown>,
}

/// A document of which not even the kind is known; perhaps it is one that others refer to, or that was applied before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The file that it stands in, as people write it.
    pub file: String,
    /// `None` where the name is not known either.
    pub name: Option<Name>,
}

impl Unknown {
    /// Tells whether it may be the object of this name, of whichever kind.
    pub fn may_be(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|known| known.as_str() == name)
    }
}

/// A document of which no more than kind and name is known.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) file: usize,
    pub(crate) key: Key,
    pub(crate) at: Spot,
    pub(crate) reason: String,
}

impl Document {
    /// Gives the place of a value.
    pub(crate) fn value(&self, path: &[Step<'_>]) -> Spot {
        Spot { file: self.file, span: self.root.value_at(path, &self.dead) }
    }

    /// Gives the place of a key.
    pub(crate) fn field(&self, path: &[Step<'_>]) -> Spot {
        Spot { file: self.file, span: self.root.key_at(path, &self.dead) }
    }

    /// Tells whether a field is stated.
    pub(crate) fn states(&self, path: &[Step<'_>]) -> bool {
        self.root.has(path, &self.dead)
    }

    pub(crate) fn name_spot(&self) -> Spot {
        self.value(&way!["metadata", "name"])
    }

    /// Gives what [`Findings::spoil`] needs to know of the document.
    pub(crate) fn culprit(&self) -> (DocumentId, usize) {
        (self.id, self.file)
    }
}

/// Makes a document of a tree, or says why it is none.
pub(crate) fn interpret(file: usize, tree: Tree, documents: &mut Documents, findings: &mut Findings<'_>) {
    let Tree { root, broken, whole } = tree;
    let key = key(&root);
    let reason = if whole { envelope(file, &root, findings) } else { None };
    let reason = broken.clone().or(reason);
    let decoded = match kind(&root) {
        Ok(kind) if whole => Some(decode_kind(kind, file, &root)),
        _ => None,
    };
    let (body, mut found, dead) = decoded.unwrap_or_default();
    // A value that was no YAML is not a wrong type as well.
    found.retain(|finding| !findings.flagged(finding.at));
    let name_spot = Spot { file, span: root.value_at(&way!["metadata", "name"], &Dead::new()) };
    match (body, key) {
        (Some(body), Some(key)) => {
            let id = documents.decoded.len();
            let partial = reason.is_some() || !found.is_empty();
            let document = Document { id, file, key, body, partial, root, dead };
            if let Some(reason) = reason {
                findings.note_reason(document.culprit(), reason);
            }
            for finding in found {
                findings.spoil(&[document.culprit()], finding);
            }
            documents.decoded.push(document);
        }
        (_, key) => {
            let reason = reason.or_else(|| found.first().map(|finding| findings.in_words(finding)));
            for finding in found {
                findings.add(finding);
            }
            match (key, reason) {
                (Some(key), Some(reason)) => documents.held.push(Held { file, key, at: name_spot, reason }),
                _ => documents.unknown.push(Unknown { file: findings.shown(file), name: name(&root) }),
            }
        }
    }
}

/// Reads kind and name alone, as far as they are what they should be.
fn key(root: &Node) -> Option<Key> {
    Some(Key::new(kind(root).ok()?, name(root)?))
}

fn name(root: &Node) -> Option<Name> {
    root.get("metadata")?.get("name")?.text()?.parse().ok()
}

fn kind(root: &Node) -> Result<Kind, Option<&Node>> {
    let node = root.get("kind");
    let text = node.and_then(Node::text);
    Kind::ALL.into_iter().find(|kind| Some(kind.as_str()) == text).ok_or(node)
}

/// Judges `apiVersion` and `kind`; gives the first problem in words.
fn envelope(file: usize, root: &Node, findings: &mut Findings<'_>) -> Option<String> {
    let spot = |span: Span| Spot { file, span };
    let mut found = Vec::new();
    let kinds = suggest::list(&Kind::ALL.map(Kind::as_str));
    if !matches!(root.value, Value::Map(_)) {
        let message = format!(
            "a manifest is a mapping with apiVersion, kind, metadata and spec, and here is {}",
            root.describe()
        );
        found.push(Finding::new(spot(root.head()), message));
    } else if root.get("kind").is_none() && root.get("services").is_some() {
        let finding =
            Finding::new(spot(root.key_at(&way!["services"], &Dead::new())), "this is a Compose file, not a manifest");
        found.push(finding.help("write a Container for each service, and a Network and Volume for each of these"));
    } else {
        match root.get("apiVersion") {
            None => {
                let finding = Finding::new(spot(root.head()), "missing field `apiVersion`");
                found.push(finding.help(format!("write `apiVersion: {API_VERSION}`")));
            }
            Some(node) if node.text() != Some(API_VERSION) => {
                let message = format!("this release reads apiVersion `{API_VERSION}`, found {}", node.describe());
                found.push(Finding::new(spot(node.span), message).help(format!("write `apiVersion: {API_VERSION}`")));
            }
            Some(_) => {}
        }
        match kind(root) {
            Ok(_) => {}
            Err(None) => {
                let finding = Finding::new(spot(root.head()), "missing field `kind`");
                found.push(finding.help(format!("write `kind: ` and one of {kinds}")));
            }
            Err(Some(node)) => {
                let message = format!("expected a kind, one of {kinds}, found {}", node.describe());
                let help = node.text().and_then(kind_help);
                found.push(Finding::new(spot(node.span), message).label("not a kind").maybe_help(help));
            }
        }
    }
    let first = found.first().map(|finding| findings.in_words(finding));
    for finding in found {
        findings.add(finding);
    }
    first
}

fn kind_help(written: &str) -> Option<String> {
    let hint = match written {
        "Pod" | "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicaSet" => "Container",
        "PersistentVolumeClaim" | "PersistentVolume" => "Volume",
        _ => {
            let near = suggest::nearest(written, Kind::ALL.map(Kind::as_str))?;
            return Some(format!("did you mean `{near}`?"));
        }
    };
    Some(format!("the nearest thing to a {} is a {hint}", shortened(written)))
}

type Parts = (Option<Body>, Vec<Finding>, Dead);

fn decode_kind(kind: Kind, file: usize, root: &Node) -> Parts {
    match kind {
        Kind::Image => decode_as(Body::Image, file, object(root, false)),
        // A volume's fields all have a default, so that its spec may be left out.
        Kind::Volume => decode_as(Body::Volume, file, object(root, true)),
        Kind::Network => decode_as(Body::Network, file, object(root, false)),
        Kind::Container => decode_as(|container| Body::Container(Box::new(container)), file, object(root, false)),
    }
}

fn decode_as<S: DeserializeOwned>(body: fn(Object<S>) -> Body, file: usize, root: Node) -> Parts {
    let Decoded { object, findings, dead } = decode::decode::<Object<S>>(file, &root);
    (object.map(body), findings, dead)
}

/// Gives the part of a document that [`Object`] describes: all but `apiVersion` and `kind`.
fn object(root: &Node, default_spec: bool) -> Node {
    let outer = |entry: &&Entry| !matches!(entry.key.as_str(), "apiVersion" | "kind");
    let mut entries: Vec<Entry> = root.entries().iter().filter(outer).cloned().collect();
    if default_spec && !entries.iter().any(|entry| entry.key == "spec") {
        let value = Node { id: u32::MAX, span: root.span, value: Value::Map(Vec::new()) };
        entries.push(Entry { key: "spec".to_owned(), key_span: root.head(), value });
    }
    // Where nothing else is left, a missing field is shown at the document's first key.
    let span = root.head();
    Node { id: root.id, span, value: Value::Map(entries) }
}
