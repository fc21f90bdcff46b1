//! Wall clock times in the form that the contract has: RFC 3339 in UTC with nanoseconds.
//!
//! Formats only, so that the shim needs no calendar library; whoever reads these times parses them with one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// Gives the present time.
pub fn now() -> String {
    after(Duration::ZERO)
}

/// Gives the time that lies this far ahead.
pub fn after(delay: Duration) -> String {
    // A clock before 1970 is a host without a clock: its epoch is as good a time as any.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(delay);
    format(since_epoch)
}

fn format(since_epoch: Duration) -> String {
    let (seconds, nanoseconds) = (since_epoch.as_secs(), since_epoch.subsec_nanos());
    let (year, month, day) = date(seconds / SECONDS_PER_DAY);
    let second_of_day = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

/// Gives year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts in years that begin on 1 March, so that the leap day is a year's last: then a month's first day is a linear
/// function of the month, and 400 years are always 146,097 days.
fn date(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468; // from 0000-03-01
    let era = day / 146_097;
    let day_of_era = day % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests;
