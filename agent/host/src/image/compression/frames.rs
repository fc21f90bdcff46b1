//! A zstd stream, frame by frame, each with a window that there is memory for.

use std::io::{self, BufRead, Read};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::windows::{Share, Windows};

/// The largest window: 128 MiB, what `zstd --long=27` and `zstd --ultra -22` need, and all that libzstd takes unasked.
const LARGEST_LOG: u32 = 27;

/// The longest header of a frame (RFC 8878 section 3.1.1.1), its magic number included.
const HEADER: u64 = 18;

#[derive(Debug, thiserror::Error)]
#[error("a frame needs a window of {} MiB, more than the {} MiB that are held in memory at most", .window >> 20, 1 << LARGEST_LOG >> 20)]
struct WindowTooLarge {
    window: u64,
}

/// A reader of the decompressed bytes of the frames that follow one another in a stream.
pub struct Frames<'w, R, F> {
    source: R,
    /// What was read ahead of the decoder to look at a frame's header.
    ahead: Vec<u8>,
    decoder: Option<(Decoder<'static>, Share<'w>)>,
    inside: bool,
    windows: &'w Windows,
    wanted: F,
}

impl<'w, R: BufRead, F: Fn() -> io::Result<()>> Frames<'w, R, F> {
    pub fn new(source: R, windows: &'w Windows, wanted: F) -> Self {
        Frames { source, ahead: Vec::new(), decoder: None, inside: false, windows, wanted }
    }

    /// Makes a decoder that has room for the window of the frame to come; `false` at the stream's end.
    fn begin(&mut self) -> io::Result<bool> {
        let missing = HEADER - self.ahead.len() as u64;
        (&mut self.source).take(missing).read_to_end(&mut self.ahead)?;
        if self.ahead.is_empty() {
            return Ok(false);
        }
        // What has no header of a frame of data needs no window: a frame to be skipped, or what the decoder refuses.
        let window = window(&self.ahead).unwrap_or(0);
        if window > 1 << LARGEST_LOG {
            return Err(io::Error::other(WindowTooLarge { window }));
        }
        if self.decoder.as_ref().is_none_or(|(_, share)| share.bytes() < window) {
            self.decoder = None;
            let share = self.windows.take(window, &self.wanted)?;
            let mut decoder = Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(LARGEST_LOG))?;
            self.decoder = Some((decoder, share));
        }
        self.inside = true;
        Ok(true)
    }
}

impl<R: BufRead, F: Fn() -> io::Result<()>> Read for Frames<'_, R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if buffer.is_empty() || !self.inside && !self.begin()? {
                return Ok(0);
            }
            let Some((decoder, _)) = &mut self.decoder else { return Ok(0) };
            let from_ahead = !self.ahead.is_empty();
            let available = if from_ahead { self.ahead.as_slice() } else { self.source.fill_buf()? };
            let at_end = available.is_empty();
            let (mut input, mut output) = (InBuffer::around(available), OutBuffer::around(buffer));
            let left = decoder.run(&mut input, &mut output)?;
            let (read, written) = (input.pos(), output.pos());
            if from_ahead {
                self.ahead.drain(..read);
            } else {
                self.source.consume(read);
            }
            self.inside = left != 0;
            if written > 0 {
                return Ok(written);
            }
            if at_end && self.inside {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last frame is incomplete"));
            }
        }
    }
}

/// Reads from a frame's header how many bytes of its content are held (RFC 8878 section 3.1.1.1): as far back as it may
/// refer, or all of it where that is stated to be less.
pub(super) fn window(header: &[u8]) -> Option<u64> {
    let rest = header.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = rest.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    let (stated, rest) = match single_segment {
        true => (None, rest),
        false => {
            let (window, rest) = rest.split_first()?;
            let base = 1u64 << (10 + (window >> 3));
            (Some(base + base / 8 * u64::from(window & 7)), rest)
        }
    };
    let rest = rest.get([0, 1, 2, 4][usize::from(descriptor & 3)]..)?;
    let length = match (descriptor >> 6, single_segment) {
        (0, false) => 0,
        (0, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let mut number = [0; 8];
    number[..length].copy_from_slice(rest.get(..length)?);
    // Two bytes count from 256 on: what is shorter takes one.
    let content = u64::from_le_bytes(number).saturating_add(if length == 2 { 256 } else { 0 });
    match stated {
        Some(window) if length == 0 => Some(window),
        Some(window) => Some(window.min(content)),
        None => Some(content),
    }
}
