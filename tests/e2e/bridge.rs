//! Bridge networks: published ports from everywhere, names, NAT.

use evenkeel_tests::{ask, program, sandboxed};

use crate::story;

/// A second container on the network, for asking from.
const CLIENT: &str = r#"apiVersion: evenkeel/v1
kind: Container
metadata: {name: client}
spec:
  image: busybox
  command: [sleep, "100000"]
  networks: [{name: shop}]
  stopSignal: KILL
"#;

#[test]
fn a_published_port_answers_everywhere() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("client.yaml", CLIENT);
        let lan = sandbox.wire("eth9");
        program::sh("ip addr add 192.168.9.1/24 dev eth9; ip -n lan addr add 192.168.9.2/24 dev eth9-peer");
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n", "from the host over loopback");
        assert_eq!(ask::page(None, "http://192.168.9.1:8080/"), "hello\n", "from the host over its own address");
        assert_eq!(ask::page(Some(&lan), "http://192.168.9.1:8080/"), "hello\n", "from outside");
        let client = sandbox.container_netns("client");
        assert_eq!(ask::page(Some(&client), "http://10.77.0.1:8080/"), "hello\n", "from a container over the gateway");
        assert_eq!(ask::page(Some(&client), "http://192.168.9.1:8080/"), "hello\n", "over the host's address");
        let front = sandbox.container_netns("front");
        assert_eq!(ask::page(Some(&front), "http://192.168.9.1:8080/"), "hello\n", "from the very container");
        story::in_sync(sandbox);
    });
}

#[test]
fn a_port_published_on_one_address_stays_there() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("front.yaml", &story::front("127.0.0.1:8080"));
        let lan = sandbox.wire("eth9");
        program::sh("ip addr add 192.168.9.1/24 dev eth9; ip -n lan addr add 192.168.9.2/24 dev eth9-peer");
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        assert!(!ask::wget(Some(&lan), "http://192.168.9.1:8080/").succeeded());
    });
}

#[test]
fn names_and_aliases_resolve() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("client.yaml", CLIENT);
        sandbox.apply();
        story::running(sandbox, "client");
        for name in ["front", "www"] {
            let url = format!("http://{name}/");
            ask::eventually(&format!("a page from {url}"), || {
                let run = sandbox.evenkeel(&["exec", "client", "wget", "-q", "-O", "-", &url]);
                if run.stdout == "hello\n" { Ok(()) } else { Err(run.to_string()) }
            });
        }
    });
}

#[test]
fn what_leaves_is_masqueraded() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.wire("eth9");
        // The lan has no route back to the network: only a masqueraded packet is answered.
        program::sh("ip addr add 192.168.9.1/24 dev eth9; ip -n lan addr add 192.168.9.2/24 dev eth9-peer");
        sandbox.apply();
        let front = sandbox.container_netns("front");
        assert!(ask::ping(Some(&front), "192.168.9.2"));
    });
}

#[test]
fn both_families_are_there() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        assert_eq!(ask::addresses("ek-shop"), ["10.77.0.1/24", "fd77::1/64"]);
        let front = ask::addresses_in(&sandbox.container_netns("front"), "eth0");
        assert!(front.len() == 2 && front[0].starts_with("10.77.0.") && front[1].starts_with("fd77::"), "{front:?}");
        let six = front[1].trim_end_matches("/64");
        assert_eq!(ask::page(None, &format!("http://[{six}]/")), "hello\n");
    });
}
