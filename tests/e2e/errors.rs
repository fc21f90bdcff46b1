//! Manifests that are wrong: every problem at once, each with its place, and nothing done.

use evenkeel_tests::{ask, program, sandboxed};

use crate::story;

/// File, text, and where the message must point with what it must say.
const WRONG: [(&str, &str, &str, &str); 12] = [
    ("syntax.yaml", "kind: [unclosed\n", "syntax.yaml:1:7", ""),
    (
        "unknown.yaml",
        "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {name: u}\nspec:\n  ownr: \"1:1\"\n",
        "unknown.yaml:5:3",
        "owner",
    ),
    ("kind.yaml", "apiVersion: evenkeel/v1\nkind: Volum\nmetadata: {name: k}\n", "kind.yaml:2:7", "Volume"),
    (
        "missing.yaml",
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: m}\nspec:\n  env: {A: b}\n",
        "missing.yaml:4:1",
        "image",
    ),
    (
        "type.yaml",
        "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {name: t}\nspec:\n  mode: 750\n",
        "type.yaml:5:9",
        "0750",
    ),
    (
        "range.yaml",
        "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: r}\nspec:\n  driver: bridge\n  subnets:\n    - subnet: 10.1.0.0/24\n      ipRange: 10.2.0.0/28\n",
        "range.yaml:8:16",
        "10.1.0.0/24",
    ),
    (
        "gateway.yaml",
        "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: g}\nspec:\n  driver: bridge\n  subnets:\n    - subnet: 10.3.0.0/24\n      gateway: 10.3.0.9\n      auxAddresses: {x: 10.3.0.9}\n",
        "gateway.yaml:9:25",
        "10.3.0.9",
    ),
    (
        "nothing.yaml",
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: n}\nspec:\n  image: busybox\n  networks: [{name: nowhere}]\n",
        "nothing.yaml:6:21",
        "nowhere",
    ),
    (
        "cycle.yaml",
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: c}\nspec:\n  image: busybox\n  dependsOn: [{container: d}]\n---\napiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: d}\nspec:\n  image: busybox\n  dependsOn: [{container: c}]\n",
        "cycle.yaml:6:27",
        "c",
    ),
    (
        "twice.yaml",
        "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {name: two}\nspec: {}\n---\napiVersion: evenkeel/v1\nkind: Volume\nmetadata: {name: two}\nspec: {}\n",
        "twice.yaml:8:18",
        "two",
    ),
    (
        "port.yaml",
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: p}\nspec:\n  image: busybox\n  networks: [{name: shop}]\n  ports: [\"9000:80\", \"9000:81\"]\n",
        "port.yaml:7:22",
        "9000",
    ),
    (
        "address.yaml",
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: a1}\nspec:\n  image: busybox\n  networks: [{name: shop, ipv4: 10.77.0.9}]\n---\napiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: a2}\nspec:\n  image: busybox\n  networks: [{name: shop, ipv4: 10.77.0.9}]\n",
        "address.yaml:13:33",
        "10.77.0.9",
    ),
];

#[test]
fn all_problems_are_listed_at_once_and_nothing_is_done() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        for (file, text, _, _) in WRONG {
            sandbox.manifest(file, text);
        }
        let mut run = sandbox.verb_on_manifests("validate", &[]).expect_code(1);
        // While a file cannot be read, what is referred to may stand in it: that one is told when the others are mended.
        for (file, _, place, word) in WRONG.into_iter().filter(|(file, ..)| *file != "nothing.yaml") {
            let all = format!("{}{}", run.stdout, run.stderr);
            assert!(all.contains(place), "{file}: no message points to {place}\n{run}");
            assert!(all.contains(word), "{file}: no message says {word}\n{run}");
        }
        let json = sandbox.verb_on_manifests("validate", &["-o", "json"]).json();
        assert!(json.to_string().contains("unknown.yaml"), "{json}");
        for verb in ["plan", "diff"] {
            run = sandbox.verb_on_manifests(verb, &[]);
            assert!(!run.succeeded() && run.stderr.contains("unknown.yaml:5:3"), "{run}");
        }
        assert!(!sandbox.paths().root().exists(), "looking writes nothing");
        assert!(!ask::link_exists("ek-shop"));
    });
}

/// Each problem by itself has its place too: none is found only because of another.
#[test]
fn each_problem_alone_has_its_place() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        for (file, text, place, word) in WRONG {
            let path = sandbox.manifest(file, text);
            let run = sandbox.verb_on_manifests("validate", &[]);
            let all = format!("{}{}", run.stdout, run.stderr);
            assert!(!run.succeeded() && all.contains(place) && all.contains(word), "{file}: {place}, {word}\n{run}");
            std::fs::remove_file(path).expect("the manifest");
        }
        sandbox.verb_on_manifests("validate", &[]).expect_code(0);
    });
}

#[test]
fn a_source_that_is_not_there_is_an_error() {
    sandboxed(|sandbox| {
        let nowhere = sandbox.directory().join("nowhere");
        for verb in ["validate", "plan", "diff", "apply"] {
            let run = sandbox.evenkeel(&[verb, "-f", nowhere.to_str().expect("a path")]);
            assert!(!run.succeeded() && run.stderr.contains("nowhere"), "{run}");
        }
    });
}

#[test]
fn failures_stay_local() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        // A network whose parent is not there, with a container on it: both fail to come, the rest comes.
        sandbox.manifest("network.yaml", story::MYNET);
        sandbox.manifest("data.yaml", story::DATA);
        sandbox.manifest("web.yaml", story::WEB);
        let run = sandbox.verb_on_manifests("apply", &[]);
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(!run.succeeded() && all.contains("parent0") && all.contains("container/web"), "{run}");
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        sandbox.wire("parent0");
        sandbox.apply();
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        story::in_sync(sandbox);
    });
}

#[test]
fn a_port_that_a_program_has_holds_its_container_and_names_the_program() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let listener = std::net::TcpListener::bind("0.0.0.0:8080").expect("a listener");
        let run = sandbox.verb_on_manifests("apply", &[]);
        let all = format!("{}{}", run.stdout, run.stderr);
        let holder = format!("(process {})", std::process::id());
        assert!(all.contains("host port 8080/tcp is taken by") && all.contains(&holder), "{run}");
        // The program's port is not taken from it.
        std::net::TcpStream::connect("127.0.0.1:8080").expect("its own listener");
        listener.accept().expect("a connection");
        sandbox.evenkeel(&["drift"]).expect_code(1);
        drop(listener);
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        story::in_sync(sandbox);
    });
}

#[test]
fn a_container_that_cannot_be_made_leaves_no_shim_and_is_made_once_the_cause_is_gone() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let source = sandbox.directory().join("conf");
        sandbox.manifest(
            "web.yaml",
            &format!(
                "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: web}}\nspec:\n  image: busybox\n  \
                 command: [sleep, inf]\n  stopSignal: KILL\n  mounts: [{{bind: {}, target: /conf}}]\n",
                source.display()
            ),
        );
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(all.contains("container/web") && all.contains(&*source.to_string_lossy()), "{run}");
        // The shim comes while the root file system is made, and goes where there is nothing to start.
        ask::eventually("no shim", || match program::sh("pgrep -x evenkeel-shim || true").stdout.trim() {
            "" => Ok(()),
            pids => Err(pids.to_owned()),
        });
        std::fs::create_dir(&source).expect("the source");
        sandbox.apply();
        story::running(sandbox, "web");
        story::in_sync(sandbox);
    });
}
