//! Sizes, shares, times, modes and owners, each parsed once from the way people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Says why a text is not the quantity it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantityError(pub(crate) String);

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for QuantityError {}

/// A number of bytes, written as an integer or with `k M G T` (powers of 1000) or `Ki Mi Gi Ti` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong = || {
            QuantityError(format!(
                "`{text}` is not a size: write bytes, or a number with Ki, Mi, Gi, k, M or G, as 512Mi"
            ))
        };
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit {
            "" | "B" => 1,
            "k" | "K" | "kB" => 1_000,
            "M" | "MB" => 1_000_000,
            "G" | "GB" => 1_000_000_000,
            "T" | "TB" => 1_000_000_000_000,
            "Ki" | "KiB" => 1 << 10,
            "Mi" | "MiB" => 1 << 20,
            "Gi" | "GiB" => 1 << 30,
            "Ti" | "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Bytes).ok_or_else(wrong);
        }
        let value: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = value * factor as f64;
        if !(bytes.is_finite() && bytes < u64::MAX as f64) {
            return Err(wrong());
        }
        Ok(Bytes(bytes.round() as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        match units.into_iter().find(|(factor, _)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((factor, unit)) => f.pad(&format!("{}{unit}", self.0 / factor)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

/// A share of processors in thousandths, written `1.5`, `2` or `"500m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliCpus(pub u64);

impl FromStr for MilliCpus {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong =
            || QuantityError(format!("`{text}` is not a number of processors: write 1.5, 2 or 500m, at least 10m"));
        let milli = match text.strip_suffix('m') {
            Some(milli) => milli.parse::<u64>().map_err(|_| wrong())?,
            None => {
                let value: f64 = text.parse().map_err(|_| wrong())?;
                if !(value.is_finite() && (0.0..=1e6).contains(&value)) {
                    return Err(wrong());
                }
                (value * 1000.0).round() as u64
            }
        };
        // The kernel takes no quota below 1 ms; with the usual period of 100 ms that is 10m.
        if milli < 10 { Err(wrong()) } else { Ok(MilliCpus(milli)) }
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&(self.0 as f64 / 1000.0).to_string())
    }
}

/// A length of time, written with units: `500ms`, `5s`, `1m30s`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

impl FromStr for TimeSpan {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong =
            || QuantityError(format!("`{text}` is not a length of time: write it with units, as 500ms, 5s or 1m30s"));
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, next) = tail.split_at(unit);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let milliseconds = match unit {
                "ms" => Some(number),
                "s" => number.checked_mul(1_000),
                "m" => number.checked_mul(60_000),
                "h" => number.checked_mul(3_600_000),
                "d" => number.checked_mul(86_400_000),
                _ => None,
            };
            let part = milliseconds.map(Duration::from_millis).ok_or_else(wrong)?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = next;
        }
        if text.is_empty() { Err(wrong()) } else { Ok(TimeSpan(total)) }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_millis();
        let parts = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let mut text = String::new();
        let mut rest = total;
        for (factor, unit) in parts {
            if rest >= factor {
                text += &format!("{}{unit}", rest / factor);
                rest %= factor;
            }
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

/// Permission bits of a file, written as a quoted octal number: `"0700"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let octal = (3..=5).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o7777 => Ok(Mode(mode)),
            _ => Err(QuantityError(format!(
                "`{text}` is not a mode: write three or four octal digits in quotes, as \"0750\""
            ))),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04o}", self.0))
    }
}

/// Numeric owner and group of a file, written `"999:999"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl FromStr for Owner {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong =
            || QuantityError(format!("`{text}` is not an owner: write UID:GID as numbers in quotes, as \"999:999\""));
        let (uid, gid) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Owner { uid: uid.parse().map_err(|_| wrong())?, gid: gid.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.uid, self.gid))
    }
}

/// A signal by its number, written `SIGTERM`, `TERM`, `SIGRTMIN+3` or `15`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(pub i32);

/// The first real-time signal that the C library leaves to programs, and the last one (signal(7)).
const REAL_TIME: (i32, i32) = (34, 64);

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl FromStr for Signal {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = SIGNALS.iter().find(|(name, _)| *name == bare).map(|(_, number)| *number);
        match number.or_else(|| real_time(bare)).or_else(|| bare.parse().ok()) {
            Some(number) if (1..=64).contains(&number) => Ok(Signal(number)),
            _ => {
                Err(QuantityError(format!("`{text}` is not a signal: write SIGTERM, SIGQUIT, SIGRTMIN+3 or a number")))
            }
        }
    }
}

/// Reads `RTMIN`, `RTMIN+3`, `RTMAX` or `RTMAX-3`.
fn real_time(name: &str) -> Option<i32> {
    let (least, most) = REAL_TIME;
    // Without a sign of its own, which `parse` would take.
    let distance = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u8>().ok().filter(|_| digits).map(i32::from)
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => least,
        (_, Some("")) => most,
        (Some(rest), _) => least + distance(rest.strip_prefix('+')?)?,
        (_, Some(rest)) => most - distance(rest.strip_prefix('-')?)?,
        (None, None) => return None,
    };
    (least..=most).contains(&number).then_some(number)
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.pad(&format!("SIG{name}")),
            None => f.pad(&self.0.to_string()),
        }
    }
}

struct TextOrNumber<T> {
    expecting: &'static str,
    numbers: bool,
    marker: std::marker::PhantomData<T>,
}

impl<T: FromStr<Err = QuantityError>> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        if self.numbers {
            return number.to_string().parse().map_err(E::custom);
        }
        Err(E::invalid_type(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        if self.numbers {
            return number.to_string().parse().map_err(E::custom);
        }
        Err(E::invalid_type(de::Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        if self.numbers {
            return number.to_string().parse().map_err(E::custom);
        }
        Err(E::invalid_type(de::Unexpected::Float(number), &self))
    }
}

macro_rules! quantity {
    ($type:ident, $numbers:literal, $expecting:literal, $types:tt, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let visitor = TextOrNumber { expecting: $expecting, numbers: $numbers, marker: std::marker::PhantomData };
                deserializer.deserialize_any(visitor)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "pattern": $pattern, "description": $expecting })
            }
        }
    };
}

quantity!(Bytes, true, "a size, as 512Mi or 1000000", ["string", "integer"], r"^[0-9.]+([kKMGT]B?|[KMGT]iB?|B)?$");
quantity!(MilliCpus, true, "a number of processors, as 1.5 or 500m", ["string", "number"], r"^[0-9.]+m?$");
quantity!(TimeSpan, false, "a length of time, as 500ms, 5s or 1m30s", ["string"], r"^([0-9]+(ms|s|m|h|d))+$");
quantity!(Mode, false, "a mode in quotes, as \"0750\"", ["string"], r"^[0-7]{3,5}$");
quantity!(Owner, false, "an owner in quotes, as \"999:999\"", ["string"], r"^[0-9]+:[0-9]+$");
quantity!(Signal, true, "a signal, as SIGTERM or 15", ["string", "integer"], r"^[A-Za-z0-9+-]+$");

#[cfg(test)]
mod tests;
