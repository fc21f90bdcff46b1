use std::fs;

use evenkeel_host::Paths;

use super::*;
use crate::ledger::{Intents, Settled, Stated};

struct Place {
    directory: tempfile::TempDir,
    ledger: Ledger,
}

impl Place {
    /// Makes a source of two files with a volume each, applied.
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&Paths::new(directory.path().join("root"), directory.path().join("run"))).unwrap();
        let place = Place { directory, ledger };
        fs::create_dir(place.source()).unwrap();
        place.write("a.yaml", &volume("a"));
        place.write("b.yaml", &volume("b"));
        let desired = place.read(&place.source(), false).desired;
        for (name, object) in &desired.volumes {
            let key: Key = format!("volume/{name}").parse().unwrap();
            let object = serde_json::to_value(object).unwrap();
            let begun = vec![Stated { key: key.clone(), object, file: desired.files.get(&key).cloned() }];
            place.ledger.intend(&Intents { begun, ..Intents::default() }).unwrap();
            place.ledger.settle(&[Settled::Applied(key)]).unwrap();
        }
        place.ledger.set_source(&desired.source).unwrap();
        place
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.source().join(file), text).unwrap();
    }

    fn read(&self, path: &Path, allow_empty: bool) -> Intent {
        read(path, Some(&self.ledger), allow_empty).unwrap()
    }
}

fn volume(name: &str) -> String {
    format!("apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {{name: {name}}}\nspec: {{}}\n")
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn names(intent: &Intent) -> Vec<String> {
    intent.desired.keys().map(|key| key.to_string()).collect()
}

#[test]
fn a_deleted_file_is_a_deleted_object() {
    let place = Place::new();
    fs::remove_file(place.source().join("b.yaml")).unwrap();
    let intent = place.read(&place.source(), false);
    assert_eq!(names(&intent), ["volume/a"]);
    assert!(intent.desired.held.is_empty() && intent.errors().is_empty());
}

#[test]
fn a_broken_file_holds_its_objects_as_they_were_applied() {
    let place = Place::new();
    place.write("b.yaml", "apiVersion: [\n");
    let intent = place.read(&place.source(), false);
    assert_eq!(names(&intent), ["volume/a", "volume/b"]);
    let held = &intent.desired.held[&key("volume/b")];
    assert_eq!(held, "b.yaml cannot be read as a whole, and it was applied from there");
    assert!(!intent.desired.held.contains_key(&key("volume/a")));
    assert!(!intent.errors().is_empty());
}

#[test]
fn an_object_that_moved_out_of_a_broken_file_is_not_held() {
    let place = Place::new();
    place.write("b.yaml", "apiVersion: [\n");
    place.write("c.yaml", &volume("b"));
    let intent = place.read(&place.source(), false);
    assert!(intent.desired.held.is_empty());
    assert_eq!(intent.desired.files[&key("volume/b")], Path::new("c.yaml"));
}

#[test]
fn an_object_that_moved_into_what_cannot_be_understood_is_held() {
    let place = Place::new();
    fs::remove_file(place.source().join("b.yaml")).unwrap();
    for text in [volume("b").replace("Volume", "Volum"), volume("b").replace("metadata", "\tmetadata")] {
        place.write("c.yaml", &text);
        let intent = place.read(&place.source(), false);
        assert_eq!(names(&intent), ["volume/a", "volume/b"], "{text}");
        let held = &intent.desired.held[&key("volume/b")];
        assert!(held.starts_with("no manifest states it, but it may stand in ") && held.contains("c.yaml"), "{held}");
    }
    place.write("c.yaml", &volume("c").replace("Volume", "Volum"));
    let intent = place.read(&place.source(), false);
    assert_eq!(names(&intent), ["volume/a"], "that one has another name");
}

#[test]
fn an_empty_source_holds_everything_unless_it_is_allowed() {
    let place = Place::new();
    fs::remove_file(place.source().join("a.yaml")).unwrap();
    fs::remove_file(place.source().join("b.yaml")).unwrap();
    let intent = place.read(&place.source(), false);
    assert_eq!(intent.desired.held.len(), 2);
    assert!(intent.distrust.unwrap().contains("--allow-empty"));
    let intent = place.read(&place.source(), true);
    assert!(intent.desired.is_empty() && intent.distrust.is_none(), "{intent:?}");
}

#[test]
fn an_empty_source_beside_what_is_only_kept_is_no_lost_one() {
    let place = Place::new();
    for file in ["a.yaml", "b.yaml"] {
        fs::remove_file(place.source().join(file)).unwrap();
    }
    let released = vec![key("volume/a"), key("volume/b")];
    place.ledger.intend(&Intents { released, ..Intents::default() }).unwrap();
    let intent = place.read(&place.source(), false);
    assert!(intent.desired.is_empty() && intent.errors().is_empty(), "{intent:?}");
}

#[test]
fn a_source_that_is_gone_holds_everything_whatever_is_allowed() {
    let place = Place::new();
    fs::remove_dir_all(place.source()).unwrap();
    for allow_empty in [false, true] {
        let intent = place.read(&place.source(), allow_empty);
        assert_eq!(intent.desired.held.len(), 2, "{intent:?}");
        assert!(!intent.errors().is_empty());
    }
}

#[test]
fn one_file_of_the_source_leaves_the_others_as_they_are() {
    let place = Place::new();
    place.write("b.yaml", &volume("b2"));
    let intent = place.read(&place.source().join("b.yaml"), false);
    assert_eq!(names(&intent), ["volume/a", "volume/b2"], "b was stated by this very file, so it goes");
    assert_eq!(intent.desired.source.path, canonical(&place.source()));
    assert_eq!(intent.desired.files[&key("volume/b2")], Path::new("b.yaml"));
    assert!(intent.desired.held.is_empty());
}

#[test]
fn one_file_of_the_source_brings_nothing_back_that_goes_or_is_kept() {
    let place = Place::new();
    place.write("c.yaml", &volume("c"));
    let intents = Intents { leaving: vec![key("volume/a")], released: vec![key("volume/b")], ..Intents::default() };
    place.ledger.intend(&intents).unwrap();
    let intent = place.read(&place.source().join("c.yaml"), false);
    assert_eq!(names(&intent), ["volume/c"]);
    assert!(intent.desired.held.is_empty(), "{intent:?}");
}

#[test]
fn a_broken_file_by_itself_holds_what_it_stated() {
    let place = Place::new();
    place.write("b.yaml", "kind: [\n");
    let intent = place.read(&place.source().join("b.yaml"), false);
    assert_eq!(names(&intent), ["volume/a", "volume/b"]);
    assert_eq!(intent.desired.held.keys().collect::<Vec<_>>(), [&key("volume/b")]);
}

#[test]
fn a_linked_source_keeps_its_name() {
    let place = Place::new();
    let link = place.directory.path().join("current");
    std::os::unix::fs::symlink(place.source(), &link).unwrap();
    assert!(canonical(&link).ends_with("current"));
    assert_eq!(canonical(&place.source().join("../manifests/.")), canonical(&place.source()));
}

#[test]
fn what_lies_behind_a_link_has_to_rest_too() {
    let place = Place::new();
    let link = place.directory.path().join("current");
    std::os::unix::fs::symlink(place.source(), &link).unwrap();
    // A ring, as careless copies of trees have them.
    std::os::unix::fs::symlink(place.source(), place.source().join("again")).unwrap();
    let changed = |span| changed_within(&link, span, &mut BTreeSet::new());
    let rest = Duration::from_secs(1);
    std::thread::sleep(rest);
    assert!(!changed(rest));
    place.write("c.yaml", &volume("c"));
    assert!(changed(rest), "a file in the directory that the source leads to");
}

#[test]
fn while_git_is_at_work_nothing_goes() {
    let place = Place::new();
    let lock = place.source().join(".git/index.lock");
    fs::create_dir(place.source().join(".git")).unwrap();
    fs::write(&lock, "").unwrap();
    fs::remove_file(place.source().join("b.yaml")).unwrap();
    let intent = place.read(&place.source(), false);
    let b: Key = "volume/b".parse().unwrap();
    assert!(intent.in_motion && intent.desired.held[&b].contains("index.lock"), "{intent:?}");
    assert!(intent.desired.contains(&b), "as it was applied");

    fs::remove_file(&lock).unwrap();
    let intent = place.read(&place.source(), false);
    assert!(!intent.in_motion && !intent.desired.contains(&b) && intent.desired.held.is_empty(), "{intent:?}");
}
