//! From a spanned tree to the typed object, with every wrong value found and not just the first.
//!
//! serde stops at the first error. So a value that is wrong is noted, marked dead, and the object is decoded again
//! without it, until that succeeds or nothing is left. Unknown and missing fields are noted on the way and stop nothing.

mod deserializer;
mod error;
mod hints;
mod required;

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use crate::node::{Dead, Node};
use crate::problem::{Finding, Spot};

use deserializer::NodeDeserializer;

/// Most wrong values listed for one document.
const MOST_ERRORS: usize = 100;

/// What a tree gave.
pub(crate) struct Decoded<T> {
    /// The object, made without the dead values; nothing where too much was wrong.
    pub(crate) object: Option<T>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) dead: Dead,
}

/// What is known of a tree while it is decoded.
struct Context {
    file: usize,
    findings: RefCell<Vec<Finding>>,
    /// The places of missing fields that were noted already, since every further decoding meets them again.
    missing: RefCell<BTreeSet<(Spot, &'static str)>>,
    dead: RefCell<Dead>,
}

impl Context {
    fn note(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }

    /// Tells, the first time only, that a field is missing at a place.
    fn misses(&self, place: Spot, field: &'static str) -> bool {
        self.missing.borrow_mut().insert((place, field))
    }

    fn is_dead(&self, node: &Node) -> bool {
        self.dead.borrow().contains(&node.id)
    }

    fn bury(&self, id: u32) -> bool {
        self.dead.borrow_mut().insert(id)
    }
}

/// Decodes a tree.
pub(crate) fn decode<T: DeserializeOwned>(file: usize, root: &Node) -> Decoded<T> {
    let context = Context { file, findings: RefCell::default(), missing: RefCell::default(), dead: RefCell::default() };
    let mut object = None;
    for _ in 0..MOST_ERRORS {
        match T::deserialize(NodeDeserializer::new(root, None, &context)) {
            Ok(decoded) => {
                object = Some(decoded);
                break;
            }
            Err(error) => {
                let (id, finding) = error.at(root, &context).into_finding();
                if let Some(finding) = finding {
                    context.note(finding);
                }
                if id == root.id || !context.bury(id) {
                    break;
                }
            }
        }
    }
    Decoded { object, findings: context.findings.into_inner(), dead: context.dead.into_inner() }
}

#[cfg(test)]
mod tests;
