//! The image store as it lies on disk, judged without the program's own eyes.

use std::fs;
use std::path::Path;

use evenkeel_host::Paths;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Gives all that is wrong with a store that nobody writes to: blobs that are not what their name says, records that name
/// what is not there, and whatever is left of something half-made.
pub fn faults(paths: &Paths) -> Vec<String> {
    let mut faults = Vec::new();
    let (images, layers) = (paths.images(), paths.layers());
    for directory in [images.clone(), images.join("blobs/sha256"), images.join("names"), layers.clone()] {
        let left = names(&directory).into_iter().filter(|name| name.starts_with(".tmp-"));
        faults.extend(left.map(|name| format!("{}/{name} was left behind", directory.display())));
    }
    for name in names(&images.join("blobs/sha256")) {
        let path = images.join("blobs/sha256").join(&name);
        let digest: String =
            Sha256::digest(fs::read(&path).expect("a blob")).iter().map(|byte| format!("{byte:02x}")).collect();
        if digest != name {
            faults.push(format!("blob {name} has the digest {digest}"));
        }
    }
    for name in names(&images.join("names")) {
        let text = fs::read(images.join("names").join(&name)).expect("a record");
        let record: Value = serde_json::from_slice(&text).expect("a record in JSON");
        let hex = |value: &Value| value.as_str().and_then(|digest| digest.strip_prefix("sha256:")).map(str::to_owned);
        let mut needed =
            vec![("manifest", hex(&record["manifest"]["digest"])), ("config", hex(&record["config"]["digest"]))];
        for layer in record["layers"].as_array().expect("layers") {
            needed.push(("layer", hex(&layer["blob"]["digest"])));
            let diff_id = hex(&layer["diffId"]).expect("a diff id");
            if !layers.join(&diff_id).is_dir() {
                faults.push(format!("{name} names the layer {diff_id}, which is not there"));
            }
        }
        for (what, digest) in needed {
            let digest = digest.expect("a digest");
            if !images.join("blobs/sha256").join(&digest).is_file() {
                faults.push(format!("{name} names the {what} {digest}, which is not there"));
            }
        }
    }
    faults
}

/// Requires a sound store with nothing half-made in it.
#[track_caller]
pub fn assert_sound(paths: &Paths) {
    let faults = faults(paths);
    assert!(faults.is_empty(), "the image store is not sound:\n{}", faults.join("\n"));
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.expect("its entry").file_name().into_string().expect("UTF-8")).collect()
}
