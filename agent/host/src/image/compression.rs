//! Opens compressed streams, known by their first bytes: media types and file names are often wrong.

mod frames;
#[cfg(test)]
mod tests;
mod windows;

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use frames::Frames;
use windows::Windows;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Gives the name that people know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }

    /// Tells from a stream's first bytes (RFC 1952 section 2.3.1, RFC 8878 sections 3.1.1 and 3.1.2).
    pub fn of(beginning: &[u8]) -> Compression {
        match beginning {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // Seekable zstd archives begin with a skippable frame.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// The windows of all zstd frames that this process decompresses at a time. Four layers as most tools pack them (8 MiB at
/// most, which RFC 8878 section 3.1.1.1.2 asks of every decoder) do so side by side.
static WINDOWS: Windows = Windows::new(32 << 20);

const BUFFER: usize = 128 * 1024;

/// A reader of the decompressed bytes of a stream.
pub type Decompressed<'a> = Box<dyn Read + Send + 'a>;

/// Opens a stream for reading its decompressed bytes; gzip members and zstd frames that follow one another are one stream.
pub fn decompress<'a>(source: impl Read + Send + 'a) -> io::Result<(Compression, Decompressed<'a>)> {
    decompress_while(source, || Ok(()))
}

/// As [`decompress`]; an error of `wanted`, which is asked while others have the memory that a frame needs, ends the wait.
pub fn decompress_while<'a>(
    source: impl Read + Send + 'a,
    wanted: impl Fn() -> io::Result<()> + Send + 'a,
) -> io::Result<(Compression, Decompressed<'a>)> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    // A short first read is no reason to look at fewer than four bytes.
    let beginning = source.fill_buf()?;
    if beginning.len() < 4 {
        let mut head = Vec::new();
        (&mut source).take(4).read_to_end(&mut head)?;
        let compression = Compression::of(&head);
        return Ok(open(compression, BufReader::with_capacity(BUFFER, io::Cursor::new(head).chain(source)), wanted));
    }
    let compression = Compression::of(beginning);
    Ok(open(compression, source, wanted))
}

fn open<'a>(
    compression: Compression,
    source: impl BufRead + Send + 'a,
    wanted: impl Fn() -> io::Result<()> + Send + 'a,
) -> (Compression, Decompressed<'a>) {
    let reader: Decompressed<'a> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(Frames::new(source, &WINDOWS, wanted)),
    };
    (compression, reader)
}
