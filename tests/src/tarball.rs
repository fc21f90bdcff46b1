//! Tar archives as no sane program writes them.

/// An archive under construction, every field as it is given.
#[derive(Clone, Debug, Default)]
pub struct Tarball(Vec<u8>);

/// Kinds of entries (POSIX ustar, GNU).
pub const FILE: u8 = b'0';
pub const HARD_LINK: u8 = b'1';
pub const SYMLINK: u8 = b'2';
pub const CHARACTER_DEVICE: u8 = b'3';
pub const DIRECTORY: u8 = b'5';
pub const FIFO: u8 = b'6';

impl Tarball {
    /// Adds an entry with the size that its data has.
    pub fn entry(self, kind: u8, path: &str, link: &str, data: &[u8]) -> Self {
        let size = format!("{:011o}\0", data.len());
        self.raw(kind, path.as_bytes(), link, size.as_bytes(), data)
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        self.entry(FILE, path, "", text.as_bytes())
    }

    pub fn directory(self, path: &str) -> Self {
        self.entry(DIRECTORY, path, "", b"")
    }

    pub fn link(self, kind: u8, path: &str, to: &str) -> Self {
        self.entry(kind, path, to, b"")
    }

    /// Adds an entry whose size field says what it likes. Names longer than a header's field get a header of GNU's.
    pub fn raw(mut self, kind: u8, path: &[u8], link: &str, size: &[u8], data: &[u8]) -> Self {
        for (long, name) in [(b'L', path), (b'K', link.as_bytes())] {
            if name.len() > 100 {
                let length = format!("{:011o}\0", name.len());
                self = self.raw(long, b"././@LongLink", "", length.as_bytes(), name);
            }
        }
        let mut header = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8], room: usize| {
            let bytes = &bytes[..bytes.len().min(room)];
            header[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, path, 100);
        put(100, b"0000644\0", 8);
        put(108, b"0000000\0", 8);
        put(116, b"0000000\0", 8);
        put(124, size, 12);
        put(136, b"07346545000\0", 12);
        put(148, b"        ", 8);
        put(156, &[kind], 1);
        put(157, link.as_bytes(), 100);
        put(257, b"ustar  \0", 8);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Adds PAX records for the entry to come.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extended(b'x', records)
    }

    /// Adds PAX records as another kind of header: `g` for all entries to come.
    pub fn extended(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(kind, "pax", "", &data)
    }

    /// Gives the archive with the two blocks of zeros at its end.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    /// Gives the archive as it is, without an end.
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits).expect("a length has a length");
    [format!("{} {key}=", rest + digits).as_bytes(), value, b"\n"].concat()
}
