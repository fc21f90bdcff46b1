//! An apply as it happens: one line for each step that ended.

use std::io::Write;
use std::time::Duration;

use evenkeel_host::image::{Progress, Quiet};
use evenkeel_plan::{Key, Outcome};

use crate::agent::control::Answer;
use crate::reconcile::{Deed, Events};
use crate::report::Style;
use crate::settings::{Format, Settings};

/// Writes lines, or nothing where data was asked for.
pub struct Lines {
    style: Style,
    silent: bool,
    progress: Quiet,
}

impl Lines {
    pub fn new(settings: &Settings, output: Format) -> Self {
        let style = Style::new(settings.color.decide(&std::io::stdout()));
        Lines { style, silent: output != Format::Text, progress: Quiet }
    }

    /// Ends what is still being drawn.
    pub fn close(&self) {}

    /// Tells a step that the agent carried out.
    pub fn step(&self, answer: &Answer) {
        if let Answer::Step { key, deed, outcome: Some(outcome), milliseconds } = answer {
            self.finished(key, *deed, outcome, Duration::from_millis(*milliseconds));
        }
    }
}

impl Events for Lines {
    fn finished(&self, key: &Key, deed: Deed, outcome: &Outcome, took: Duration) {
        if self.silent {
            return;
        }
        let done = match deed {
            Deed::Create => "created",
            Deed::Update => "updated",
            Deed::Replace => "replaced",
            Deed::Delete => "deleted",
        };
        let line = match outcome {
            Outcome::Applied => format!("{} {key} in {:.2} s", self.style.good(done), took.as_secs_f64()),
            // The summary says why, once.
            Outcome::Failed { .. } => format!("{} {key}", self.style.bad("failed")),
            Outcome::Blocked { .. } => return,
        };
        // The work goes on whether or not somebody still reads.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn progress(&self) -> &dyn Progress {
        &self.progress
    }
}
