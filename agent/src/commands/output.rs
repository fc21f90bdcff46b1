//! Writing to the standard output and the standard error, which may be pipes that nobody reads any more.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use super::Failure;
use crate::settings::Format;

/// Writes text. A reader that went away is no error: what the verb found stays its exit code.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::from(anyhow::Error::new(error).context("cannot write to the standard output")))
        }
        _ => Ok(()),
    }
}

/// Writes text to the standard error. Where that is closed there is nobody to tell; `eprint` would panic.
pub fn tell(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Shows one value in the form that was asked for.
pub fn show<T: Serialize>(format: Format, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
    match format {
        Format::Text => print(&text()),
        Format::Json => print(&(serde_json::to_string_pretty(value)? + "\n")),
        // By way of JSON, so that both forms write a value in the same way.
        Format::Yaml => print(&serde_yaml::to_string(&serde_json::to_value(value)?)?),
    }
}

/// Lays out rows below their headings, three spaces between columns.
pub fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    let last = headings.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 3 }));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}
