//! Reads a tar stream member by member: ustar, GNU and PAX (POSIX.1-2001), sparse files included.
//!
//! The `tar` crate parses headers; what spans several blocks is put together here, because that crate splits PAX records at
//! newlines (a binary `security.capability` may hold one), reads extended headers of any length into memory, and knows
//! only the oldest of the four sparse formats. Nothing is written to disk here, and no path is judged.

mod number;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use tar::{EntryType, Header};
use thiserror::Error;

use pax::{Globals, Overlaid, Records};
pub use sparse::Segment;

const BLOCK: u64 = 512;
/// The longest extended header (PAX records, GNU long names) that is read. Linux holds at most 64 KiB of attributes per name.
const EXTENDED_HEADER_LIMIT: u64 = 1 << 20;

/// The longest sum of records that hold for every member to come.
const GLOBAL_HEADER_LIMIT: usize = 64 << 10;

/// What is wrong with a tar stream.
#[derive(Debug, Error)]
pub enum TarError {
    #[error("the stream cannot be read")]
    Read(#[source] io::Error),
    #[error("the archive ends within a member")]
    Truncated,
    #[error("the header at byte {offset} has a wrong checksum: this is not a tar archive, or it is damaged")]
    Checksum { offset: u64 },
    #[error("the {field} in the header at byte {offset} is not a number")]
    Number { field: &'static str, offset: u64 },
    #[error("the extended header at byte {offset} is {length} bytes long, which is too much")]
    ExtendedHeaderTooLong { offset: u64, length: u64 },
    #[error("the extended header before byte {offset} is malformed")]
    ExtendedHeader { offset: u64 },
    #[error("the map of a sparse file before byte {offset} is malformed")]
    SparseMap { offset: u64 },
    #[error("the member at byte {offset} has the unknown type {kind:?}")]
    UnknownType { offset: u64, kind: char },
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// A point in time as an archive holds it, before or after 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// One member. The data of a file is read from the [`Tarball`] before the next member is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The path as it stands in the archive.
    pub path: Vec<u8>,
    pub kind: MemberKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub modified: Time,
    /// The file's length, holes included.
    pub size: u64,
    /// The target of a link, empty for all else.
    pub link: Vec<u8>,
    /// Extended attributes, names as the kernel has them.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data belongs in a sparse file; the data itself lies without gaps in the archive.
    pub segments: Option<Vec<Segment>>,
    /// Where the member's data begins in the stream.
    pub data_offset: u64,
}

/// A tar stream being read.
pub struct Tarball<R> {
    source: R,
    position: u64,
    /// Bytes of the present member's data that were not read yet, and the padding after them.
    remaining: u64,
    padding: u64,
    global: Globals,
    ended: bool,
}

impl<R: Read> Tarball<R> {
    /// Begins to read at the first header.
    pub fn new(source: R) -> Self {
        Tarball { source, position: 0, remaining: 0, padding: 0, global: Globals::default(), ended: false }
    }

    /// Gives back the source, which may hold padding after the archive's end.
    pub fn into_source(self) -> R {
        self.source
    }

    /// Reads the next member's headers, passing over what was left of the member before.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.skip(self.remaining.saturating_add(self.padding))?;
        (self.remaining, self.padding) = (0, 0);
        let mut long_name = None;
        let mut long_link = None;
        let mut local = Records::default();
        let mut extended = 0;
        loop {
            let offset = self.position;
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let size = number::parse(&header.as_old().size).ok_or(TarError::Number { field: "size", offset })?;
            let size = u64::try_from(size).map_err(|_| TarError::Number { field: "size", offset })?;
            match header.entry_type() {
                EntryType::GNULongName => long_name = Some(until_nul(self.read_extended(offset, size)?)),
                EntryType::GNULongLink => long_link = Some(until_nul(self.read_extended(offset, size)?)),
                EntryType::XHeader => {
                    // Any number of them may stand before a member.
                    extended += size.min(EXTENDED_HEADER_LIMIT + 1);
                    if extended > EXTENDED_HEADER_LIMIT {
                        return Err(TarError::ExtendedHeaderTooLong { offset, length: extended });
                    }
                    let records = self.read_extended(offset, size)?;
                    local.extend(&records).ok_or(TarError::ExtendedHeader { offset: self.position })?;
                }
                EntryType::XGlobalHeader => {
                    let records = self.read_extended(offset, size)?;
                    let malformed = TarError::ExtendedHeader { offset: self.position };
                    let length = self.global.extend(&records).ok_or(malformed)?;
                    if length > GLOBAL_HEADER_LIMIT {
                        return Err(TarError::ExtendedHeaderTooLong { offset, length: length as u64 });
                    }
                }
                // A volume's label (GNU) is no member.
                kind if kind.as_byte() == b'V' => self.skip(size.saturating_add(padding(size)))?,
                _ => {
                    let global = std::mem::take(&mut self.global);
                    let member = self.member(&header, offset, size, &global.overlaid(&local), long_name);
                    self.global = global;
                    let mut member = member?;
                    if matches!(member.kind, MemberKind::HardLink | MemberKind::Symlink) {
                        member.link = long_link.unwrap_or(member.link);
                    } else {
                        member.link = Vec::new();
                    }
                    return Ok(Some(member));
                }
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        offset: u64,
        size: u64,
        records: &Overlaid<'_>,
        long_name: Option<Vec<u8>>,
    ) -> Result<Member, TarError> {
        let old = header.as_old();
        let field = |bytes: &[u8], field| number::parse(bytes).ok_or(TarError::Number { field, offset });
        let unsigned = |bytes: &[u8], name| {
            field(bytes, name).and_then(|n| u64::try_from(n).map_err(|_| TarError::Number { field: name, offset }))
        };
        let record = |key: &str, name: &'static str| match records.get(key) {
            Some(value) => pax::decimal(value).map(Some).ok_or(TarError::Number { field: name, offset }),
            None => Ok(None),
        };
        let device = || {
            let (major, minor) = header
                .as_ustar()
                .map(|h| (&h.dev_major, &h.dev_minor))
                .or(header.as_gnu().map(|h| (&h.dev_major, &h.dev_minor)))
                .unzip();
            let part = |bytes: Option<&[u8; 8]>, name| match bytes {
                Some(bytes) => unsigned(bytes, name)
                    .and_then(|n| u32::try_from(n).map_err(|_| TarError::Number { field: name, offset })),
                None => Ok(0),
            };
            Ok::<_, TarError>((part(major, "major device number")?, part(minor, "minor device number")?))
        };
        // The header holds only the beginning of a long name, which may end in a slash.
        let path = long_name.or_else(|| records.get("path").map(<[u8]>::to_vec));
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match header.entry_type() {
            // Archives older than POSIX say so with a slash.
            EntryType::Regular if path.ends_with(b"/") => MemberKind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => MemberKind::File,
            EntryType::Link => MemberKind::HardLink,
            EntryType::Symlink => MemberKind::Symlink,
            EntryType::Directory => MemberKind::Directory,
            EntryType::Fifo => MemberKind::Fifo,
            EntryType::Char => device().map(|(major, minor)| MemberKind::CharacterDevice { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| MemberKind::BlockDevice { major, minor })?,
            other => return Err(TarError::UnknownType { offset, kind: char::from(other.as_byte()) }),
        };
        // Only a file has data, whatever the header of another kind says.
        let stored = if kind == MemberKind::File { record("size", "size")?.unwrap_or(size) } else { 0 };
        (self.remaining, self.padding) = (stored, padding(stored));
        let modified = match records.get("mtime") {
            Some(value) => pax::time(value).ok_or(TarError::Number { field: "modification time", offset })?,
            None => {
                Time { seconds: i64::try_from(field(&old.mtime, "modification time")?).unwrap_or(0), nanoseconds: 0 }
            }
        };
        let mut member = Member {
            path,
            kind,
            mode: u32::try_from(unsigned(&old.mode, "mode")? & 0o7777).unwrap_or(0),
            uid: record("uid", "user id")?.map_or_else(|| unsigned(&old.uid, "user id"), Ok)?,
            gid: record("gid", "group id")?.map_or_else(|| unsigned(&old.gid, "group id"), Ok)?,
            modified,
            size: stored,
            link: records
                .get("linkpath")
                .map(<[u8]>::to_vec)
                .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
                .unwrap_or_default(),
            attributes: records.attributes(),
            segments: None,
            data_offset: 0,
        };
        if kind == MemberKind::File {
            sparse::complete(self, header, records, &mut member)?;
        }
        member.data_offset = self.position;
        Ok(member)
    }

    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let offset = self.position;
        let mut header = Header::new_old();
        // An archive without its two closing blocks of zeros is common, and complete when it ends at a member's end.
        if !self.read_block(header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        match number::parse(&header.as_old().cksum) {
            Some(stated) if stated == i128::from(sum) => Ok(Some(header)),
            _ => Err(TarError::Checksum { offset }),
        }
    }

    /// Reads one block; `false` where the stream ended before its first byte.
    fn read_block(&mut self, block: &mut [u8; BLOCK as usize]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::Truncated),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        self.position += BLOCK;
        Ok(true)
    }

    fn read_extended(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, TarError> {
        if length > EXTENDED_HEADER_LIMIT {
            return Err(TarError::ExtendedHeaderTooLong { offset, length });
        }
        let mut data = Vec::new();
        let count = (&mut self.source).take(length).read_to_end(&mut data).map_err(TarError::Read)?;
        self.position += count as u64;
        if (count as u64) < length {
            return Err(TarError::Truncated);
        }
        self.skip(padding(length))?;
        Ok(data)
    }

    fn skip(&mut self, length: u64) -> Result<(), TarError> {
        let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink()).map_err(TarError::Read)?;
        self.position += skipped;
        if skipped < length { Err(TarError::Truncated) } else { Ok(()) }
    }
}

/// Reads the data of the present member; an archive that ends within it is an error.
impl<R: Read> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.remaining == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let wanted = usize::try_from(self.remaining).map_or(buffer.len(), |remaining| remaining.min(buffer.len()));
        let count = self.source.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TarError::Truncated));
        }
        self.remaining -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
