//! PAX extended headers: records `LENGTH KEY=VALUE\n` (POSIX.1-2001, pax, "Extended Header").

use super::Time;

const ATTRIBUTE_PREFIX: &str = "SCHILY.xattr.";

/// The records of one or more extended headers, in their order.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Adds the records of one extended header; `None` where it is malformed.
    pub fn extend(&mut self, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
            // The stated length covers itself, the space and the newline; values may hold newlines of their own.
            let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            self.0.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            data = &data[length..];
        }
        Some(())
    }

    /// Gives these records with another header's after them, which win.
    pub fn overlaid(&self, local: &Records) -> Records {
        Records(self.0.iter().chain(&local.0).cloned().collect())
    }

    /// Gives the last value of a key. An empty value takes an earlier one back.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let last = self.0.iter().rev().find(|(other, _)| other == key.as_bytes())?;
        (!last.1.is_empty()).then_some(last.1.as_slice())
    }

    /// Gives every value of a key that may be repeated.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(other, _)| other == key.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// Gives the extended attributes, the last value of each.
    pub fn attributes(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut attributes: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (key, value) in &self.0 {
            if let Some(name) = key.strip_prefix(ATTRIBUTE_PREFIX.as_bytes()) {
                attributes.retain(|(other, _)| other != name);
                attributes.push((name.to_vec(), value.clone()));
            }
        }
        attributes
    }
}

/// Reads a decimal number without sign.
pub fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// Reads a time as `SECONDS[.FRACTION]`, with a sign before 1970.
pub fn time(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds =
        fraction.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0'));
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}
