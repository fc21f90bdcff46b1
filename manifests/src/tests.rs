//! Whole directories through [`load`].

use std::fs;

use super::*;

/// Writes files into a directory of their own and loads it.
fn load_files(files: &[(&str, &str)]) -> Loaded {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    load(directory.path())
}

#[test]
fn several_documents_of_one_file_become_objects() {
    let loaded = load_files(&[(
        "set/all.yaml",
        "\
apiVersion: evenkeel/v1
kind: Volume
metadata: {name: data}
---
apiVersion: evenkeel/v1
kind: Image
metadata: {name: base}
spec: {rootfs: base.tar.gz}
",
    )]);
    assert_eq!(loaded.problems, []);
    let keys: Vec<String> = loaded.desired.keys().map(|key| key.to_string()).collect();
    assert_eq!(keys, ["image/base", "volume/data"]);
    assert!(loaded.complete);
}
