//! Numbers of tar headers: octal text, or base 256 where the first bit is set (GNU, star).

/// Reads a numeric field. An empty field is 0, as every other reader has it; `None` where it is no number.
pub fn parse(field: &[u8]) -> Option<i128> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => {
            // Two's complement over the whole field, whose topmost bit is only the mark.
            let negative = first & 0x40 != 0;
            let start: i128 = if negative { -1 } else { 0 };
            let mark = if negative { *first } else { first & 0x7f };
            // Fields are at most 12 bytes long: 96 bits.
            let rest = field.get(1..).unwrap_or_default();
            Some(rest.iter().fold((start << 8) | i128::from(mark), |sum, byte| (sum << 8) | i128::from(*byte)))
        }
        _ => {
            let text = field.split(|byte| *byte == 0).find(|part| !part.is_empty()).unwrap_or_default();
            let text = text.trim_ascii();
            text.iter().try_fold(0i128, |sum, byte| match byte {
                b'0'..=b'7' => Some(sum * 8 + i128::from(byte - b'0')),
                _ => None,
            })
        }
    }
}
