//! Words from the cloned processes back to the one that was called.
//!
//! libcontainer passes only the outermost message of an error between its processes, and logs the cause instead. The
//! report is one file in memory that all of them share: log events of level ERROR and the executor's own words end up in
//! it, in order, and the calling process reads them when something failed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::OciError;

/// A shared list of messages.
#[derive(Clone, Debug)]
pub struct Report(Arc<File>);

/// What stands in a report.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The executor's verdict: exit status and message.
    pub verdict: Option<(i32, String)>,
    /// The first error that libcontainer logged, which is the innermost one.
    pub logged: Option<String>,
}

impl Report {
    /// Makes the report and sends libcontainer's errors to it.
    pub fn install() -> Result<Report, OciError> {
        let file = memfd_create(c"evenkeel-report", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| OciError::File { path: "memfd:evenkeel-report".into(), source: errno.into() })?;
        let report = Report(Arc::new(File::from(file)));
        let layer = Layer::<tracing_subscriber::Registry>::with_filter(Events(report.clone()), LevelFilter::ERROR);
        // Only a second subscriber in one process is refused, and the first one serves.
        let _ = tracing_subscriber::registry().with(layer).try_init();
        Ok(report)
    }

    /// Notes why the command cannot run, with the exit status that says so.
    pub fn verdict(&self, exit_status: i32, message: &str) {
        self.line('!', &format!("{exit_status} {message}"));
    }

    fn line(&self, mark: char, message: &str) {
        // There is nowhere to report that a report cannot be written.
        let _ = (&*self.0).write_all(format!("{mark}{}\n", message.replace('\n', " ")).as_bytes());
    }

    /// Reads what was reported.
    pub fn read(&self) -> Words {
        let mut bytes = vec![0; self.0.metadata().map_or(0, |metadata| metadata.len() as usize)];
        if self.0.read_exact_at(&mut bytes, 0).is_err() {
            return Words::default();
        }
        let mut words = Words::default();
        for line in String::from_utf8_lossy(&bytes).lines() {
            if let Some(verdict) = line.strip_prefix('!') {
                let parsed = verdict.split_once(' ').and_then(|(status, text)| Some((status.parse().ok()?, text)));
                words.verdict = words.verdict.or_else(|| parsed.map(|(status, text)| (status, text.to_owned())));
            } else if let Some(logged) = line.strip_prefix('e') {
                words.logged.get_or_insert_with(|| logged.to_owned());
            }
        }
        words
    }
}

struct Events(Report);

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.line('e', &format!("{}{}", text.message, text.fields));
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
    }
}
