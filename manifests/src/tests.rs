//! Whole directories through [`load`]. What each problem says and where is in `tests/problems`.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use evenkeel_schema::{ImageSource, Key};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const VOLUME: &str = "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {name: NAME}\n";

fn volume(name: &str) -> String {
    VOLUME.replace("NAME", name)
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

/// Loads one file of this content.
fn load_bytes(content: &[u8]) -> Loaded {
    let directory = directory(&[("a.yaml", content)]);
    load(directory.path())
}

fn keys(loaded: &Loaded) -> Vec<String> {
    loaded.desired.keys().map(|key| key.to_string()).collect()
}

/// Gives the problems as `line:column: message`.
fn lines(loaded: &Loaded) -> Vec<String> {
    let below = |problem: &Problem| {
        let line = problem.to_string();
        line.split_once(".yaml:").map_or(line.clone(), |(_, rest)| rest.to_owned())
    };
    loaded.problems.iter().map(below).collect()
}

#[test]
fn every_manifest_below_a_directory_counts_and_leftovers_do_not() {
    let volumes: Vec<String> = (0..9).map(|n| volume(&format!("v{n}"))).collect();
    let directory = directory(&[
        ("0.yaml", volumes[0].as_bytes()),
        ("deep/er/1.yml", volumes[1].as_bytes()),
        ("two.yaml", format!("{}---\n{}", volumes[2], volumes[3]).as_bytes()),
        (".hidden.yaml", b"{"),
        (".git/config.yaml", b"{"),
        ("4.yaml~", b"{"),
        ("#4.yaml#", b"{"),
        (".4.yaml.swp", b"{"),
        ("4.yaml.orig", b"{"),
        ("README.md", b"{"),
    ]);
    let loaded = load(directory.path());
    assert_eq!(loaded.problems, []);
    assert_eq!(keys(&loaded), ["volume/v0", "volume/v1", "volume/v2", "volume/v3"]);
    assert!(loaded.complete);
    let file =
        |name: &str| loaded.desired.files[&Key::new(evenkeel_schema::Kind::Volume, name.parse().unwrap())].clone();
    assert_eq!(file("v1"), Path::new("deep/er/1.yml"));
    assert_eq!(file("v3"), Path::new("two.yaml"));
}

#[test]
fn a_single_file_is_a_source_whatever_its_ending() {
    let directory = directory(&[("set.txt", volume("a").as_bytes()), ("other.yaml", volume("b").as_bytes())]);
    let loaded = load(&directory.path().join("set.txt"));
    assert_eq!(keys(&loaded), ["volume/a"]);
    assert_eq!(loaded.desired.files.values().collect::<Vec<_>>(), [Path::new("set.txt")]);
}

#[test]
fn links_are_followed_once_and_loops_end() {
    let directory = directory(&[("real/a.yaml", volume("a").as_bytes()), (".data/b.yaml", volume("b").as_bytes())]);
    let below = |name: &str| directory.path().join(name);
    symlink("..", below("real/loop")).unwrap();
    symlink("real", below("same")).unwrap();
    symlink("real/a.yaml", below("again.yaml")).unwrap();
    // As kubelet lays out a ConfigMap.
    symlink(".data/b.yaml", below("b.yaml")).unwrap();
    let loaded = load(directory.path());
    assert_eq!(loaded.problems, []);
    assert_eq!(keys(&loaded), ["volume/a", "volume/b"]);
}

#[test]
fn what_cannot_be_read_is_a_problem_and_makes_the_sight_incomplete() {
    let loaded = load(Path::new("/nonexistent/manifests"));
    assert!(!loaded.complete);
    assert_eq!(loaded.problems.len(), 1);
    assert!(loaded.problems[0].to_string().starts_with("/nonexistent/manifests: cannot be read: No such file"));

    let directory = directory(&[("a.yaml", volume("a").as_bytes()), ("large.yaml", &vec![b'#'; (8 << 20) + 1])]);
    symlink("nowhere", directory.path().join("dangling.yaml")).unwrap();
    let _socket = UnixListener::bind(directory.path().join("socket.yaml")).unwrap();
    let loaded = load(directory.path());
    assert!(!loaded.complete);
    assert_eq!(keys(&loaded), ["volume/a"]);
    let broken = ["dangling.yaml", "large.yaml", "socket.yaml"].map(PathBuf::from);
    assert_eq!(loaded.broken_files, BTreeSet::from(broken));
}

#[test]
fn empty_directories_files_and_documents_are_no_problem() {
    let directory =
        directory(&[("a.yaml", b""), ("b.yaml", b"# nothing\n---\n---\n\n...\n"), ("c.yaml", b"\xef\xbb\xbf")]);
    let loaded = load(directory.path());
    assert_eq!(loaded.problems, []);
    assert!(loaded.complete && loaded.desired.is_empty());
}

#[test]
fn a_byte_order_mark_and_dos_line_ends_do_not_shift_places() {
    let text = format!("\u{feff}{}spec: {{owner: 1}}\n", volume("a")).replace('\n', "\r\n");
    let loaded = load_bytes(text.as_bytes());
    assert_eq!(lines(&loaded), ["4:15: expected an owner in quotes, as \"999:999\", found the number `1`"]);
    let loaded = load_bytes(format!("{}spec: {{owner: 1}}\n", volume("a")).replace('\n', "\r").as_bytes());
    assert_eq!(lines(&loaded), ["4:15: expected an owner in quotes, as \"999:999\", found the number `1`"]);
}

#[test]
fn columns_count_characters_and_the_mark_stands_below_them() {
    let loaded = load_bytes(
        "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {name: a, annotations: {größe: 'ß→日', x: 1}}\n".as_bytes(),
    );
    assert_eq!(lines(&loaded), ["3:52: expected text, found the number `1`"]);
    let rendered = render(&loaded.problems, false);
    let shown = rendered.split_once("a.yaml:").map(|(_, rest)| rest).unwrap();
    // The wide character takes two cells.
    let expected = "\
3:52
  |
3 | metadata: {name: a, annotations: {größe: 'ß→日', x: 1}}
  |                                                     ^ expected text
  |
  = help: put it in quotes: \"1\"
";
    assert_eq!(shown, expected);
}

#[test]
fn no_value_of_an_environment_is_told_however_long_its_line() {
    let padding = "x".repeat(1000);
    let text = format!(
        "{{\"apiVersion\":\"evenkeel/v1\",\"kind\":\"Container\",\"metadata\":{{\"name\":\"a\",\"labels\":{{\"l\":\"{padding}\"}}}},\
         \"spec\":{{\"image\":\"x:1\",\"env\":{{\"PIN\":4711,\"A\":\"b\"}}}}}}"
    );
    let loaded = load_bytes(text.as_bytes());
    assert_eq!(loaded.problems.len(), 1);
    assert!(!format!("{loaded:?}").contains("4711"), "{loaded:?}");
    assert!(!render(&loaded.problems, false).contains("4711"));
}

#[test]
fn what_may_be_an_object_of_before_is_known_as_such() {
    let unknown = |text: &str| -> Vec<Option<String>> {
        let unknown = load_bytes(text.as_bytes()).unknown;
        unknown.into_iter().map(|unknown| unknown.name.map(String::from)).collect()
    };
    let nameless = vec![None];
    assert_eq!(unknown(&volume("a")), []);
    assert_eq!(unknown(&(volume("a") + "spec: {mode: 9}\n")), [], "kind and name are known");
    assert_eq!(unknown(&volume("a").replace("Volume", "Volum")), [Some("a".to_owned())]);
    assert_eq!(unknown(&volume("a").replace("metadata", "\tmetadata")), nameless);
    assert_eq!(unknown(&(volume("a") + "# \u{1}")), nameless, "nothing of the file is read");
    assert_eq!(unknown(&(volume("a") + "---\n}\n")), nameless);
    assert_eq!(unknown(&(volume("a") + &volume("b"))), nameless, "a forgotten ---");
    assert_eq!(unknown(&(volume("a") + "spec: {owner: \"1:1\", owner: \"2:2\"}\n")), []);
    let broken = (0..30).map(|n| format!("---\n{}spec: [\n", volume(&format!("v{n}")))).collect::<String>();
    assert_eq!(unknown(&broken), nameless, "those after the twentieth");
    let many = format!("{}---\n[{}]\n---\n{}", volume("a"), "1,".repeat(600_000), volume("b"));
    assert!(unknown(&many).contains(&None));
}

#[test]
fn what_is_not_text_is_one_problem_of_its_file() {
    let mut bytes = volume("a").into_bytes();
    bytes.extend(b"# caf\xe9\n");
    let loaded = load_bytes(&bytes);
    assert_eq!(lines(&loaded), ["4:6: this is not UTF-8 text"]);
    assert_eq!(loaded.broken_files, BTreeSet::from([PathBuf::from("a.yaml")]));
    let loaded = load_bytes(b"apiVersion: evenkeel/v1\nkind: Vol\0ume\n");
    assert_eq!(lines(&loaded), ["2:10: the control character U+0000 cannot stand in YAML"]);
    let utf16: Vec<u8> = volume("a").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(!load_bytes(&utf16).problems.is_empty());
}

#[test]
fn bombs_and_deep_nesting_are_refused_quickly() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let previous = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{}]\n", previous.trim_end_matches(", "));
    }
    let loaded = load_bytes(bomb.as_bytes());
    assert!(lines(&loaded).iter().any(|line| line.ends_with("aliases make this document too large")), "{loaded:?}");

    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..5000 {
        chain += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert!(!load_bytes(chain.as_bytes()).problems.is_empty());
    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(!load_bytes(deep.as_bytes()).problems.is_empty());
    }
}

#[test]
fn files_made_to_cost_much_are_given_up() {
    let anchors: String = (0..60).map(|n| format!("&a{n} [")).collect();
    let nested = format!("{anchors}{}", "x, ".repeat(80_000));
    let tags = format!("[{}]", "!x y, ".repeat(50_000));
    let keys = (0..30_000).map(|_| "a: 1\n").collect::<String>();
    let documents = "--- {kind: [}\n".repeat(20_000);
    let values = format!("[{}]", "1,".repeat(600_000));
    let reals = format!("x: {}\n", "*a ".repeat(100_000));
    for text in
        [nested, tags, keys, documents, values, reals, "? ".repeat(100_000), "&a ".repeat(100_000), "\"".repeat(99_999)]
    {
        let loaded = load_bytes(text.as_bytes());
        assert!((1..=501).contains(&loaded.problems.len()), "{} problems", loaded.problems.len());
        assert!(loaded.desired.keys().next().is_none());
    }
}

#[test]
fn a_broken_document_holds_its_object_and_not_its_neighbours() {
    let directory = directory(&[
        ("good.yaml", volume("good").as_bytes()),
        ("mixed.yaml", format!("{}---\n{}spec: {{mode: 9}}\n", volume("fine"), volume("wrong")).as_bytes()),
        ("syntax.yaml", format!("{}spec: [\n", volume("cut")).as_bytes()),
    ]);
    let loaded = load(directory.path());
    assert_eq!(keys(&loaded), ["volume/fine", "volume/good"]);
    let held: Vec<String> = loaded.desired.held.keys().map(ToString::to_string).collect();
    assert_eq!(held, ["volume/cut", "volume/wrong"]);
    assert_eq!(loaded.broken_files, BTreeSet::from(["mixed.yaml", "syntax.yaml"].map(PathBuf::from)));
    assert!(loaded.complete);
}

#[test]
fn two_files_with_one_object_hold_it_and_both_are_named() {
    let directory = directory(&[("a.yaml", volume("data").as_bytes()), ("b.yaml", volume("data").as_bytes())]);
    let loaded = load(directory.path());
    assert_eq!(keys(&loaded), [] as [&str; 0]);
    assert_eq!(loaded.broken_files, BTreeSet::from(["a.yaml", "b.yaml"].map(PathBuf::from)));
    let problem = &loaded.problems[0];
    assert!(problem.place.to_string().ends_with("b.yaml:3:18") && problem.also[0].to_string().ends_with("a.yaml:3:18"));
    let rendered = render(&loaded.problems, false);
    assert!(rendered.contains("b.yaml:3:18") && rendered.contains("a.yaml:3:18"), "{rendered}");
}

#[test]
fn paths_of_images_start_from_the_manifest_and_references_are_completed() {
    let image = |name: &str, spec: &str| {
        format!("---\napiVersion: evenkeel/v1\nkind: Image\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
    };
    let text = image("a", "rootfs: ./x.tar") + &image("b", "archive: /srv/y.tar") + &image("c", "reference: nginx");
    let container =
        "---\napiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: web}\nspec: {image: 'nginx:1.27'}\n";
    let directory = directory(&[("set/a.yaml", (text + container).as_bytes())]);
    let loaded = load(directory.path());
    assert_eq!(loaded.problems, []);
    let sources: Vec<_> = loaded.desired.images.values().map(|image| image.spec.source.clone()).collect();
    let rootfs = ImageSource::Rootfs { path: directory.path().join("set/x.tar"), config: Default::default() };
    assert_eq!(
        sources[..3],
        [
            rootfs,
            ImageSource::Archive("/srv/y.tar".into()),
            ImageSource::Registry("docker.io/library/nginx:latest".to_owned()),
        ]
    );
    let web = loaded.desired.containers.values().next().unwrap();
    assert_eq!(web.spec.image, "docker.io/library/nginx:1.27");
    let implicit = loaded.desired.image_of(&web.spec).unwrap();
    assert_eq!(loaded.desired.images[implicit].spec.source, ImageSource::Registry(web.spec.image.clone()));
    assert_eq!(
        loaded.desired.files[&Key::new(evenkeel_schema::Kind::Image, implicit.clone())],
        Path::new("set/a.yaml")
    );
}

#[test]
fn a_circle_of_a_thousand_containers_is_found_and_told_in_short() {
    let container = |n: usize| {
        let next = (n + 1) % 1000;
        format!(
            "---\napiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{n}}}\n\
             spec: {{image: 'x:1', dependsOn: [{{container: c{next}}}]}}\n"
        )
    };
    let loaded = load_bytes((0..1000).map(container).collect::<String>().as_bytes());
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(loaded.desired.held.len(), 1000);
    let message = &loaded.problems[0].message;
    assert!(message.contains("`c0` → `c1` → ") && message.ends_with("→ … 980 more → `c0`"), "{message}");
}

#[test]
fn problems_are_data_that_survives_json() {
    let loaded = load_bytes(b"a: [\n");
    let json = serde_json::to_string(&loaded.problems).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Problem>>(&json).unwrap(), loaded.problems);
}

const SEED: &str = "\
apiVersion: evenkeel/v1
kind: Network
metadata: {name: mynet}
spec:
  driver: macvlan
  parent: ens34
  subnets:
    - subnet: 10.0.36.0/24
      gateway: 10.0.36.254
      ipRange: 10.0.36.192/27
      auxAddresses: &aux {host: 10.0.36.223}
  shim: {address: host, routes: auto}
---
apiVersion: evenkeel/v1
kind: Container
metadata: {name: db, labels: {<<: *none, app: shop}}
spec:
  image: docker.io/library/postgres:16
  command: [\"postgres\", 'a\u{00df}']
  env: {POSTGRES_DB: shop, X: |
    text
   }
  networks: [{name: mynet, ipv4: 10.0.36.200}]
  ports: [\"127.0.0.1:5432:5432/tcp\"]
  mounts: [{tmpfs: true, target: /run, size: 64Mi}]
  dependsOn: [{container: db}]
";

/// As many as `EVENKEEL_FUZZ_CASES` says.
fn cases() -> ProptestConfig {
    let cases = std::env::var("EVENKEEL_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn check_never_panics(bytes: &[u8]) {
    let directory = directory(&[("a.yaml", bytes)]);
    let loaded = load(directory.path());
    assert_eq!(load(directory.path()), loaded, "the same text says the same");
    let _ = render(&loaded.problems, true);
    let rendered = render(&loaded.problems, false);
    for problem in &loaded.problems {
        let position = problem.place.position.as_ref().unwrap();
        assert!(position.line >= 1 && position.column >= 1 && position.end_column > position.column);
        assert!(rendered.contains(&format!("{}", problem.place)), "{} is not in\n{rendered}", problem.place);
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_never_panics(&bytes);
    }

    #[test]
    fn any_yaml_characters_are_read_without_panic(text in "[-a&*!|>%@`'\"{}\\[\\],:?#~<\\\\ \t\r\n\u{85}\u{2028}\u{e9}\u{1f600}0]{0,120}") {
        check_never_panics(text.as_bytes());
    }

    #[test]
    fn damaged_manifests_are_read_without_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..6, "\\PC{0,3}|[\\[\\]{}:,\n\t \"']{1,3}"), 1..6),
    ) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, length, new) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, new.chars());
        }
        check_never_panics(text.into_iter().collect::<String>().as_bytes());
    }

    #[test]
    fn manifests_of_mixed_pieces_are_read_without_panic(pieces in proptest::collection::vec(proptest::sample::select(pieces()), 1..30)) {
        check_never_panics(pieces.concat().as_bytes());
    }
}

/// The lines of every test's manifest, and what YAML is made of.
fn pieces() -> Vec<String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/problems");
    let files = fs::read_dir(directory).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let mut pieces: Vec<String> =
        files.flat_map(|text| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>()).collect();
    let syntax = [
        "&a ",
        "*a ",
        "<<: *a\n",
        "!x ",
        "!!str ",
        "[",
        "]",
        "{",
        "}",
        ": ",
        ", ",
        "- ",
        "? ",
        "|\n  ",
        ">-\n",
        "---\n",
        "...\n",
        "\"",
        "'",
        "#",
        "%YAML 1.2\n",
        "\t",
        "\r",
        "  ",
    ];
    pieces.extend(syntax.into_iter().cycle().take(pieces.len()).map(str::to_owned));
    pieces.sort();
    pieces
}
