//! An apply as it happens: one line for each step that ended, and how far downloads have come.

use std::io::{IsTerminal, Stderr, Write};
use std::time::Duration;

use evenkeel_host::image::{Progress, Quiet};
use evenkeel_plan::{Key, Outcome};

use crate::agent::control::Answer;
use crate::reconcile::{Deed, Events};
use crate::report::{Bars, Lines, Style};
use crate::settings::{Format, Settings};

/// Tells a terminal or a log what is being done; nothing where data was asked for.
pub struct Teller {
    style: Style,
    downloads: Downloads,
}

enum Downloads {
    Bars(Bars),
    Lines(Lines<Stderr>),
    /// Data was asked for: nothing is told.
    Silent(Quiet),
}

impl Teller {
    pub fn new(settings: &Settings, output: Format) -> Self {
        let stderr = std::io::stderr();
        let downloads = match (output, stderr.is_terminal()) {
            (Format::Json | Format::Yaml, _) => Downloads::Silent(Quiet),
            (Format::Text, true) => Downloads::Bars(Bars::default()),
            (Format::Text, false) => Downloads::Lines(Lines::new(stderr)),
        };
        Teller { style: Style::new(settings.color.decide(&std::io::stdout())), downloads }
    }

    /// Ends what is still being drawn.
    pub fn close(&self) {
        if let Downloads::Bars(bars) = &self.downloads {
            bars.clear();
        }
    }

    /// Tells a step that the agent carried out.
    pub fn step(&self, answer: &Answer) {
        if let Answer::Step { key, deed, outcome: Some(outcome), milliseconds } = answer {
            self.finished(key, *deed, outcome, Duration::from_millis(*milliseconds));
        }
    }
}

impl Events for Teller {
    fn finished(&self, key: &Key, deed: Deed, outcome: &Outcome, took: Duration) {
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
        let write = || writeln!(std::io::stdout().lock(), "{line}");
        let _ = match &self.downloads {
            Downloads::Bars(bars) => bars.suspend(write),
            Downloads::Lines(_) => write(),
            Downloads::Silent(_) => Ok(()),
        };
    }

    fn progress(&self) -> &dyn Progress {
        match &self.downloads {
            Downloads::Bars(bars) => bars,
            Downloads::Lines(lines) => lines,
            Downloads::Silent(quiet) => quiet,
        }
    }
}
