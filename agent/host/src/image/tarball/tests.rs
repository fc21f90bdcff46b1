//! Archives as GNU tar, PAX writers and attackers make them.

use std::io::Read;

use super::*;

/// Writes one header with a right checksum.
fn header(path: &str, kind: u8, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn block(header: &Header, data: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap() + rest;
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    block(&header("pax", b'x', data.len() as u64), &data)
}

/// Reads all members with their data.
fn read(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
    let mut tarball = Tarball::new(bytes);
    let mut members = Vec::new();
    while let Some(member) = tarball.next_member()? {
        let mut data = Vec::new();
        tarball.read_to_end(&mut data).map_err(TarError::Read)?;
        members.push((member, data));
    }
    Ok(members)
}

fn only(bytes: &[u8]) -> (Member, Vec<u8>) {
    let [member] = read(bytes).unwrap().try_into().unwrap();
    member
}

#[test]
fn pax_records_win_over_the_header_and_may_hold_newlines() {
    let capability = [1, 0, 0, 2, 0x0a, 4, 0x0a, 0x0a];
    let long = "d/".repeat(200) + "file";
    let bytes = [
        pax(&[
            ("path", long.as_bytes()),
            ("SCHILY.xattr.security.capability", &capability),
            ("mtime", b"-1.25"),
            ("uid", b"3000000"),
            ("size", b"3"),
        ]),
        block(&header("short", b'0', 0), b"abc"),
        block(&header("next", b'0', 1), b"x"),
    ]
    .concat();
    let [(first, data), (second, _)] = read(&bytes).unwrap().try_into().unwrap();
    assert_eq!(first.path, long.as_bytes());
    assert_eq!(first.attributes, [(b"security.capability".to_vec(), capability.to_vec())]);
    assert_eq!(first.modified, Time { seconds: -2, nanoseconds: 750_000_000 });
    assert_eq!((first.uid, first.size, data.as_slice()), (3_000_000, 3, b"abc".as_slice()));
    assert_eq!((second.path.as_slice(), second.uid), (b"next".as_slice(), 0), "records are for one member");
}

#[test]
fn global_records_hold_until_they_are_taken_back() {
    let data = record("SCHILY.xattr.user.a", b"1");
    let bytes = [
        block(&header("g", b'g', data.len() as u64), &data),
        block(&header("a", b'0', 0), b""),
        pax(&[("SCHILY.xattr.user.a", b"2")]),
        block(&header("b", b'0', 0), b""),
    ]
    .concat();
    let values: Vec<_> = read(&bytes).unwrap().into_iter().map(|(member, _)| member.attributes[0].1.clone()).collect();
    assert_eq!(values, [b"1", b"2"]);
}

#[test]
fn gnu_long_names_and_base_256_numbers_are_read() {
    let name = "n".repeat(300) + "\0";
    let target = "t".repeat(200) + "\0";
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    link.set_uid(u64::from(u32::MAX) - 1);
    link.set_gid(0);
    // 1 second before 1970, in base 256.
    link.as_old_mut().mtime = [0xff; 12];
    link.set_cksum();
    let bytes = [
        block(&header("l", b'L', name.len() as u64), name.as_bytes()),
        block(&header("k", b'K', target.len() as u64), target.as_bytes()),
        block(&link, b""),
    ]
    .concat();
    let (member, _) = only(&bytes);
    assert_eq!(member.path, &name.as_bytes()[..300]);
    assert_eq!(member.link, &target.as_bytes()[..200]);
    assert_eq!(member.uid, u64::from(u32::MAX) - 1);
    assert_eq!(member.modified, Time { seconds: -1, nanoseconds: 0 });
}

#[test]
fn a_long_name_that_the_header_cuts_at_a_slash_is_a_file() {
    let name = format!("{}/file", "d".repeat(99));
    let bytes =
        [block(&header("l", b'L', name.len() as u64), name.as_bytes()), block(&header(&name[..100], b'0', 4), b"data")]
            .concat();
    let (member, data) = only(&bytes);
    assert_eq!((member.kind, member.path, data), (MemberKind::File, name.into_bytes(), b"data".to_vec()));
}

#[test]
fn all_four_sparse_formats_say_the_same() {
    let data = [vec![b'a'; 512], vec![b'b'; 100]].concat();
    let segments = [Segment { offset: 1024, length: 512 }, Segment { offset: 4096, length: 100 }];
    let map = b"1024,512,4096,100";
    let pairs: [(&str, &[u8]); 7] = [
        ("GNU.sparse.size", b"9000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"1024"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"4096"),
        ("GNU.sparse.numbytes", b"100"),
        ("GNU.sparse.name", b"sparse"),
    ];
    let file = |size| header("GNUSparseFile.0/sparse", b'0', size);
    let mut in_data = b"2\n1024\n512\n4096\n100\n".to_vec();
    in_data.resize(512, 0);
    in_data.extend_from_slice(&data);
    let mut old = Header::new_gnu();
    old.set_path("sparse").unwrap();
    old.set_entry_type(EntryType::GNUSparse);
    old.set_mode(0o644);
    old.set_uid(0);
    old.set_gid(0);
    old.set_mtime(0);
    let gnu = old.as_gnu_mut().unwrap();
    gnu.size.copy_from_slice(b"00000001144\0");
    gnu.set_real_size(9000);
    for (entry, segment) in gnu.sparse.iter_mut().zip(segments) {
        entry.set_offset(segment.offset);
        entry.set_length(segment.length);
    }
    old.set_cksum();
    let forms = [
        ("GNU", block(&old, &data)),
        ("0.0", [pax(&pairs), block(&file(612), &data)].concat()),
        (
            "0.1",
            [
                pax(&[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", map), ("GNU.sparse.name", b"sparse")]),
                block(&file(612), &data),
            ]
            .concat(),
        ),
        (
            "1.0",
            [
                pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"9000"),
                    ("GNU.sparse.name", b"sparse"),
                ]),
                block(&file(512 + 612), &in_data),
            ]
            .concat(),
        ),
    ];
    for (form, bytes) in forms {
        let (member, read) = only(&bytes);
        assert_eq!(member.path, b"sparse", "{form}");
        assert_eq!(member.size, 9000, "{form}");
        assert_eq!(member.segments.as_deref(), Some(segments.as_slice()), "{form}");
        assert_eq!(read, data, "{form}");
    }
}

#[test]
fn a_sparse_map_that_lies_is_refused() {
    let lies: [(&[u8], &[u8]); 4] = [(b"0,10,5,5", b"20"), (b"10,5,0,5", b"20"), (b"0,5", b"20"), (b"15,10", b"20")];
    for (map, size) in lies {
        let bytes =
            [pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)]), block(&header("f", b'0', 10), &[0; 10])]
                .concat();
        assert!(matches!(read(&bytes), Err(TarError::SparseMap { .. })), "{}", String::from_utf8_lossy(map));
    }
}

#[test]
fn what_is_cut_or_damaged_is_refused() {
    let whole = block(&header("file", b'0', 600), &[7; 600]);
    assert_eq!(only(&whole).1.len(), 600, "closing blocks may be missing");
    assert!(matches!(read(&whole[..800]), Err(TarError::Read(_))));
    assert!(matches!(read(&whole[..100]), Err(TarError::Truncated)));
    let mut damaged = whole.clone();
    damaged[0] = b'x';
    assert!(matches!(read(&damaged), Err(TarError::Checksum { offset: 0 })));
    let unknown = block(&header("file", b'Z', 0), b"");
    assert!(matches!(read(&unknown), Err(TarError::UnknownType { kind: 'Z', .. })));
    let long = header("l", b'L', 1 << 40);
    assert!(matches!(read(long.as_bytes()), Err(TarError::ExtendedHeaderTooLong { .. })));
    let malformed = block(&header("x", b'x', 10), b"99 path=x\n");
    assert!(matches!(read(&malformed), Err(TarError::ExtendedHeader { .. })));
}

#[test]
fn only_files_have_data() {
    let bytes = [block(&header("link", b'2', 4096), b""), block(&header("after", b'0', 1), b"x")].concat();
    let paths: Vec<_> = read(&bytes).unwrap().into_iter().map(|(member, _)| member.path).collect();
    assert_eq!(paths, [b"link".to_vec(), b"after".to_vec()]);
}
