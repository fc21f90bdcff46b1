use serde_json::json;

use super::*;

fn target(written: &str) -> Option<String> {
    let mount: Result<Mount, _> = serde_json::from_value(json!({"tmpfs": true, "target": written}));
    mount.ok().map(|mount| mount.target)
}

#[test]
fn a_target_has_one_form_however_it_is_written() {
    for written in ["/data/cache", "/data/cache/", "//data/./cache", "/./data//cache/."] {
        assert_eq!(target(written).as_deref(), Some("/data/cache"), "{written}");
    }
    for written in ["/", "//", "/.", "/./", "", "data", "./data", "/data/..", "/../data"] {
        assert_eq!(target(written), None, "{written}");
    }
}
