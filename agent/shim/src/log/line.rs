//! One line of the log as JSON, written without an allocation of its own.
//!
//! The form is that of `LogLine`, byte for byte what serde_json would write; a test holds the two together.

use evenkeel_shim::Stream;

use super::LONGEST_LINE;

/// Appends one line: the piece as text, its stream and its time.
pub fn write(out: &mut Vec<u8>, piece: &[u8], stream: Stream, time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, piece);
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.word().as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// Says where to cut a line that is longer than the longest: not within a character.
pub fn cut(line: &[u8]) -> usize {
    let continues = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    // A character has at most three bytes after its first; more of them in a row are no text.
    (LONGEST_LINE - 3..=LONGEST_LINE).rev().find(|end| !continues(line[*end])).unwrap_or(LONGEST_LINE)
}

/// Appends bytes as the inside of a JSON string; what is not UTF-8 becomes U+FFFD.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        escape_text(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn escape_text(out: &mut Vec<u8>, text: &[u8]) {
    let mut plain = 0;
    for (index, byte) in text.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[plain..index]);
        plain = index + 1;
        match *byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(control >> 4)]);
                out.push(DIGITS[usize::from(control & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[plain..]);
}
