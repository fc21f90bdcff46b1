//! What an unquoted word means: YAML 1.2's core schema, and nothing that surprises.
//!
//! `yes`, `on`, `0700`, `1_000` and `12:30` are text; only `true`, `false`, decimal, `0x` and `0o` numbers, and an empty
//! value, `~` or `null` are not.

/// A scalar's meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

/// Resolves a plain scalar.
pub(crate) fn resolve(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        _ => {}
    }
    number(text).unwrap_or(Meaning::Text)
}

fn number(text: &str) -> Option<Meaning> {
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, |b| b.is_ascii_hexdigit())
            .then(|| u64::from_str_radix(digits, 16).ok())?
            .map(Meaning::Unsigned);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |b| (b'0'..=b'7').contains(&b))
            .then(|| u64::from_str_radix(digits, 8).ok())?
            .map(Meaning::Unsigned);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    // A leading zero is a mode, an account number or a postal code; YAML 1.1 would read it as octal.
    if unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    if all(unsigned, |b| b.is_ascii_digit()) {
        let whole = if text.starts_with('-') {
            text.parse().ok().map(Meaning::Signed)
        } else {
            unsigned.parse().ok().map(Meaning::Unsigned)
        };
        return whole.or_else(|| text.parse().ok().map(Meaning::Float));
    }
    let of_float = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+');
    let value: f64 = all(unsigned, of_float).then(|| text.parse().ok())??;
    Some(Meaning::Float(value))
}

fn all(text: &str, test: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(test)
}

#[cfg(test)]
mod tests;
