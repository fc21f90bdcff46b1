//! Images through the program: killed while it pulls.

use std::fs;
use std::path::Path;
use std::time::Duration;

use evenkeel_tests::images::{Image, Packing, digest, layer, write_layout};
use evenkeel_tests::random::noise;
use evenkeel_tests::registry::{Options, Registry};
use evenkeel_tests::sandboxed;

use crate::story;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.expect("its entry").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn a_pull_killed_at_any_instant_leaves_nothing_that_is_believed() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        let layout = sandbox.directory().join("layout");
        let texts: Vec<String> = (0..6).map(|n| noise(n, 3_200_000)).collect();
        let layers = texts.iter().enumerate().map(|(n, text)| layer(&[(&format!("file{n}"), text)])).collect();
        let written = write_layout(&layout, &Image::new(layers).packed(Packing::Zstd));
        registry.push(&format!("oci:{}:latest", layout.display()), "large:1", &[]);
        let reference = registry.reference("large:1");
        sandbox.manifest("image.yaml", &story::image("large", &format!("reference: \"{reference}\"")));
        let (layers, images) = (sandbox.paths().layers(), sandbox.paths().images());
        for milliseconds in [50, 100, 200, 300, 400, 600, 800, 1200] {
            let manifests = sandbox.manifests();
            let mut child = sandbox
                .command(&["apply".as_ref(), "-f".as_ref(), manifests.as_os_str()])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("the program starts");
            std::thread::sleep(Duration::from_millis(milliseconds));
            child.kill().expect("a signal to our own child");
            child.wait().expect("its exit status");
            // What has its final name is whole, even when its image is not.
            for name in names(&layers).iter().filter(|name| !name.starts_with('.')) {
                let position =
                    written.diff_ids.iter().position(|diff_id| diff_id.hex() == name).expect("a known layer");
                let text = fs::read_to_string(layers.join(name).join(format!("file{position}"))).expect("its file");
                assert!(text == texts[position], "layer {position} has its name and not its content");
            }
            for name in names(&images.join("blobs/sha256")).into_iter().filter(|name| !name.starts_with('.')) {
                assert_eq!(digest(&fs::read(images.join("blobs/sha256").join(&name)).expect("a blob")).hex(), name);
            }
        }
        sandbox.apply();
        sandbox.verb_on_manifests("drift", &[]).expect_code(0).says("IN SYNC");
        let mut found = names(&layers);
        let mut expected: Vec<String> = written.diff_ids.iter().map(|diff_id| diff_id.hex().to_owned()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "and nothing half-made lies about");
        let half_made = names(&images.join("blobs/sha256")).into_iter().find(|name| name.starts_with('.'));
        assert_eq!(half_made, None);
    });
}
