//! Plans, reports and sights in words and in data.
//!
//! Every verb that shows something builds one plain value here, which `-o json` serialises and the text form renders:
//! the two never differ in what they say. Nothing here looks at the host; what time it is comes in as a value.

mod diff;
mod drift;
mod plan;
mod progress;
mod secret;
mod state;
mod style;
mod summary;
pub mod words;

#[cfg(test)]
mod tests;

pub use diff::diff;
pub use drift::{Counts, Difference, DriftReport, ObjectDrift, Standing, blind, drift_words, reason, seen};
pub use plan::{PlanReport, action_word};
pub use progress::{Bars, Lines};
pub use secret::without_secrets;
pub use state::{ContainerRow, ObjectRow, container_rows, object_rows, phase_words};
pub use style::Style;
pub use summary::summary;
pub use words::{Clock, span, timestamp};
