//! What the program holds in memory while images come, however they are packed and however many entries they have.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use evenkeel_tests::images::{Image, Packing, layer, write_layout};
use evenkeel_tests::program::{peak_memory, sh};
use evenkeel_tests::{Sandbox, sandboxed, store};

use crate::story;

fn peak_of_apply(sandbox: &Sandbox) -> f64 {
    let manifests = sandbox.manifests();
    let peak = peak_memory(&mut sandbox.command(&["apply", "-f", manifests.to_str().expect("a path")]));
    eprintln!("{peak:.1} MiB at most");
    peak
}

/// Each of these layers fills a window of 64 MiB; there are eight, of two images that come together.
#[test]
fn layers_with_large_windows_do_not_add_up() {
    sandboxed(|sandbox| {
        let peak_with = |packing: Packing, letter: char| {
            for image in ["one", "two"] {
                let text = |n| format!("{letter}{image}{n} is repeated again and again. ").repeat(2 << 20);
                let layers = (0..4).map(|n| layer(&[("file", &text(n))])).collect();
                let layout = sandbox.directory().join(image);
                write_layout(&layout, &Image::new(layers).packed(packing));
                let source = format!("archive: {}", layout.display());
                sandbox.manifest(&format!("{image}.yaml"), &story::image(image, &source));
            }
            peak_of_apply(sandbox)
        };
        let plain = peak_with(Packing::Plain, 'p');
        let packed = peak_with(Packing::ZstdWindow(26), 'z');
        assert!(packed < plain + 64.0 + 16.0, "{packed:.1} MiB, {plain:.1} MiB without windows");
        story::in_sync(sandbox);
        store::assert_sound(&sandbox.paths());
    });
}

const DIRECTORIES: usize = 1_000;

/// Writes a tarball whose files go round all directories, as no tool orders them: every one has another parent.
fn write_many(path: &Path, files: usize) {
    let mut builder = tar::Builder::new(BufWriter::new(File::create(path).expect("a tarball")));
    for n in 0..files {
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_mtime(1_000_000_000);
        let name = format!("deep/directory/{}/file{n}", n % DIRECTORIES);
        builder.append_data(&mut header, name, b"x".as_slice()).expect("an entry");
    }
    builder
        .into_inner()
        .and_then(|writer| writer.into_inner().map_err(io::IntoInnerError::into_error))
        .expect("its end");
}

#[test]
fn a_hundred_thousand_entries_are_all_there_and_take_no_memory_each() {
    sandboxed(|sandbox| {
        let files = std::env::var("EVENKEEL_TEST_ENTRIES").map_or(100_000, |count| count.parse().expect("a number"));
        // Disks take a minute for what is measured here in a second.
        let root = sandbox.paths().root().to_owned();
        fs::create_dir_all(&root).expect("the root");
        sh(&format!("mount -t tmpfs -o mode=755,nr_inodes=0 none {}", root.display()));
        let tarball = sandbox.directory().join("many.tar");
        write_many(&tarball, files);
        sandbox.manifest("many.yaml", &story::image("many", &format!("rootfs: {}", tarball.display())));
        let peak = peak_of_apply(sandbox);
        assert!(peak < 64.0, "{peak:.1} MiB");
        story::in_sync(sandbox);
        let layers = sandbox.paths().layers();
        let layer = fs::read_dir(layers).expect("the layers").next().expect("a layer").expect("its entry").path();
        let mut found = BTreeSet::new();
        for directory in 0..DIRECTORIES {
            let directory = layer.join(format!("deep/directory/{directory}"));
            for file in fs::read_dir(&directory).expect("a directory of the layer") {
                let path = file.expect("its entry").path();
                let metadata = fs::symlink_metadata(&path).expect("its metadata");
                let seen = (metadata.size(), metadata.mode() & 0o7777, metadata.uid(), metadata.mtime());
                assert_eq!(seen, (1, 0o640, 7, 1_000_000_000), "{}", path.display());
                assert!(
                    found.insert(path.file_name().expect("a name").to_owned()),
                    "{} is there twice",
                    path.display()
                );
            }
        }
        assert_eq!(found.len(), files);
    });
}
