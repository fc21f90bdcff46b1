//! Archives as chance makes them, as many as `EVENKEEL_FUZZ_CASES` says: nothing may panic, hang or leave its directory.
//!
//! They are made of entries and not of bytes, so that most get past the headers. What fails is printed in its smallest form.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::archive::Archive;
use super::compression::decompress;
use super::extract::{Limits, extract};
use super::manifest::{ConfigFile, Document};
use super::platform;
use crate::tree;

/// One header with its data; what is given as bytes is written over the finished header.
#[derive(Clone, Debug)]
struct Entry {
    kind: u8,
    path: Vec<u8>,
    link: Vec<u8>,
    data: Vec<u8>,
    records: Vec<(&'static str, Vec<u8>)>,
    damage: Vec<(Index, u8)>,
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("EVENKEEL_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let parts: [&[u8]; 15] = [
        b"a",
        b"b",
        b"c",
        b"d",
        b"..",
        b".",
        b"",
        b".wh.a",
        b".wh.b",
        b".wh..wh..opq",
        b".wh..",
        b".wh...",
        b".wh.",
        b"\xff\xfe",
        b"long-long-long-long-long-long-long-long-long-long-long",
    ];
    vec(select(parts.to_vec()), 1..5).prop_map(|parts| parts.join(&b'/'))
}

fn entry() -> impl Strategy<Value = Entry> {
    let keys = [
        "path",
        "linkpath",
        "size",
        "mtime",
        "uid",
        "gid",
        "SCHILY.xattr.user.a",
        "SCHILY.xattr.trusted.overlay.opaque",
        "SCHILY.xattr.security.capability",
        "GNU.sparse.size",
        "GNU.sparse.map",
        "GNU.sparse.major",
        "GNU.sparse.realsize",
        "GNU.sparse.name",
        "GNU.sparse.offset",
        "GNU.sparse.numbytes",
    ];
    let values = prop_oneof![
        path(),
        select(vec![
            "0",
            "1",
            "0,1",
            "1,0,4,2",
            "18446744073709551615",
            "9223372036854775808",
            "-1",
            "1.5",
            "",
            "4294967295"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..20),
    ];
    let kind = select(b"0000011112223455567xgLKSV\0Z".to_vec());
    let damage = prop_oneof![6 => Just(Vec::new()), 1 => vec((any::<Index>(), any::<u8>()), 1..4)];
    let data = prop_oneof![vec(any::<u8>(), 0..40), path(), Just(b"1\n0\n1\n".to_vec()), Just(vec![0; 2000])];
    let records = prop_oneof![2 => Just(Vec::new()), 1 => vec((select(keys.to_vec()), values), 1..4)];
    (kind, path(), path(), data, records, damage).prop_map(|(kind, path, link, data, records, damage)| Entry {
        kind,
        path,
        link,
        data,
        records,
        damage,
    })
}

impl Entry {
    fn write(&self, archive: &mut Vec<u8>) {
        let mut pax = Vec::new();
        for (key, value) in &self.records {
            let rest = key.len() + value.len() + 3;
            let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
            pax.extend([format!("{} {key}=", rest + digits).as_bytes(), value, b"\n"].concat());
        }
        if !pax.is_empty() {
            header(archive, b'x', b"pax", b"", &pax, &[]);
        }
        header(archive, self.kind, &self.path, &self.link, &self.data, &self.damage);
    }
}

fn header(archive: &mut Vec<u8>, kind: u8, path: &[u8], link: &[u8], data: &[u8], damage: &[(Index, u8)]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(data.len() as u64);
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, path), (&mut old.linkname, link)] {
        let length = text.len().min(100);
        field[..length].copy_from_slice(&text[..length]);
    }
    for (at, byte) in damage {
        let at = at.index(512);
        header.as_mut_bytes()[at] = *byte;
    }
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// Unpacks into a directory with others beside it, and looks whether those are as they were.
fn unpack(bytes: &[u8]) {
    let outer = tempfile::tempdir().unwrap();
    for name in ["layer", "a", "b"] {
        fs::create_dir(outer.path().join(name)).unwrap();
        fs::write(outer.path().join(name).join("canary"), "untouched").unwrap();
    }
    fs::remove_file(outer.path().join("layer/canary")).unwrap();
    let before = snapshot(outer.path());
    let directory = File::open(outer.path().join("layer")).unwrap();
    let limits = Limits { entries: 1000, bytes: 1 << 20, file: 1 << 30 };
    if let Ok((_, stream)) = decompress(Cursor::new(bytes)) {
        let _ = extract(stream, directory.into(), limits).map(drop);
    }
    assert_eq!(snapshot(outer.path()), before);
    tree::size(&outer.path().join("layer")).unwrap();
    tree::remove(&outer.path().join("layer")).unwrap();
}

fn snapshot(outer: &Path) -> Vec<String> {
    let mut lines: Vec<String> =
        fs::read_dir(outer).unwrap().map(|entry| format!("{:?}", entry.unwrap().file_name())).collect();
    for name in ["a", "b"] {
        let entries = fs::read_dir(outer.join(name)).unwrap().map(|entry| entry.unwrap().path());
        lines.extend(entries.map(|path| format!("{path:?} {:?}", fs::read_to_string(&path))));
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn layers_of_chance_stay_in_their_directory(entries in vec(entry(), 1..12), cut in any::<Option<Index>>()) {
        let mut archive = Vec::new();
        entries.iter().for_each(|entry| entry.write(&mut archive));
        if let Some(cut) = cut {
            archive.truncate(cut.index(archive.len() + 1));
        }
        unpack(&archive);
    }

    #[test]
    fn compressed_bytes_of_chance_are_read_without_panic(
        entries in vec(entry(), 1..4), zstd in any::<bool>(), damage in vec((any::<Index>(), any::<u8>()), 0..6),
    ) {
        let mut archive = Vec::new();
        entries.iter().for_each(|entry| entry.write(&mut archive));
        let mut packed = if zstd {
            zstd::encode_all(archive.as_slice(), 1).unwrap()
        } else {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &archive).unwrap();
            encoder.finish().unwrap()
        };
        for (at, byte) in damage {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        unpack(&packed);
    }

    #[test]
    fn image_archives_of_chance_are_read_without_panic(
        entries in vec(entry(), 0..6), list in json(), index in json(), damage in vec((any::<Index>(), any::<u8>()), 0..3),
    ) {
        let mut archive = Vec::new();
        header(&mut archive, b'0', b"manifest.json", b"", list.as_bytes(), &[]);
        header(&mut archive, b'0', b"config.json", b"", index.as_bytes(), &[]);
        entries.iter().for_each(|entry| entry.write(&mut archive));
        header(&mut archive, b'0', b"index.json", b"", index.as_bytes(), &[]);
        for (at, byte) in damage {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("archive.tar");
        fs::write(&path, &archive).unwrap();
        if let Ok(archive) = Archive::open(&path, directory.path())
            && let Ok(described) = archive.describe(None, &platform::machine())
        {
            for layer in &described.layers {
                let _ = archive.open_layer(layer).map(|mut stream| std::io::copy(&mut stream, &mut std::io::sink()));
            }
        }
        let _ = Document::parse(list.as_bytes(), "chance").is_ok();
        let _ = ConfigFile::parse(index.as_bytes(), "chance").map(|config| config.inherited());
    }
}

/// JSON of the words that manifests are made of, some of it cut short.
fn json() -> impl Strategy<Value = String> {
    let digest = format!("\"sha256:{}\"", "0".repeat(64));
    let atoms = vec![
        "null".to_owned(),
        "1".to_owned(),
        "-1".to_owned(),
        "1e400".to_owned(),
        "18446744073709551615".to_owned(),
        "\"config.json\"".to_owned(),
        "\"a\"".to_owned(),
        "\"../a\"".to_owned(),
        "\"\\u0000\"".to_owned(),
        digest,
        "\"sha256:../../a\"".to_owned(),
        "\"linux\"".to_owned(),
        "2".to_owned(),
        "\"application/vnd.oci.image.manifest.v1+json\"".to_owned(),
    ];
    let keys = [
        "schemaVersion",
        "mediaType",
        "config",
        "Config",
        "layers",
        "Layers",
        "manifests",
        "digest",
        "size",
        "urls",
        "platform",
        "os",
        "architecture",
        "rootfs",
        "diff_ids",
        "RepoTags",
        "annotations",
        "Env",
        "Cmd",
        "Labels",
    ];
    let value = select(atoms).prop_recursive(5, 24, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec((select(keys.to_vec()), inner), 0..5).prop_map(|entries| {
                let entries: Vec<String> = entries.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    });
    (value, any::<Index>(), prop::bool::weighted(0.1)).prop_map(|(text, at, cut)| {
        let at = at.index(text.len() + 1);
        if cut { text[..at].to_owned() } else { text }
    })
}
