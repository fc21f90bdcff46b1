//! The agent: converges, follows its directory, repairs, and may die without anybody noticing.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::{Agent, Sandbox, ask, program, sandboxed};

use crate::story;

/// Starts the agent on the bridge story and waits for the page.
fn converged(sandbox: &Sandbox) -> Agent {
    story::bridge(sandbox);
    let agent = sandbox.agent(&[]);
    assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    agent
}

/// Waits until the page is served on this port and no longer on that one.
#[track_caller]
fn moved(agent: &Agent, from: u16, to: u16) {
    ask::eventually(&format!("the port moves from {from} to {to}"), || {
        let new = ask::wget(None, &format!("http://127.0.0.1:{to}/"));
        let old = ask::wget(None, &format!("http://127.0.0.1:{from}/"));
        if new.stdout == "hello\n" && !old.succeeded() { Ok(()) } else { Err(agent.log()) }
    });
}

#[test]
fn every_way_of_changing_the_directory_is_followed() {
    sandboxed(|sandbox| {
        let agent = converged(sandbox);
        let manifests = sandbox.manifests();
        let file = manifests.join("front.yaml");

        fs::write(&file, story::front("8081")).expect("a write in place");
        moved(&agent, 8080, 8081);

        // As vim saves: the old file is renamed away, a new one takes its name.
        fs::rename(&file, manifests.join("front.yaml~")).expect("a backup");
        fs::write(manifests.join(".front.yaml.swp"), "not a manifest").expect("a swap file");
        fs::write(&file, story::front("8082")).expect("the new file");
        fs::remove_file(manifests.join("front.yaml~")).expect("the backup");
        moved(&agent, 8081, 8082);

        // As many others save: written aside and renamed over.
        fs::write(manifests.join(".front.tmp"), story::front("8083")).expect("a file aside");
        fs::rename(manifests.join(".front.tmp"), &file).expect("the rename");
        moved(&agent, 8082, 8083);

        // A new sub-directory, two deep, written at once.
        fs::remove_file(&file).expect("the old place");
        sandbox.manifest("apps/shop/front.yaml", &story::front("8084"));
        moved(&agent, 8083, 8084);
        sandbox.manifest("apps/shop/front.yaml", &story::front("8085"));
        moved(&agent, 8084, 8085);

        // The directory itself is replaced.
        let next = sandbox.directory().join("next");
        program::run(Command::new("cp").arg("-a").arg(&manifests).arg(&next)).expect_code(0);
        fs::write(next.join("apps/shop/front.yaml"), story::front("8086")).expect("the file in the next one");
        fs::rename(&manifests, sandbox.directory().join("before")).expect("the old one away");
        fs::rename(&next, &manifests).expect("the next one in place");
        moved(&agent, 8085, 8086);
        sandbox.manifest("apps/shop/front.yaml", &story::front("8087"));
        moved(&agent, 8086, 8087);
    });
}

#[test]
fn a_git_checkout_is_followed() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let manifests = sandbox.manifests();
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(&manifests).args(["-c", "user.name=t", "-c", "user.email=t@localhost"]);
            program::run(command.args(arguments)).expect_code(0)
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["add", "."]);
        git(&["commit", "-qm", "one"]);
        git(&["checkout", "-qb", "next"]);
        sandbox.manifest("front.yaml", &story::front("8081"));
        git(&["commit", "-qam", "two"]);
        git(&["checkout", "-q", "main"]);
        let agent = sandbox.agent(&[]);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        git(&["checkout", "-q", "next"]);
        moved(&agent, 8080, 8081);
        git(&["checkout", "-q", "main"]);
        moved(&agent, 8081, 8080);
    });
}

/// A checkout that takes its time: files are gone for a while, and git's lock says that they may come again.
#[test]
fn a_checkout_under_way_deletes_nothing() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let git = sandbox.manifests().join(".git");
        fs::create_dir(&git).expect("git's directory");
        let agent = sandbox.agent(&[]);
        let before = story::running(sandbox, "front");
        fs::write(git.join("index.lock"), "").expect("git's lock");
        let front = sandbox.manifests().join("front.yaml");
        let text = fs::read(&front).expect("the manifest");
        fs::remove_file(&front).expect("the manifest gone");
        ask::eventually("the agent's word on the lock", || {
            if agent.log().contains("index.lock") { Ok(()) } else { Err(agent.log()) }
        });
        assert_eq!(story::running(sandbox, "front"), before);
        fs::write(&front, text).expect("the manifest again");
        fs::remove_file(git.join("index.lock")).expect("the lock gone");
        story::eventually_in_sync(sandbox);
        assert_eq!(story::running(sandbox, "front"), before);
        // Gone for good, with no lock: now it is meant.
        fs::remove_file(&front).expect("the manifest gone");
        ask::eventually("the container gone", || match story::status(sandbox, "front") {
            None => Ok(()),
            Some(status) => Err(status.to_string()),
        });
    });
}

/// The directory is a symbolic link to one revision of many, swapped by a rename, and so are the files in it.
#[test]
fn swapped_symlinks_are_followed() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let manifests = sandbox.manifests();
        // As a mounted ConfigMap: files that link through `..data`, which is swapped.
        for (revision, port) in [("..one", "8080"), ("..two", "8081")] {
            fs::create_dir(manifests.join(revision)).expect("a revision");
            fs::write(manifests.join(revision).join("front.yaml"), story::front(port)).expect("its file");
        }
        symlink("..one", manifests.join("..data")).expect("the link to the revision");
        fs::remove_file(manifests.join("front.yaml")).expect("the plain file");
        symlink("..data/front.yaml", manifests.join("front.yaml")).expect("the link to the file");
        let agent = sandbox.agent(&[]);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        symlink("..two", manifests.join("..next")).expect("the next link");
        fs::rename(manifests.join("..next"), manifests.join("..data")).expect("the swap");
        moved(&agent, 8080, 8081);
    });
}

#[test]
fn damage_is_repaired_without_being_asked() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        let agent = sandbox.agent(&[]);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        program::sh("ip addr del 10.0.36.223/32 dev mynet-shim");
        let back = |what: &str, check: &dyn Fn() -> bool| {
            ask::eventually(what, || if check() { Ok(()) } else { Err(agent.log()) });
        };
        back("the address is back", &|| ask::addresses("mynet-shim") == ["10.0.36.223/32"]);
        program::sh("ip link del mynet-shim");
        back("the shim is back", &|| ask::routes("mynet-shim") == ["10.0.36.192/27"]);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
    });
}

#[test]
fn a_deleted_table_is_repaired_without_being_asked() {
    sandboxed(|sandbox| {
        let _agent = converged(sandbox);
        program::sh(&format!("nft delete table inet {}", sandbox.instance().as_str()));
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}

#[test]
fn a_killed_agent_is_missed_by_nobody() {
    sandboxed(|sandbox| {
        let agent = converged(sandbox);
        sandbox.evenkeel(&["drift"]).expect_code(0);
        let front = story::running(sandbox, "front");
        let shim = story::status(sandbox, "front").expect("its status")["shimPid"].clone();
        let netns = sandbox.container_netns("front");
        let instance = sandbox.instance();
        let kernel = || {
            let links = [
                ask::ip_json(&["-d", "address"]),
                ask::ip_json(&["route"]),
                ask::ip_json_in(&netns, &["-d", "address"]),
            ];
            (links.map(without_clocks), ask::nft_table(instance.as_str()).map(without_clocks))
        };
        let before = kernel();
        agent.kill();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n", "without an agent");
        assert_eq!(story::running(sandbox, "front"), front);
        // Its shim alone starts it again.
        program::sh(&format!("kill -9 {}", front.0));
        let front = ask::eventually("another process runs", || match story::running(sandbox, "front") {
            now if now.0 != front.0 => Ok(now),
            _ => Err("the same".to_owned()),
        });
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n", "after a restart without an agent");

        let next = sandbox.agent(&[]);
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
        story::running(sandbox, "other");
        ask::throughout(Duration::from_secs(2), "nothing changes under the next agent", || {
            let now = (story::running(sandbox, "front"), kernel());
            if now == (front, before.clone()) { Ok(()) } else { Err(format!("{before:?}\n{now:?}\n{}", next.log())) }
        });
        assert_eq!(story::status(sandbox, "front").expect("its status")["shimPid"], shim);
    });
}

/// Takes out of what the kernel says what moves by itself: counters, and the link-local addresses that it gives of its own.
fn without_clocks(mut value: serde_json::Value) -> serde_json::Value {
    fn clean(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                let clocks = |key: &String| {
                    matches!(key.as_str(), "packets" | "bytes" | "expires")
                        || key.ends_with("_timer")
                        || key.ends_with("_life_time")
                };
                map.retain(|key, _| !clocks(key));
                map.values_mut().for_each(clean);
            }
            serde_json::Value::Array(list) => {
                list.retain(|entry| !(entry["family"] == "inet6" && entry["scope"] == "link"));
                list.iter_mut().for_each(clean);
            }
            _ => {}
        }
    }
    clean(&mut value);
    value
}

#[test]
fn two_agents_do_not_share_a_root() {
    sandboxed(|sandbox| {
        let mut agent = converged(sandbox);
        let second = sandbox.evenkeel(&["run", "--manifests", sandbox.manifests().to_str().expect("a path")]);
        assert!(!second.succeeded(), "{second}");
        assert!(second.stderr.contains(&agent.pid().to_string()), "it names who holds the root\n{second}");
        assert!(agent.is_running());
    });
}

#[test]
fn apply_asks_the_running_agent() {
    sandboxed(|sandbox| {
        let mut agent = converged(sandbox);
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
        sandbox.apply();
        // When it returns it is done, and it was the agent that did it: nobody else may hold the lock.
        let status = story::status(sandbox, "other").expect("its status");
        assert_eq!(status["phase"]["phase"], "running", "{status}");
        assert!(agent.is_running());
    });
}

#[test]
fn an_asked_agent_ends_and_leaves_everything() {
    sandboxed(|sandbox| {
        let agent = converged(sandbox);
        let front = story::running(sandbox, "front");
        assert_eq!(agent.terminate().code(), Some(0));
        assert_eq!(story::running(sandbox, "front"), front);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}
