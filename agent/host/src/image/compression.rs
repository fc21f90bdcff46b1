//! Opens compressed streams, known by their first bytes: media types and file names are often wrong.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

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

/// The largest window of a zstd frame, which is held in memory: 128 MiB, what `zstd --ultra -22` needs.
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 128 * 1024;

/// A reader of the decompressed bytes of a stream.
pub type Decompressed<'a> = Box<dyn Read + Send + 'a>;

/// Opens a stream for reading its decompressed bytes; gzip members and zstd frames that follow one another are one stream.
pub fn decompress<'a>(source: impl Read + Send + 'a) -> io::Result<(Compression, Decompressed<'a>)> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    // A short first read is no reason to look at fewer than four bytes.
    let beginning = source.fill_buf()?;
    if beginning.len() < 4 {
        let mut head = Vec::new();
        (&mut source).take(4).read_to_end(&mut head)?;
        let compression = Compression::of(&head);
        return open(compression, BufReader::with_capacity(BUFFER, io::Cursor::new(head).chain(source)));
    }
    let compression = Compression::of(beginning);
    open(compression, source)
}

fn open<'a>(compression: Compression, source: impl BufRead + Send + 'a) -> io::Result<(Compression, Decompressed<'a>)> {
    let reader: Decompressed<'a> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok((compression, reader))
}
