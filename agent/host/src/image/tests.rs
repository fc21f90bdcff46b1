//! The store against the disk: files as sources, sharing, damage, removal, interruption.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use evenkeel_plan::{ObservedImage, Sight};
use evenkeel_schema::{Digest, ImageConfig, ImageSource, ImageSpec, Name, PullPolicy};

use super::layout::digest_of;
use super::{Event, ImageError, Phase, Progress, Quiet, RegistrySettings, Store};
use crate::Paths;

/// A store in a directory of its own.
struct Bench {
    directory: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::with_registries(&paths(directory.path()), RegistrySettings::default()).unwrap();
        Bench { directory, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn layers(&self) -> Vec<String> {
        entries(&self.path("root/layers"))
    }

    fn blobs(&self) -> Vec<String> {
        entries(&self.path("root/images/blobs/sha256"))
    }

    async fn seen(&self, name: &str) -> ObservedImage {
        match self.store.observe(&named(name), None).await {
            Sight::Found { observed, owned: true } => observed,
            other => panic!("{other:?}"),
        }
    }
}

fn paths(directory: &Path) -> Paths {
    Paths::new(directory.join("root"), directory.join("run"))
}

fn named(name: &str) -> Name {
    name.parse().unwrap()
}

/// Names in a directory, those of scratch directories left out.
fn entries(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with(".tmp-")).collect();
    names.sort();
    names
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn rootfs(path: &Path) -> ImageSpec {
    let config = ImageConfig {
        cmd: vec!["/bin/sh".to_owned()],
        env: BTreeMap::from([("A".to_owned(), "b=c".to_owned())]),
        ..ImageConfig::default()
    };
    spec(ImageSource::Rootfs { path: path.to_owned(), config })
}

fn spec(source: ImageSource) -> ImageSpec {
    ImageSpec { source, digest: None, pull: PullPolicy::Missing, platform: None, insecure: false }
}

#[tokio::test]
async fn a_rootfs_becomes_an_image_of_one_layer() {
    let bench = Bench::new();
    let plain = tar(&[("etc/motd", "hello")]);
    fs::write(bench.path("base.tar"), &plain).unwrap();
    let spec = rootfs(&bench.path("base.tar"));
    assert_eq!(bench.store.observe(&named("base"), Some(&spec)).await, Sight::Absent);
    assert!(!bench.path("root").exists(), "looking made nothing");

    let image = bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap();
    assert_eq!(image.digest, digest_of(&plain));
    assert_eq!(image.layers, [digest_of(&plain)]);
    assert_eq!(image.size, 5);
    assert_eq!(image.config.cmd, ["/bin/sh"]);
    let [directory] = bench.store.layer_directories(&image).try_into().unwrap();
    assert_eq!(fs::read_to_string(directory.join("etc/motd")).unwrap(), "hello");
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(bench.path("root/layers")).unwrap().mode() & 0o7777, 0o700);

    let seen = bench.store.observe(&named("base"), Some(&spec)).await;
    assert_eq!(seen, Sight::Found { observed: image.clone(), owned: true });
    let configuration = fs::read(bench.path("root/images/blobs/sha256").join(image.id.hex())).unwrap();
    let configuration: serde_json::Value = serde_json::from_slice(&configuration).unwrap();
    assert_eq!(configuration["config"]["Env"][0], "A=b=c");
}

#[tokio::test]
async fn compression_changes_the_blob_and_not_the_layer() {
    let bench = Bench::new();
    let plain = tar(&[("a", "1")]);
    // Two gzip members that follow one another are one stream.
    let (first, second) = plain.split_at(512);
    let forms = [
        ("plain", plain.clone()),
        ("gzip", [gzip(first), gzip(second)].concat()),
        ("zstd", zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ];
    for (name, bytes) in &forms {
        fs::write(bench.path(name), bytes).unwrap();
        let image = bench.store.fetch(&named(name), &rootfs(&bench.path(name)), &Quiet).await.unwrap();
        assert_eq!(image.layers, [digest_of(&plain)], "{name}");
        assert_eq!(image.digest, digest_of(bytes), "{name}");
    }
    assert_eq!(bench.layers().len(), 1);
    for (name, _) in &forms[..2] {
        bench.store.remove(&named(name)).await.unwrap();
        assert_eq!(bench.layers().len(), 1, "another name needs the layer");
    }
    bench.store.remove(&named("zstd")).await.unwrap();
    assert!(bench.layers().is_empty());
    assert!(bench.blobs().is_empty());
    assert_eq!(bench.store.observe(&named("zstd"), None).await, Sight::Absent);
}

#[tokio::test]
async fn a_changed_tarball_is_seen_and_fetched() {
    let bench = Bench::new();
    let path = bench.path("base.tar");
    fs::write(&path, tar(&[("a", "1")])).unwrap();
    let spec = rootfs(&path);
    let first = bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap();

    let changed = tar(&[("a", "2")]);
    fs::write(&path, &changed).unwrap();
    let Sight::Found { observed, .. } = bench.store.observe(&named("base"), Some(&spec)).await else { panic!() };
    assert_eq!(observed.upstream, Some(Ok(digest_of(&changed))));
    assert_eq!(observed.digest, first.digest);

    let never = ImageSpec { pull: PullPolicy::Never, ..spec.clone() };
    assert_eq!(bench.store.fetch(&named("base"), &never, &Quiet).await.unwrap(), first);

    let second = bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap();
    assert_eq!(second.digest, digest_of(&changed));
    assert_eq!(bench.layers(), [second.layers[0].hex()], "the earlier layer is cleared away");
    let Sight::Found { observed, .. } = bench.store.observe(&named("base"), Some(&spec)).await else { panic!() };
    assert_eq!(observed.upstream, None);

    // Touched without a change: read once, and in sync.
    fs::write(&path, &changed).unwrap();
    let Sight::Found { observed, .. } = bench.store.observe(&named("base"), Some(&spec)).await else { panic!() };
    assert_eq!(observed.upstream, None);
    fs::remove_file(&path).unwrap();
    let Sight::Found { observed, .. } = bench.store.observe(&named("base"), Some(&spec)).await else { panic!() };
    assert_eq!(observed.upstream, None, "what the store holds needs no file");
    assert_eq!(bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap(), second);
}

#[tokio::test]
async fn damage_is_named_and_repaired_without_the_source() {
    let bench = Bench::new();
    let path = bench.path("base.tar");
    fs::write(&path, gzip(&tar(&[("a", "1")]))).unwrap();
    let spec = rootfs(&path);
    let image = bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap();
    fs::remove_file(&path).unwrap();

    let [directory] = bench.store.layer_directories(&image).try_into().unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let seen = bench.seen("base").await;
    assert_eq!(seen.damage, [format!("directory of layer {} is missing", image.layers[0])]);
    bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap();
    assert_eq!(fs::read_to_string(directory.join("a")).unwrap(), "1");

    // A rotten configuration is not at hand any more: the source would be needed.
    fs::write(bench.path("root/images/blobs/sha256").join(image.id.hex()), "rotten").unwrap();
    assert_eq!(bench.seen("base").await.damage, [format!("configuration {} is missing or damaged", image.id)]);
    let error = bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap_err();
    assert!(matches!(&error, ImageError::Io { path: named, .. } if *named == path), "{error}");
    fs::write(&path, gzip(&tar(&[("a", "1")]))).unwrap();
    bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap();
    assert_eq!(bench.seen("base").await.damage, Vec::<String>::new());

    fs::write(bench.path("root/images/names/base.json"), "{").unwrap();
    let Sight::Unreadable(why) = bench.store.observe(&named("base"), None).await else { panic!() };
    assert!(why.contains("names/base.json"), "{why}");
}

#[tokio::test]
async fn an_interrupted_fetch_leaves_nothing_that_is_believed() {
    let bench = Bench::new();
    let path = bench.path("base.tar");
    let plain = tar(&[("a", "whole")]);
    fs::write(&path, &plain).unwrap();
    let image = bench.store.fetch(&named("base"), &rootfs(&path), &Quiet).await.unwrap();
    let [directory] = bench.store.layer_directories(&image).try_into().unwrap();
    // As a power failure leaves it: in place, never flushed, no record.
    fs::remove_file(bench.path("root/images/names/base.json")).unwrap();
    fs::write(directory.join("a"), "").unwrap();
    fs::write(bench.path("root/images/blobs/sha256").join(image.digest.hex()), vec![0; plain.len()]).unwrap();
    let stale = bench.path("root/layers/.tmp-gone");
    fs::create_dir_all(stale.join("half")).unwrap();
    let stale_file = bench.path("root/images/.tmp-gone");
    fs::write(&stale_file, "{").unwrap();

    // A new process: locks of the old one are gone.
    let store = Store::with_registries(&paths(bench.directory.path()), RegistrySettings::default()).unwrap();
    store.fetch(&named("base"), &rootfs(&path), &Quiet).await.unwrap();
    assert_eq!(fs::read_to_string(directory.join("a")).unwrap(), "whole");
    assert!(!stale.exists() && !stale_file.exists());
}

#[test]
fn a_follower_reads_what_is_written_until_it_is_complete_or_given_up() {
    let bench = Bench::new();
    let layout = &bench.store.inner.layout;
    let mut writer = layout.blob_writer().unwrap();
    let mut follower = writer.follow().unwrap();
    writer.write_all(b"first").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(follower.read(&mut buffer).unwrap(), 5);
    let reading = std::thread::spawn(move || {
        let mut rest = Vec::new();
        follower.read_to_end(&mut rest).map(|_| rest)
    });
    writer.write_all(b"second").unwrap();
    writer.place(layout).unwrap();
    assert_eq!(reading.join().unwrap().unwrap(), b"second");

    let mut writer = layout.blob_writer().unwrap();
    let mut follower = writer.follow().unwrap();
    writer.write_all(b"other").unwrap();
    writer.restart().unwrap();
    assert!(follower.read(&mut buffer).is_err() && writer.has_restarted());
    let mut follower = writer.follow().unwrap();
    writer.write_all(b"half").unwrap();
    drop(writer);
    assert!(follower.read(&mut buffer).is_err());
}

/// The images whose fetches unpack something.
#[derive(Default)]
struct Unpackers(Mutex<BTreeSet<Name>>);

impl Progress for Unpackers {
    fn event(&self, event: &Event<'_>) {
        if matches!(event.phase, Phase::Unpacking { .. }) {
            self.0.lock().unwrap().insert(event.image.clone());
        }
    }
}

#[tokio::test]
async fn fetches_at_the_same_time_unpack_a_layer_once() {
    let bench = Bench::new();
    let path = bench.path("base.tar");
    fs::write(&path, tar(&[("a", "1")])).unwrap();
    let names: Vec<Name> = (0..6).map(|n| named(&format!("n{n}"))).collect();
    let spec = rootfs(&path);
    let unpackers = Unpackers::default();
    let fetches = names.iter().map(|name| bench.store.fetch(name, &spec, &unpackers));
    for result in futures_util::future::join_all(fetches).await {
        result.unwrap();
    }
    assert_eq!(unpackers.0.into_inner().unwrap().len(), 1);
    assert_eq!(bench.layers().len(), 1);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(bench.path("root/images/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn what_another_fetch_has_put_in_place_is_flushed_before_a_record_names_it() {
    let bench = Bench::new();
    let path = bench.path("base.tar");
    fs::write(&path, tar(&[("a", "1")])).unwrap();
    let spec = rootfs(&path);
    bench.store.fetch(&named("base"), &spec, &Quiet).await.unwrap();
    let unflushed = &bench.store.inner.unflushed;
    assert!(!unflushed.load(Ordering::SeqCst));
    // As a fetch leaves it that was given up before its record.
    unflushed.store(true, Ordering::SeqCst);
    let never = ImageSpec { pull: PullPolicy::Never, ..spec };
    bench.store.fetch(&named("base"), &never, &Quiet).await.unwrap();
    assert!(!unflushed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_damaged_record_is_in_nobody_elses_way() {
    let bench = Bench::new();
    for name in ["sound", "other", "damaged"] {
        fs::write(bench.path(name), tar(&[("a", name)])).unwrap();
    }
    bench.store.fetch(&named("damaged"), &rootfs(&bench.path("damaged")), &Quiet).await.unwrap();
    fs::write(bench.path("root/images/names/damaged.json"), "{").unwrap();
    for name in ["sound", "other"] {
        bench.store.fetch(&named(name), &rootfs(&bench.path(name)), &Quiet).await.unwrap();
        assert_eq!(bench.seen(name).await.damage, Vec::<String>::new());
    }
    bench.store.remove(&named("other")).await.unwrap();
    assert_eq!(bench.layers().len(), 3, "nobody knows what the damaged record needs");
}

#[tokio::test]
async fn a_removal_waits_for_no_fetch() {
    let bench = Bench::new();
    for name in ["old", "other"] {
        fs::write(bench.path(name), tar(&[("a", name)])).unwrap();
    }
    bench.store.fetch(&named("old"), &rootfs(&bench.path("old")), &Quiet).await.unwrap();
    // As a fetch holds it that is under way.
    let fetching = bench.store.inner.collecting.clone().read_owned().await;
    bench.store.remove(&named("old")).await.unwrap();
    assert_eq!(bench.store.observe(&named("old"), None).await, Sight::Absent);
    assert_eq!(bench.layers().len(), 1, "a fetch may be about to name it");
    drop(fetching);
    let other = bench.store.fetch(&named("other"), &rootfs(&bench.path("other")), &Quiet).await.unwrap();
    assert_eq!(bench.layers(), [other.layers[0].hex()], "its end clears what was left");
}

#[tokio::test]
async fn a_layer_that_an_overlay_has_mounted_is_seen() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let bench = Bench::new();
    let directory = bench.directory.path();
    fs::write(bench.path("old"), tar(&[("a", "1")])).unwrap();
    let image = bench.store.fetch(&named("old"), &rootfs(&bench.path("old")), &Quiet).await.unwrap();
    for directory in ["upper", "work", "merged"] {
        fs::create_dir(bench.path(directory)).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        bench.store.layer_directories(&image)[0].display(),
        bench.path("upper").display(),
        bench.path("work").display()
    );
    let (merged, flags) = (bench.path("merged"), nix::mount::MsFlags::empty());
    nix::mount::mount(Some("overlay"), &merged, Some("overlay"), flags, Some(options.as_str())).unwrap();
    // A mount point may have any name.
    let strange = directory.join(std::ffi::OsStr::from_bytes(b"not \xff UTF-8"));
    fs::create_dir(&strange).unwrap();
    nix::mount::mount(Some("tmpfs"), &strange, Some("tmpfs"), flags, None::<&str>).unwrap();
    assert!(super::remove::mounted_layers().unwrap().contains(&image.layers[0]));
    nix::mount::umount(&merged).unwrap();
    assert!(!super::remove::mounted_layers().unwrap().contains(&image.layers[0]));
    nix::mount::umount(&strange).unwrap();
}

#[tokio::test]
async fn a_pin_and_never_are_kept() {
    let bench = Bench::new();
    let path = bench.path("base.tar");
    fs::write(&path, tar(&[("a", "1")])).unwrap();
    let pin: Digest = digest_of(b"another");
    let pinned = ImageSpec { digest: Some(pin.clone()), ..rootfs(&path) };
    let error = bench.store.fetch(&named("base"), &pinned, &Quiet).await.unwrap_err();
    assert!(matches!(&error, ImageError::PinMismatch { wanted, .. } if *wanted == pin), "{error}");
    assert!(bench.layers().is_empty() && bench.blobs().is_empty());

    let never = ImageSpec { pull: PullPolicy::Never, ..rootfs(&path) };
    let error = bench.store.fetch(&named("base"), &never, &Quiet).await.unwrap_err();
    assert_eq!(error.to_string(), "image base is not in the store, and `pull: never` forbids to fetch it");
}

#[tokio::test]
async fn what_is_no_tarball_is_refused_by_name() {
    let bench = Bench::new();
    let path = bench.path("base.tar");
    fs::write(&path, "this is no archive, but it is longer than nothing").unwrap();
    let error = bench.store.fetch(&named("base"), &rootfs(&path), &Quiet).await.unwrap_err();
    assert!(matches!(error, ImageError::Layer { .. }), "{error}");
    assert!(bench.layers().is_empty());
    let archive = spec(ImageSource::Archive(path.clone()));
    let error = bench.store.fetch(&named("base"), &archive, &Quiet).await.unwrap_err();
    assert!(matches!(&error, ImageError::Tar { path: named, .. } if *named == path), "{error}");
    assert_eq!(bench.store.observe(&named("base"), None).await, Sight::Absent);
}
