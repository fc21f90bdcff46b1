//! The image store damaged by hand: each damage is named, nothing that runs minds, and the next apply makes the store whole.

use std::fs;
use std::path::PathBuf;

use evenkeel_tests::images::{Image, layer, write_layout};
use evenkeel_tests::{Sandbox, sandboxed, store};
use serde_json::Value;

use crate::story;

/// An image of two layers from a layout, beside a container that has nothing to do with it.
struct Site<'a> {
    sandbox: &'a Sandbox,
    front: (u32, u64),
    record: Value,
}

impl Site<'_> {
    fn new(sandbox: &Sandbox) -> Site<'_> {
        story::bridge(sandbox);
        let layout = sandbox.directory().join("layout");
        write_layout(&layout, &Image::new(vec![layer(&[("etc/one", "1")]), layer(&[("etc/two", "2")])]));
        sandbox.manifest("app.yaml", &story::image("app", &format!("archive: {}", layout.display())));
        sandbox.apply();
        let record = fs::read(sandbox.paths().images().join("names/app.json")).expect("the record");
        let record = serde_json::from_slice(&record).expect("a record in JSON");
        Site { sandbox, front: story::running(sandbox, "front"), record }
    }

    fn blob(&self, pointer: &str) -> PathBuf {
        self.sandbox.paths().images().join("blobs/sha256").join(self.hex(pointer))
    }

    fn layer(&self, number: usize) -> PathBuf {
        self.sandbox.paths().layers().join(self.hex(&format!("/layers/{number}/diffId")))
    }

    fn hex(&self, pointer: &str) -> String {
        let digest = self.record.pointer(pointer).and_then(Value::as_str).expect("a digest");
        digest.trim_start_matches("sha256:").to_owned()
    }

    /// Requires that `drift` names the damage, and that one apply heals it.
    #[track_caller]
    fn named_and_healed(&self, words: &str) {
        self.sandbox.evenkeel(&["drift"]).expect_code(1).says("image/app").says(words);
        self.sandbox.apply();
        self.whole();
    }

    #[track_caller]
    fn whole(&self) {
        story::in_sync(self.sandbox);
        store::assert_sound(&self.sandbox.paths());
        for (number, (name, text)) in [("one", "1"), ("two", "2")].into_iter().enumerate() {
            assert_eq!(
                fs::read_to_string(self.layer(number).join("etc").join(name)).expect("a file of the layer"),
                text
            );
        }
        assert_eq!(story::running(self.sandbox, "front"), self.front);
    }
}

#[test]
fn what_other_tools_read_of_the_store_is_written_anew() {
    sandboxed(|sandbox| {
        let site = Site::new(sandbox);
        for name in ["index.json", "oci-layout"] {
            let path = sandbox.paths().images().join(name);
            let sound = fs::read(&path).expect("a file of the store");
            for damage in [None, Some(&b""[..]), Some(&sound[..sound.len() / 2]), Some(b"{\"manifests\": 7}")] {
                match damage {
                    Some(text) => fs::write(&path, text).expect("the damage"),
                    None => fs::remove_file(&path).expect("the file"),
                }
                site.named_and_healed(name);
                assert_eq!(fs::read(&path).expect("a file of the store"), sound);
            }
        }
    });
}

#[test]
fn lost_and_altered_blobs_and_layers_come_again() {
    sandboxed(|sandbox| {
        let site = Site::new(sandbox);
        let flip = |path: PathBuf| {
            let mut bytes = fs::read(&path).expect("a blob");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("the damage");
        };
        for (what, pointer) in [("manifest", "/manifest/digest"), ("configuration", "/config/digest")] {
            flip(site.blob(pointer));
            site.named_and_healed(&format!("{what} sha256:{} is missing or damaged", site.hex(pointer)));
            fs::remove_file(site.blob(pointer)).expect("a blob");
            site.named_and_healed(&format!("{what} sha256:{} is missing or damaged", site.hex(pointer)));
        }
        let blob = "/layers/0/blob/digest";
        let length = fs::metadata(site.blob(blob)).expect("a blob").len();
        fs::File::options()
            .write(true)
            .open(site.blob(blob))
            .and_then(|file| file.set_len(length / 2))
            .expect("the cut");
        site.named_and_healed("has not its length");
        fs::remove_file(site.blob(blob)).expect("a blob");
        site.named_and_healed("is missing");
        fs::remove_dir_all(site.layer(1)).expect("a layer");
        site.named_and_healed(&format!("directory of layer sha256:{} is missing", site.hex("/layers/1/diffId")));
        fs::remove_dir_all(site.layer(0)).and_then(|()| fs::write(site.layer(0), "a file")).expect("the damage");
        site.named_and_healed("is missing");
        // A blob that rotted where it lay is found out when the layer is made of it, and comes from its source.
        flip(site.blob(blob));
        fs::remove_dir_all(site.layer(0)).expect("a layer");
        site.named_and_healed("is missing");
        fs::remove_dir_all(sandbox.paths().images().join("blobs")).expect("all blobs");
        site.named_and_healed("is missing");
    });
}

#[test]
fn a_record_that_cannot_be_read_is_named_by_its_path() {
    sandboxed(|sandbox| {
        let site = Site::new(sandbox);
        let record = sandbox.paths().images().join("names/app.json");
        let sound = fs::read(&record).expect("the record");
        for text in [&b""[..], &sound[..sound.len() / 2], b"{\"later\": 1}"] {
            fs::write(&record, text).expect("the damage");
            let path = record.display().to_string();
            sandbox.evenkeel(&["drift"]).expect_code(3).says(&path);
            sandbox.verb_on_manifests("apply", &[]).expect_code(1).says("image/app").says(&path);
            assert_eq!(fs::read(&record).expect("the record"), text, "nothing is written over what is not understood");
            assert_eq!(story::running(sandbox, "front"), site.front);
        }
        // Without it the image is not there, and comes again.
        fs::remove_file(&record).expect("the record");
        sandbox.apply();
        site.whole();
    });
}
