//! Every problem with its place, as a person sees it: `problems/<case>.yaml` against a snapshot.

use std::fmt::Write;
use std::path::Path;

/// Loads a case and writes down all that came of it.
fn outcome(case: &str) -> String {
    let path = Path::new("tests/problems").join(case);
    let loaded = evenkeel_manifests::load(&path);
    let mut text = evenkeel_manifests::render(&loaded.problems, false);
    for problem in &loaded.problems {
        let line = problem.to_string();
        assert!(text.contains(&format!("--> {}", problem.place)), "{line} is rendered at another place");
        assert!(!line.contains('\n'), "{line:?} is more than one line");
    }
    text.push_str("\napplied:");
    for key in loaded.desired.keys() {
        let _ = write!(text, " {key}");
    }
    text.push('\n');
    for (key, reason) in &loaded.desired.held {
        let _ = writeln!(text, "held: {key}: {reason}");
    }
    text
}

macro_rules! cases {
    ($($name:ident $file:literal),* $(,)?) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), outcome($file));
        }
    )* };
}

cases!(
    addresses "addresses.yaml",
    container "container.yaml",
    cycles "cycles.yaml",
    envelope "envelope.yaml",
    names "names.yaml",
    network "network.yaml",
    networks_together "networks-together.yaml",
    ports "ports.yaml",
    references "references.yaml",
    syntax "syntax.yaml",
    types "types.yaml",
);
