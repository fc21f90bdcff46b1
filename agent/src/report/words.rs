//! Times, exits and hints in words.

use evenkeel_plan::{Exit, Why};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The one time that a report speaks of as now.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub OffsetDateTime);

impl Clock {
    pub fn now() -> Self {
        Clock(OffsetDateTime::now_utc())
    }

    /// Says how long ago an RFC 3339 time was; nothing where it is no time, or not a second ago.
    pub fn since(self, timestamp: &str) -> Option<String> {
        let then = OffsetDateTime::parse(timestamp, &Rfc3339).ok()?;
        let passed = self.0 - then;
        (passed.whole_seconds() > 0).then(|| span(passed.whole_seconds()))
    }

    /// Says how far ahead an RFC 3339 time is; `0s` where it has passed.
    pub fn until(self, timestamp: &str) -> Option<String> {
        let then = OffsetDateTime::parse(timestamp, &Rfc3339).ok()?;
        Some(span((then - self.0).whole_seconds().max(0)))
    }

    pub fn timestamp(self) -> String {
        timestamp(self.0)
    }
}

/// Writes a time as RFC 3339 in whole seconds, UTC.
pub fn timestamp(at: OffsetDateTime) -> String {
    let whole = at.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at);
    // Fails only for years outside 0 to 9999.
    whole.format(&Rfc3339).unwrap_or_else(|_| whole.to_string())
}

/// Writes a length of time with its two largest units, as `4s`, `3m 20s`, `2d 5h`.
pub fn span(seconds: i64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds.max(0);
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
        }
        rest %= size;
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Says why nothing is done to an object.
pub fn why(why: &Why) -> String {
    match why {
        Why::Source { message }
        | Why::Unreadable { message }
        | Why::NotOurs { message }
        | Why::Restarting { message }
        | Why::Conflict { message } => message.clone(),
        Why::Kept => "kept: no manifest states it any more".to_owned(),
        Why::ReportOnly { .. } => "policy.drift is report".to_owned(),
        Why::DataLoss { .. } => "the repair loses data: --yes or policy.dataLoss: allow lets it happen".to_owned(),
        Why::Stopped { since } => format!("stopped by hand at {since}"),
    }
}

/// Says how a container's main process ended.
pub fn exit_words(exit: &Exit) -> String {
    let mut words = match exit.signal {
        Some(signal) => format!("killed by {}", evenkeel_schema::Signal(signal)),
        None => format!("exited with status {}", exit.code),
    };
    if exit.oom_killed {
        words += ", out of memory";
    }
    if exit.daemonized {
        words += ": its main process went to the background";
    }
    words
}
