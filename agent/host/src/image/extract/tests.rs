//! Layers onto a real file system: what the kernel says of them, and what hostile ones may not do.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

/// An archive under construction.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Layer(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        header
    }

    /// Adds an entry whose name is taken as it is, `..` and leading slashes included.
    fn raw(mut self, mut header: Header, path: &str, link: &str, data: &[u8]) -> Self {
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.raw(Self::header(EntryType::Regular, 0o644), path, "", data.as_bytes())
    }

    fn directory(self, path: &str, mode: u32) -> Self {
        self.raw(Self::header(EntryType::Directory, mode), path, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(Self::header(EntryType::Symlink, 0o777), path, target, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.raw(Self::header(EntryType::Link, 0o644), path, target, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn unpack(self) -> Result<Unpacked, ExtractError> {
        self.unpack_within(Limits::default())
    }

    fn unpack_within(self, limits: Limits) -> Result<Unpacked, ExtractError> {
        let bytes = self.0.into_inner().unwrap();
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("layer")).unwrap();
        fs::write(outer.path().join("secret"), "untouched").unwrap();
        let directory = File::open(outer.path().join("layer")).unwrap();
        let result = extract(bytes.as_slice(), directory.into(), limits);
        assert_eq!(fs::read_to_string(outer.path().join("secret")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "nothing was made outside the layer");
        result.map(|_| Unpacked { outer })
    }

    /// Unpacks what must be refused, and gives the entry and the reason.
    #[track_caller]
    fn refused(self) -> (String, EntryProblem) {
        match self.unpack() {
            Err(ExtractError::Entry { path, source }) => (path, source),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it was unpacked"),
        }
    }
}

struct Unpacked {
    outer: TempDir,
}

impl Unpacked {
    fn path(&self, path: &str) -> PathBuf {
        self.outer.path().join("layer").join(path)
    }

    fn metadata(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.path(path)).unwrap()
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let metadata = self.metadata(path);
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    }

    fn attribute(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let mut buffer = [0; 256];
        let length = rustix::fs::lgetxattr(self.path(path), name, &mut buffer[..]).ok()?;
        Some(buffer[..length].to_vec())
    }

    fn is_opaque(&self, path: &str) -> bool {
        self.attribute(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
    }
}

#[test]
fn owners_modes_times_and_links_are_kept() {
    let mut owned = Layer::header(EntryType::Regular, 0o4751);
    owned.set_uid(1234);
    owned.set_gid(5678);
    let layer = Layer::new()
        .directory("./", 0o751)
        .directory("d/", 0o2770)
        .raw(owned, "d/setuid", "", b"program")
        .hard_link("d/again", "d/setuid")
        .symlink("d/link", "../outside/of/everything")
        .pax(&[("mtime", b"1500000000.123456789")])
        .file("d/precise", "")
        .file("implicit/parents/file", "x")
        .unpack()
        .unwrap();
    let metadata = layer.metadata("d/setuid");
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 5678, 0o4751));
    assert_eq!((metadata.nlink(), metadata.mtime()), (2, 1_000_000_000));
    assert_eq!(layer.metadata("d/again").ino(), metadata.ino());
    assert_eq!(fs::read_link(layer.path("d/link")).unwrap(), Path::new("../outside/of/everything"));
    let precise = layer.metadata("d/precise");
    assert_eq!((precise.mtime(), precise.mtime_nsec()), (1_500_000_000, 123_456_789));
    let directory = layer.metadata("d");
    assert_eq!((directory.mode() & 0o7777, directory.mtime()), (0o2770, 1_000_000_000), "set after its entries");
    assert_eq!(layer.metadata("").mode() & 0o7777, 0o751);
    assert_eq!(layer.metadata("implicit/parents").mode() & 0o7777, 0o755);
}

#[test]
fn devices_and_pipes_are_made() {
    let mut null = Layer::header(EntryType::Char, 0o666);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    let mut disk = Layer::header(EntryType::Block, 0o660);
    disk.set_device_major(8).unwrap();
    disk.set_device_minor(1).unwrap();
    let layer = Layer::new()
        .raw(null, "dev/null", "", b"")
        .raw(disk, "dev/sda1", "", b"")
        .raw(Layer::header(EntryType::Fifo, 0o600), "pipe", "", b"")
        .unpack()
        .unwrap();
    let null = layer.metadata("dev/null");
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o666));
    assert!(layer.metadata("dev/sda1").file_type().is_block_device());
    assert!(layer.metadata("pipe").file_type().is_fifo());
}

#[test]
fn attributes_are_set_after_the_owner() {
    // cap_net_bind_service+ep, as setcap writes it (version 2 of the format).
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut file = Layer::header(EntryType::Regular, 0o755);
    file.set_uid(7);
    let layer = Layer::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.mime_type", b"text/plain\nwith a newline"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.security.selinux", b"system_u:object_r:etc_t:s0"),
        ])
        .raw(file, "server", "", b"")
        .unpack()
        .unwrap();
    assert_eq!(layer.attribute("server", "security.capability").as_deref(), Some(capability.as_slice()));
    assert_eq!(layer.attribute("server", "user.mime_type").as_deref(), Some(b"text/plain\nwith a newline".as_slice()));
    assert_eq!(layer.attribute("server", "trusted.overlay.redirect"), None, "overlayfs is not steered by archives");
}

#[test]
fn whiteouts_become_what_overlayfs_takes_for_them() {
    let layer = Layer::new()
        .file("etc/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/kept", "")
        .file(".wh..wh.plnk", "")
        .file("both", "new")
        .file(".wh.both", "")
        .directory("made/", 0o755)
        .file(".wh.made", "")
        .file(".wh.later", "")
        .directory("later/", 0o700)
        .file(".wh.implied", "")
        .file("implied/file", "")
        .unpack()
        .unwrap();
    assert!(layer.is_whiteout("etc/gone"));
    assert!(layer.is_opaque("opaque") && layer.path("opaque/kept").exists());
    assert_eq!(layer.text("both"), "new", "a layer's own file is not hidden by its whiteout");
    assert!(layer.is_opaque("made"), "what lower layers hold in it is");
    assert!(layer.is_opaque("later") && layer.is_opaque("implied"));
    assert!(!layer.is_opaque("etc"));
    assert_eq!(fs::read_dir(layer.path("")).unwrap().count(), 6);
}

#[test]
fn an_overlay_of_two_layers_hides_what_was_deleted() {
    // A mount namespace of its own: nextest runs each test in a process of its own, with one thread at this point.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let lower = Layer::new().file("etc/kept", "1").file("etc/gone", "1").file("cache/old", "1").unpack().unwrap();
    let upper =
        Layer::new().file("etc/.wh.gone", "").file("cache/.wh..wh..opq", "").file("cache/new", "2").unpack().unwrap();
    let merged = tempfile::tempdir().unwrap();
    let options = format!("lowerdir={}:{}", upper.path("").display(), lower.path("").display());
    let mounted = nix::mount::mount(
        Some("overlay"),
        merged.path(),
        Some("overlay"),
        nix::mount::MsFlags::MS_RDONLY,
        Some(options.as_str()),
    );
    mounted.unwrap();
    let names = |path: &str| {
        let entries = fs::read_dir(merged.path().join(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let (etc, cache) = (names("etc"), names("cache"));
    nix::mount::umount(merged.path()).unwrap();
    assert_eq!(etc, ["kept"]);
    assert_eq!(cache, ["new"]);
}

#[test]
fn later_entries_replace_earlier_ones_of_another_kind() {
    let layer = Layer::new()
        .directory("a/", 0o755)
        .file("a/b", "")
        .file("a", "file over directory")
        .symlink("c", "/etc")
        .directory("c/", 0o700)
        .file("d", "x")
        .symlink("d", "a")
        .file("e", "first")
        .hard_link("f", "e")
        .file("e", "second")
        .unpack()
        .unwrap();
    assert_eq!(layer.text("a"), "file over directory");
    assert!(layer.metadata("c").is_dir());
    assert_eq!(layer.metadata("c").permissions().mode() & 0o7777, 0o700);
    assert!(layer.metadata("d").is_symlink());
    assert_eq!((layer.text("e"), layer.text("f")), ("second".to_owned(), "first".to_owned()));
}

#[test]
fn links_as_parents_stay_within_the_layer() {
    let layer = Layer::new()
        .directory("usr/lib/", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/libc.so", "c")
        .directory("etc/", 0o755)
        .symlink("up", "../../../../../../etc")
        .file("up/passwd", "of the layer")
        .symlink("absolute", "/etc")
        .file("absolute/group", "of the layer")
        .unpack()
        .unwrap();
    assert_eq!(layer.text("usr/lib/libc.so"), "c");
    assert_eq!(layer.text("etc/passwd"), "of the layer");
    assert_eq!(layer.text("etc/group"), "of the layer");
    assert!(layer.metadata("lib").is_symlink());
}

#[test]
fn hostile_paths_are_refused_or_made_harmless() {
    let absolute = Layer::new().file("/../secret", "x").refused();
    assert!(matches!(absolute, (path, EntryProblem::ParentComponent) if path == "/../secret"));
    assert!(matches!(Layer::new().file("a/../../secret", "x").refused().1, EntryProblem::ParentComponent));
    assert!(matches!(Layer::new().hard_link("a", "../secret").refused().1, EntryProblem::ParentComponent));
    assert_eq!(Layer::new().file("/etc/motd", "x").unpack().unwrap().text("etc/motd"), "x");
    // Written through a link to a file outside, were the last component followed.
    let layer = Layer::new().symlink("x", "../secret").file("x", "mine").unpack().unwrap();
    assert_eq!(layer.text("x"), "mine");
    let dangling = Layer::new().symlink("x", "../secret").file("x/y", "").refused();
    assert!(matches!(dangling.1, EntryProblem::DanglingParent { link } if link == "x"));
    let link = Layer::new().symlink("out", "/proc/self/cwd").hard_link("got", "out/Cargo.toml").refused();
    assert!(matches!(link.1, EntryProblem::MissingTarget { .. }));
    let device = Layer::new().file(".wh.gone", "").hard_link("a", "gone").refused();
    assert!(matches!(device.1, EntryProblem::BadTarget { .. }));
    assert!(matches!(Layer::new().hard_link(".wh.a", "b").refused().1, EntryProblem::WhiteoutLink));
    assert!(matches!(Layer::new().file(".wh...", "").refused().1, EntryProblem::EmptyWhiteout));
    assert!(matches!(Layer::new().file(".wh.a/b", "").refused().1, EntryProblem::BelowWhiteout));
    let nul = Layer::new().pax(&[("path", b"a\0b")]).file("a", "").refused();
    assert!(matches!(nul.1, EntryProblem::NulByte));
    let mut owner = Layer::header(EntryType::Regular, 0o644);
    owner.set_uid(u64::from(u32::MAX));
    assert!(matches!(Layer::new().raw(owner, "a", "", b"").refused().1, EntryProblem::Owner { .. }));
}

#[test]
fn limits_and_lying_sizes_end_the_extraction() {
    let limits = |entries, bytes, file| Limits { entries, bytes, file };
    let many = Layer::new().file("a", "").file("b", "").file("c", "").unpack_within(limits(2, 100, 100));
    let Err(ExtractError::Entry { path, source: EntryProblem::TooManyEntries { limit: 2 } }) = many else { panic!() };
    assert_eq!(path, "c");
    let large = Layer::new().file("a", "123").file("b", "456").unpack_within(limits(9, 5, 100));
    assert!(matches!(large, Err(ExtractError::Entry { source: EntryProblem::TooManyBytes { limit: 5 }, .. })));
    let long = Layer::new()
        .pax(&[("GNU.sparse.size", b"1000000"), ("GNU.sparse.map", b"0,3")])
        .file("a", "123")
        .unpack_within(limits(9, 100, 1000));
    assert!(matches!(long, Err(ExtractError::Entry { source: EntryProblem::TooLong { size: 1_000_000, .. }, .. })));

    let mut bytes = Layer::new().file("short", "123").0.into_inner().unwrap();
    bytes.truncate(512 + 2);
    let directory = tempfile::tempdir().unwrap();
    let result = extract(bytes.as_slice(), File::open(directory.path()).unwrap().into(), Limits::default());
    assert!(
        matches!(&result, Err(ExtractError::Entry { path, source: EntryProblem::Data(_) }) if path == "short"),
        "{result:?}"
    );
}

#[test]
fn sparse_files_have_holes() {
    let data = "x".repeat(4096);
    let layer = Layer::new()
        .pax(&[("GNU.sparse.size", b"10485760"), ("GNU.sparse.map", b"5242880,4096")])
        .file("sparse", &data)
        .unpack()
        .unwrap();
    let metadata = layer.metadata("sparse");
    assert_eq!(metadata.len(), 10_485_760);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let content = fs::read(layer.path("sparse")).unwrap();
    assert_eq!(&content[5_242_880..5_242_880 + 4096], data.as_bytes());
    assert!(content[..5_242_880].iter().all(|byte| *byte == 0));
}
