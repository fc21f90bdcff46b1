//! What needs more than one field or more than one object to be judged.

use crate::document::{Document, Held};
use crate::problem::Findings;

/// Adds every problem of meaning.
pub(crate) fn check(_documents: &[Document], _held: &[Held], _findings: &mut Findings<'_>) {}
