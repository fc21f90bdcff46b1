//! Archives that were made to do harm, given to the program as images.
//!
//! Beside the store lie files that must stay as they are, at every place where a path that leaves its layer would end.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::images::{Image, digest, gzip, layer, write_layout};
use evenkeel_tests::tarball::{CHARACTER_DEVICE, FIFO, FILE, HARD_LINK, SYMLINK, Tarball};
use evenkeel_tests::{Run, Sandbox, run, sandboxed, store};
use serde_json::{Value, json};

use crate::story;

const CANARY: &str = "untouched";

/// Puts files where escapes would end: beside the root, in it, beside the layers, and in `/etc`'s stead.
fn canaries(sandbox: &Sandbox) -> Vec<PathBuf> {
    let root = sandbox.paths().root().to_owned();
    let places = [sandbox.directory().to_owned(), root.clone(), root.join("layers"), root.join("images")];
    for place in &places {
        fs::create_dir_all(place).expect("a directory");
        fs::write(place.join("canary"), CANARY).expect("a canary");
    }
    places.map(|place| place.join("canary")).to_vec()
}

#[track_caller]
fn all_sing(canaries: &[PathBuf]) {
    for canary in canaries {
        assert_eq!(fs::read_to_string(canary).expect("the canary"), CANARY, "{}", canary.display());
        let metadata = fs::metadata(canary).expect("the canary");
        assert_eq!((metadata.nlink(), metadata.uid(), metadata.mode() & 0o7777), (1, 0, 0o644), "{}", canary.display());
    }
}

fn image(sandbox: &Sandbox, name: &str, source: &str, path: &Path) {
    let text = story::image(name, &format!("{source}: {}", path.display()));
    sandbox.manifest(&format!("{name}.yaml"), &text);
}

/// Requires that one image was refused, for a reason in these words.
#[track_caller]
fn refused(run: &Run, name: &str, words: &str) {
    let line = run.failure(&format!("image/{name}"));
    assert!(line.contains(words), "`{words}` is not said of {name}\n{line}");
}

/// Gives the directory of a rootfs image's only layer.
fn unpacked(sandbox: &Sandbox, name: &str) -> PathBuf {
    let record = fs::read(sandbox.paths().images().join(format!("names/{name}.json"))).expect("a record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    let diff_id = record["layers"][0]["diffId"].as_str().expect("a diff id");
    sandbox.paths().layers().join(diff_id.trim_start_matches("sha256:"))
}

fn attribute(path: &Path, name: &str) -> String {
    let mut buffer = [0; 64];
    let length = rustix::fs::lgetxattr(path, name, &mut buffer[..]).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Everything is taken away again, and the store is empty then.
fn removed(sandbox: &Sandbox) {
    sandbox.withdraw_all();
    sandbox.manifest("free.yaml", story::DATA);
    sandbox.apply();
    for directory in [sandbox.paths().layers(), sandbox.paths().images().join("blobs/sha256")] {
        let left: Vec<_> =
            fs::read_dir(directory).expect("it").map(|entry| entry.expect("an entry").file_name()).collect();
        assert!(left.iter().all(|name| name == "canary"), "{left:?}");
    }
}

#[test]
fn hostile_layers_are_refused_or_harmless() {
    sandboxed(|sandbox| {
        let canaries = canaries(sandbox);
        let outside = sandbox.directory().join("canary");
        let up = |levels: usize| format!("{}canary", "../".repeat(levels));
        let tar = Tarball::default;
        let mut wide = tar();
        for _ in 0..40 {
            wide = wide.pax(&[("comment", &vec![b'x'; 60_000])]);
        }
        let keys: Vec<String> = (0..2000).map(|n| format!("key{n}")).collect();
        let globals: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), [b'x'; 40].as_slice())).collect();
        let padded = [tar().file("a", "").finish(), vec![0; 70 << 20]].concat();
        let mut windowed = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        windowed.window_log(28).expect("a window");
        std::io::Write::write_all(&mut windowed, &tar().file("a", "").finish()).expect("memory");
        let windowed = windowed.finish().expect("memory");
        let size = |text: &str| [text.as_bytes(), b"\0"].concat();
        let (minus, vast) = ([0xff; 12], [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        let hostile: Vec<(&str, Vec<u8>, &str)> = vec![
            ("dotdot", tar().file(&up(1), "x").finish(), "with `..`"),
            ("dotdot-within", tar().directory("a").file(&format!("a/{}", up(3)), "x").finish(), "with `..`"),
            ("absolute-dotdot", tar().file(&format!("/{}", up(2)), "x").finish(), "with `..`"),
            ("link-up", tar().link(HARD_LINK, "got", &up(2)).finish(), "with `..`"),
            (
                "link-out",
                tar().link(SYMLINK, "out", "/").link(HARD_LINK, "got", &format!("out{}", outside.display())).finish(),
                "does not hold",
            ),
            (
                "through-link",
                tar()
                    .link(SYMLINK, "out", "../..")
                    .link(SYMLINK, "canary", "out/nowhere")
                    .file("canary/x", "")
                    .finish(),
                "symbolic link to nothing",
            ),
            (
                "chained",
                tar()
                    .directory("a")
                    .link(SYMLINK, "a/b", "..")
                    .link(SYMLINK, "c", "a/b/../../..")
                    .link(SYMLINK, "d", "c/layers/none")
                    .file("d/canary", "x")
                    .finish(),
                "symbolic link to nothing",
            ),
            (
                "endless-links",
                tar().link(SYMLINK, "a", "b").link(SYMLINK, "b", "a").file("a/x", "").finish(),
                "Too many levels of symbolic links",
            ),
            ("whiteout-link", tar().link(HARD_LINK, ".wh.a", "b").finish(), "a whiteout cannot be a link"),
            ("whiteout-symlink", tar().link(SYMLINK, "d/.wh..wh..opq", "..").finish(), "a whiteout cannot be a link"),
            ("whiteout-up", tar().file("d/.wh...", "").finish(), "names no file"),
            ("whiteout-self", tar().file("d/.wh..", "").finish(), "names no file"),
            ("whiteout-nothing", tar().file(".wh.", "").finish(), "names no file"),
            ("below-whiteout", tar().directory(".wh.d").file(".wh.d/x", "").finish(), "below a whiteout"),
            ("nul", tar().pax(&[("path", b"a\0b")]).file("a", "").finish(), "NUL"),
            (
                "negative",
                tar().raw(FILE, b"a", "", &minus, b"x").finish(),
                "the size in the header at byte 0 is not a number",
            ),
            ("vast", tar().raw(FILE, b"a", "", &vast, b"x").finish(), "bytes long, more than"),
            ("vast-label", tar().raw(b'V', b"a", "", &vast, b"x").finish(), "ends within a member"),
            (
                "vast-pax",
                tar().pax(&[("size", b"18446744073709551615")]).file("a", "x").finish(),
                "bytes long, more than",
            ),
            ("longer", tar().raw(FILE, b"a", "", &size("00000100000"), b"x").unfinished(), "its data cannot be read"),
            ("longer-pax", tar().pax(&[("size", b"100000")]).file("a", "x").finish(), "its data cannot be read"),
            ("letters", tar().raw(FILE, b"a", "", &size("zzzzzzzzzzz"), b"x").finish(), "is not a number"),
            (
                "sparse",
                tar()
                    .pax(&[("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"0,1")])
                    .file("a", "x")
                    .finish(),
                "bytes long, more than",
            ),
            (
                "sparse-beyond",
                tar()
                    .pax(&[("GNU.sparse.size", b"1"), ("GNU.sparse.map", b"18446744073709551615,1")])
                    .file("a", "x")
                    .finish(),
                "sparse file",
            ),
            ("long-component", tar().file(&"n".repeat(300), "").finish(), "name too long"),
            (
                "long-path",
                tar().pax(&[("path", "d/".repeat(100_000).as_bytes())]).file("a", "").finish(),
                "name too long",
            ),
            ("wide-headers", wide.file("a", "").finish(), "too much"),
            ("wide-globals", tar().extended(b'g', &globals).file("a", "").finish(), "too much"),
            ("padded", gzip(&padded), "follow the archive's end"),
            ("window", windowed, "needs a window of 256 MiB, more than the 128 MiB"),
            ("owner", tar().pax(&[("uid", b"4294967295")]).file("a", "").finish(), "out of range"),
            ("noise", vec![0x55; 4096], "not a tar archive"),
        ];
        let deep = "d/".repeat(1900);
        let harmless: Vec<(&str, Vec<u8>)> = vec![
            ("absolute", tar().file(outside.to_str().expect("a path"), "of the layer").finish()),
            (
                "swapped",
                tar()
                    .directory("d")
                    .link(SYMLINK, "d", outside.parent().and_then(Path::to_str).expect("a path"))
                    .directory("tmp")
                    .link(SYMLINK, "d", "/tmp")
                    .file("d/canary", "of the layer")
                    .finish(),
            ),
            (
                "overwritten",
                tar()
                    .link(SYMLINK, "canary", outside.to_str().expect("a path"))
                    .link(HARD_LINK, "same", "canary")
                    .file("canary", "of the layer")
                    .file("same", "of the layer")
                    .finish(),
            ),
            (
                "odd",
                tar()
                    .file(".wh..wh..opq", "")
                    .entry(CHARACTER_DEVICE, "d/.wh.gone", "", b"")
                    .file("d/.wh..wh..opq", "data")
                    .directory(".wh.both")
                    .directory("both")
                    .file("twice", "1")
                    .file("twice", "2")
                    .file("turn", "")
                    .directory("turn")
                    .directory("turn2")
                    .file("turn2/x", "")
                    .file("turn2", "")
                    .entry(FIFO, "pipe", "", b"")
                    .pax(&[("path", b"not-utf8-\xff\xfe")])
                    .file("a", "")
                    .finish(),
            ),
            (
                "attributes",
                tar()
                    .pax(&[
                        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                        ("SCHILY.xattr.trusted.overlay.metacopy", b""),
                        ("SCHILY.xattr.user.overlay.opaque", b"y"),
                        ("SCHILY.xattr.user.kept", b"kept"),
                    ])
                    .directory("d")
                    .finish(),
            ),
            ("deep", tar().pax(&[("path", deep.as_bytes())]).directory("a").finish()),
            (
                "holes",
                tar().pax(&[("GNU.sparse.size", b"1099511627776"), ("GNU.sparse.map", b"0,1")]).file("a", "x").finish(),
            ),
        ];
        let put = |name: &str, bytes: &[u8]| {
            let path = sandbox.directory().join(format!("{name}.tar"));
            fs::write(&path, bytes).expect("an archive");
            image(sandbox, name, "rootfs", &path);
        };
        hostile.iter().for_each(|(name, bytes, _)| put(name, bytes));
        harmless.iter().for_each(|(name, bytes)| put(name, bytes));
        sandbox.manifest("free.yaml", story::DATA);

        let said = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        all_sing(&canaries);
        for (name, _, words) in &hostile {
            refused(&said, name, words);
        }
        let failed = said.stdout.lines().filter(|line| line.starts_with("failed: ")).count();
        assert_eq!(failed, hostile.len(), "{said}");
        assert!(sandbox.paths().root().join("volumes/data").is_dir());
        store::assert_sound(&sandbox.paths());
        let of = |name: &str| unpacked(sandbox, name);
        let text = |path: PathBuf| fs::read_to_string(path).expect("a file of the layer");
        assert_eq!(text(of("absolute").join(outside.strip_prefix("/").expect("an absolute path"))), "of the layer");
        assert_eq!(text(of("swapped").join("tmp/canary")), "of the layer");
        assert_eq!(text(of("overwritten").join("canary")), "of the layer");
        let odd = of("odd");
        assert!(fs::symlink_metadata(odd.join("d/gone")).expect("a whiteout").file_type().is_char_device());
        assert_eq!(attribute(&odd, "trusted.overlay.opaque"), "y");
        assert_eq!(text(odd.join("twice")), "2");
        assert!(odd.join("turn").is_dir() && odd.join("turn2").is_file() && odd.join("both").is_dir());
        assert!(odd.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe")).is_file());
        let directory = of("attributes").join("d");
        assert_eq!(attribute(&directory, "user.kept"), "kept");
        for steering in
            ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.opaque"]
        {
            assert_eq!(attribute(&directory, steering), "", "{steering}");
        }
        // Device nodes and set-user-ID programs are within reach of nobody but root.
        for directory in [sandbox.paths().layers(), sandbox.paths().images()] {
            assert_eq!(fs::metadata(directory).expect("it").permissions().mode() & 0o7777, 0o700);
        }
        for (name, _, _) in &hostile {
            fs::remove_file(sandbox.manifests().join(format!("{name}.yaml"))).expect("the manifest");
        }
        sandbox.apply();
        story::in_sync(sandbox);
        removed(sandbox);
        all_sing(&canaries);
    });
}

#[test]
fn hostile_image_archives_are_refused() {
    sandboxed(|sandbox| {
        let canaries = canaries(sandbox);
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let content = layer(&[("file", "content")]);
        let config = json!({"os": "linux", "architecture": machine, "rootfs": {"type": "layers", "diff_ids": [digest(&content)]}}).to_string();
        let list = |config: &str, layer: &str| {
            json!([{"Config": config, "RepoTags": ["app:1"], "Layers": [layer]}]).to_string()
        };
        let saved = || Tarball::default().file("config.json", &config).entry(FILE, "layer.tar", "", &content);
        let outside = sandbox.directory().join("canary");
        let outside = outside.to_str().expect("a path");
        let mut many = Tarball::default();
        for n in 0..100_001 {
            many = many.file(&n.to_string(), "");
        }
        let index = |digest: &str| {
            json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 2}]}).to_string()
        };
        let rows: Vec<(&str, Vec<u8>, &str)> = vec![
            (
                "up",
                saved().file("manifest.json", &list("config.json", "../../../../canary")).finish(),
                "lacks ../../../../canary",
            ),
            ("absolute", saved().file("manifest.json", &list("config.json", outside)).finish(), "lacks /"),
            ("config-up", saved().file("manifest.json", &list("../canary", "layer.tar")).finish(), "lacks ../canary"),
            (
                "linked",
                saved()
                    .link(SYMLINK, "l/layer.tar", outside)
                    .file("manifest.json", &list("config.json", "l/layer.tar"))
                    .finish(),
                "lacks l/layer.tar",
            ),
            (
                "circle",
                saved()
                    .link(SYMLINK, "a", "b")
                    .link(SYMLINK, "b", "a")
                    .file("manifest.json", &list("config.json", "a"))
                    .finish(),
                "lacks a",
            ),
            (
                "other-layer",
                Tarball::default()
                    .file("config.json", &config)
                    .entry(FILE, "layer.tar", "", &layer(&[("other", "")]))
                    .file("manifest.json", &list("config.json", "layer.tar"))
                    .finish(),
                "damaged or tampered with",
            ),
            (
                "vast",
                saved()
                    .raw(FILE, b"vast", "", &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b"")
                    .file("manifest.json", &list("config.json", "layer.tar"))
                    .finish(),
                "ends within a member",
            ),
            (
                "huge-json",
                Tarball::default().file("manifest.json", &" ".repeat(5 << 20)).finish(),
                "longer than 4194304 bytes",
            ),
            ("deep-json", Tarball::default().file("manifest.json", &"[".repeat(1 << 20)).finish(), "not valid JSON"),
            ("many", many.finish(), "more than 100000 members"),
            (
                "bad-digest",
                Tarball::default().file("index.json", &index("sha256:../../../../canary")).finish(),
                "not valid JSON",
            ),
            (
                "other-algorithm",
                Tarball::default().file("index.json", &index("md5:d41d8cd98f00b204e9800998ecf8427e")).finish(),
                "not valid JSON",
            ),
            (
                "not-there",
                Tarball::default().file("index.json", &index(&format!("sha256:{}", "0".repeat(64)))).finish(),
                "lacks blobs/sha256/0000",
            ),
        ];
        for (name, bytes, _) in &rows {
            let path = sandbox.directory().join(format!("{name}.tar"));
            fs::write(&path, bytes).expect("an archive");
            image(sandbox, name, "archive", &path);
        }
        // Layout directories whose blobs are something else than files of theirs.
        let directory = |name: &str| {
            let path = sandbox.directory().join(name);
            // Its own content, twice: what the store holds already is not read again.
            let own = layer(&[("file", name)]);
            let written = write_layout(&path, &Image::new(vec![own.clone(), own]));
            image(sandbox, name, "archive", &path);
            (path.clone(), path.join("blobs/sha256").join(written.blobs[0].hex()))
        };
        let (_, blob) = directory("blob-elsewhere");
        fs::rename(&blob, sandbox.directory().join("blob")).expect("a blob");
        symlink(sandbox.directory().join("blob"), &blob).expect("a link");
        let (_, blob) = directory("blob-endless");
        fs::remove_file(&blob).expect("a blob");
        symlink("/dev/zero", &blob).expect("a link");
        let (path, _) = directory("pipe");
        fs::remove_file(path.join("index.json")).expect("an index");
        run(Command::new("mkfifo").arg(path.join("index.json"))).expect_code(0);
        let (_, blob) = directory("linked-within");
        fs::rename(&blob, blob.with_file_name("moved")).expect("a blob");
        symlink("moved", &blob).expect("a link");
        run(Command::new("mkfifo").arg(sandbox.directory().join("fifo"))).expect_code(0);
        image(sandbox, "fifo", "rootfs", &sandbox.directory().join("fifo"));
        sandbox.manifest("free.yaml", story::DATA);

        let said = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        all_sing(&canaries);
        for (name, _, words) in &rows {
            refused(&said, name, words);
        }
        for (name, words) in [
            ("blob-elsewhere", "links may not lead out of it"),
            ("blob-endless", "links may not lead out of it"),
            ("pipe", "index.json of "),
            ("fifo", "is neither a file nor a directory"),
        ] {
            refused(&said, name, words);
        }
        assert!(!said.stdout.contains("failed: image/linked-within"), "{said}");
        assert!(sandbox.paths().root().join("volumes/data").is_dir());
        store::assert_sound(&sandbox.paths());
        removed(sandbox);
        all_sing(&canaries);
    });
}
