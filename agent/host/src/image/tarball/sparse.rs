//! Sparse files: the GNU header type `S`, and the PAX formats 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").

use std::io::Read;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::pax::{Overlaid, decimal};
use super::{BLOCK, Member, TarError, Tarball, number};

/// The longest map that is read: pieces of one file.
const SEGMENT_LIMIT: usize = 1 << 20;
/// The longest line of a map in a file's data: a decimal number of 64 bits and its newline.
const LINE_LIMIT: usize = 21;

/// A piece of a sparse file that is stored in the archive. All between pieces is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// Reads a file's sparse map, where it has one, and corrects its name and size by it.
pub fn complete<R: Read>(
    tarball: &mut Tarball<R>,
    header: &Header,
    records: &Overlaid<'_>,
    member: &mut Member,
) -> Result<(), TarError> {
    let (segments, size) = if header.entry_type().is_gnu_sparse() {
        from_header(tarball, header)?
    } else if records.get("GNU.sparse.major").is_some_and(|major| major == b"1") {
        let size = records.get("GNU.sparse.realsize").and_then(decimal);
        (from_data(tarball)?, size.ok_or_else(|| malformed(tarball))?)
    } else if let Some(size) = records.get("GNU.sparse.size") {
        let map = match records.get("GNU.sparse.map") {
            Some(map) => map.split(|byte| *byte == b',').map(decimal).collect::<Option<Vec<u64>>>(),
            None => {
                let (offsets, lengths) = (records.all("GNU.sparse.offset"), records.all("GNU.sparse.numbytes"));
                offsets.zip(lengths).flat_map(|(o, l)| [decimal(o), decimal(l)]).collect()
            }
        };
        let pairs = map.filter(|map| map.len() % 2 == 0).ok_or_else(|| malformed(tarball))?;
        let segments = pairs.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect();
        (segments, decimal(size).ok_or_else(|| malformed(tarball))?)
    } else {
        return Ok(());
    };
    if !fits(&segments, size, tarball.remaining) {
        return Err(malformed(tarball));
    }
    if let Some(name) = records.get("GNU.sparse.name") {
        member.path = name.to_vec();
    }
    member.size = size;
    member.segments = Some(segments);
    Ok(())
}

/// Tells whether pieces are in order, do not overlap, lie within the file, and are all that is stored.
fn fits(segments: &[Segment], size: u64, stored: u64) -> bool {
    let mut end = 0u64;
    let mut sum = 0u64;
    for segment in segments {
        let Some(next) = segment.offset.checked_add(segment.length).filter(|_| segment.offset >= end) else {
            return false;
        };
        end = next;
        sum = sum.saturating_add(segment.length);
    }
    end <= size && sum == stored
}

fn malformed<R>(tarball: &Tarball<R>) -> TarError {
    TarError::SparseMap { offset: tarball.position }
}

fn from_header<R: Read>(tarball: &mut Tarball<R>, header: &Header) -> Result<(Vec<Segment>, u64), TarError> {
    let gnu = header.as_gnu().ok_or_else(|| malformed(tarball))?;
    let size = number::parse(&gnu.realsize).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| malformed(tarball))?;
    let mut segments = Vec::new();
    let add = |blocks: &[GnuSparseHeader], segments: &mut Vec<Segment>| {
        for block in blocks.iter().filter(|block| !block.is_empty()) {
            let offset = number::parse(&block.offset).and_then(|n| u64::try_from(n).ok())?;
            let length = number::parse(&block.numbytes).and_then(|n| u64::try_from(n).ok())?;
            segments.push(Segment { offset, length });
        }
        (segments.len() <= SEGMENT_LIMIT).then_some(())
    };
    add(&gnu.sparse, &mut segments).ok_or_else(|| malformed(tarball))?;
    let mut more = gnu.is_extended();
    while more {
        let mut extension = GnuExtSparseHeader::new();
        // The map's blocks lie between the header and the data, and are not counted in the member's size.
        let mut block = [0; BLOCK as usize];
        if !tarball.read_block(&mut block)? {
            return Err(TarError::Truncated);
        }
        extension.as_mut_bytes().copy_from_slice(&block);
        add(extension.sparse(), &mut segments).ok_or_else(|| malformed(tarball))?;
        more = extension.is_extended();
    }
    Ok((segments, size))
}

/// Reads the map of format 1.0: lines of decimal numbers at the beginning of the data, padded to a whole block.
fn from_data<R: Read>(tarball: &mut Tarball<R>) -> Result<Vec<Segment>, TarError> {
    let begin = tarball.remaining;
    let count = line(tarball)?;
    let count =
        usize::try_from(count).ok().filter(|count| *count <= SEGMENT_LIMIT).ok_or_else(|| malformed(tarball))?;
    let mut segments = Vec::new();
    for _ in 0..count {
        let (offset, length) = (line(tarball)?, line(tarball)?);
        segments.push(Segment { offset, length });
    }
    let mut rest = super::padding(begin - tarball.remaining);
    let mut byte = [0];
    while rest > 0 {
        if tarball.read(&mut byte).map_err(TarError::Read)? == 0 {
            return Err(malformed(tarball));
        }
        rest -= 1;
    }
    Ok(segments)
}

fn line<R: Read>(tarball: &mut Tarball<R>) -> Result<u64, TarError> {
    let mut digits = Vec::new();
    let mut byte = [0];
    loop {
        if digits.len() > LINE_LIMIT || tarball.read(&mut byte).map_err(TarError::Read)? == 0 {
            return Err(malformed(tarball));
        }
        if byte[0] == b'\n' {
            return decimal(&digits).ok_or_else(|| malformed(tarball));
        }
        digits.push(byte[0]);
    }
}
