//! PAX extended headers: records `LENGTH KEY=VALUE\n` (POSIX.1-2001, pax, "Extended Header").

use std::collections::BTreeMap;

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

    /// Gives the last value of a key, which may be empty.
    fn last(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(other, _)| other == key.as_bytes()).map(|(_, value)| value.as_slice())
    }
}

/// The records that hold for every member after them.
#[derive(Clone, Debug, Default)]
pub struct Globals(BTreeMap<Vec<u8>, Vec<u8>>);

impl Globals {
    /// Adds the records of one header, which win over earlier ones, and tells how long all are; `None` where it is malformed.
    pub fn extend(&mut self, data: &[u8]) -> Option<usize> {
        let mut records = Records::default();
        records.extend(data)?;
        self.0.extend(records.0);
        Some(self.0.iter().map(|(key, value)| key.len() + value.len()).sum())
    }

    /// Gives these records with a member's own, which win.
    pub fn overlaid<'a>(&'a self, local: &'a Records) -> Overlaid<'a> {
        Overlaid { global: self, local }
    }
}

/// All records that hold for one member.
#[derive(Clone, Copy, Debug)]
pub struct Overlaid<'a> {
    global: &'a Globals,
    local: &'a Records,
}

impl<'a> Overlaid<'a> {
    /// Gives the last value of a key. An empty value takes an earlier one back.
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        let global = || self.global.0.get(key.as_bytes()).map(Vec::as_slice);
        self.local.last(key).or_else(global).filter(|value| !value.is_empty())
    }

    /// Gives every value of a key that may be repeated.
    pub fn all(&self, key: &'a str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.local.0.iter().filter(move |(other, _)| other == key.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// Gives the extended attributes by their names, the last value of each.
    pub fn attributes(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let own = self.local.0.iter().map(|(key, value)| (key, value));
        let mut attributes = BTreeMap::new();
        for (key, value) in self.global.0.iter().chain(own) {
            if let Some(name) = key.strip_prefix(ATTRIBUTE_PREFIX.as_bytes()) {
                attributes.insert(name.to_vec(), value.clone());
            }
        }
        attributes.into_iter().collect()
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
