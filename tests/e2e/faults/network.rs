//! The host's network is not as the manifests assume: a parent that comes and goes, ports and routes that others have, and
//! objects of our names that others made.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use evenkeel_tests::{Agent, Sandbox, ask, program, sandboxed};

use crate::story;

/// Waits until `drift` ends with this exit status.
#[track_caller]
pub fn drift_becomes(sandbox: &Sandbox, code: i32, agent: &Agent) {
    ask::eventually(&format!("drift gives {code}"), || {
        let run = sandbox.evenkeel(&["drift"]);
        if run.code == Some(code) { Ok(()) } else { Err(format!("{run}\n{}", agent.log())) }
    });
}

/// The agent follows a parent that comes, goes under another name, comes back, is deleted and made anew.
#[test]
fn a_parent_comes_and_goes_under_the_agent() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        program::sh("ip link del parent0");
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
        let agent = sandbox.agent(&[]);
        story::running(sandbox, "other");
        ask::eventually("the agent names network and parent", || {
            let log = agent.log();
            let named = log.contains("network/mynet") && log.contains("parent link parent0");
            if named { Ok(()) } else { Err(log) }
        });
        sandbox.wire("parent0");
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        drift_becomes(sandbox, 0, &agent);

        program::sh("ip link set parent0 down; ip link set parent0 name other0; ip link set other0 up");
        drift_becomes(sandbox, 1, &agent);
        program::sh("ip link set other0 down; ip link set other0 name parent0; ip link set parent0 up");
        drift_becomes(sandbox, 0, &agent);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");

        program::sh("ip link del parent0");
        drift_becomes(sandbox, 1, &agent);
        let run = sandbox.evenkeel(&["drift"]).expect_code(1).says("the parent link parent0 is not there");
        assert!(!run.stdout.contains("heals: live"), "what cannot be repaired is not offered\n{run}");
        sandbox.wire("parent0");
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        drift_becomes(sandbox, 0, &agent);
    });
}

/// A container on the bridge that publishes one port.
fn publisher(name: &str, port: &str) -> String {
    story::shell(name, "exec sleep 100000", &format!("  networks: [{{name: shop}}]\n  ports: [\"{port}\"]\n"))
}

/// Every kind of listener that the table would take packets from, and those it would not.
#[test]
fn taken_ports_of_every_kind_are_told_and_others_are_not() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        program::sh("ip addr add fd99::1/128 dev lo nodad; ip addr add 10.9.9.9/32 dev lo");
        let containers = [
            ("udp", "9001:1/udp"),
            ("six", "9002:1"),
            ("wild", "127.0.0.1:9003:1"),
            ("specific", "9004:1"),
            ("elsewhere", "127.0.0.1:9005:1"),
            ("waiting", "9006:1"),
        ];
        for (name, port) in containers {
            sandbox.manifest(&format!("{name}.yaml"), &publisher(name, port));
        }
        let udp = UdpSocket::bind("0.0.0.0:9001").expect("a UDP socket");
        let six = TcpListener::bind("[fd99::1]:9002").expect("a listener on an IPv6 address");
        let wild = TcpListener::bind("[::]:9003").expect("a listener on every address");
        let specific = TcpListener::bind("10.9.9.9:9004").expect("a listener on one address");
        let _elsewhere = TcpListener::bind("10.9.9.9:9005").expect("a listener on another address");
        // Closed by the side that listened, so that its port is left in TIME_WAIT.
        let closed = TcpListener::bind("127.0.0.1:9006").expect("a listener");
        let client = TcpStream::connect("127.0.0.1:9006").expect("a connection");
        drop(closed.accept().expect("the connection's other end"));
        drop((client, closed));

        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        let own = format!("(process {})", std::process::id());
        for (name, port) in [("udp", "9001/udp"), ("six", "9002/tcp"), ("wild", "9003/tcp"), ("specific", "9004/tcp")] {
            let line = run.stdout.lines().find(|line| line.contains(&format!("container/{name}:")));
            let line = line.unwrap_or_else(|| panic!("nothing is said of container/{name}\n{run}"));
            assert!(line.contains(&format!("host port {port} is taken by")) && line.contains(&own), "{line}");
        }
        for name in ["elsewhere", "waiting", "front"] {
            story::running(sandbox, name);
        }
        drop((udp, six, wild, specific));
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

#[test]
fn a_port_that_is_freed_is_noticed_by_the_agent() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let listener = TcpListener::bind("0.0.0.0:8080").expect("a listener");
        let agent = sandbox.agent(&["--resync", "10m"]);
        ask::eventually("the agent names the port", || {
            if agent.log().contains("host port 8080/tcp is taken by") { Ok(()) } else { Err(agent.log()) }
        });
        drift_becomes(sandbox, 1, &agent);
        drop(listener);
        // No event tells of that.
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        drift_becomes(sandbox, 0, &agent);
    });
}

#[test]
fn a_route_into_the_subnet_is_named_whenever_it_comes() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.wire("up0");
        program::sh("ip addr add 192.168.5.2/24 dev up0; ip route add default via 192.168.5.1");
        program::sh("ip route add 10.77.0.0/25 via 192.168.5.1");
        let words = "subnet 10.77.0.0/24 overlaps the host's route 10.77.0.0/25 dev up0";
        sandbox.verb_on_manifests("plan", &[]).says(words);
        sandbox.verb_on_manifests("apply", &[]).expect_code(1).says(words).says("it needs network/shop");
        assert!(!ask::link_exists("ek-shop"));
        sandbox.evenkeel(&["drift"]).expect_code(1).says("network/shop");
        program::sh("ip route del 10.77.0.0/25");
        sandbox.apply();
        story::in_sync(sandbox);

        // Later, it takes the packets of half the network; a wider one takes none.
        let front = story::running(sandbox, "front");
        program::sh("ip route add 10.77.0.0/16 via 192.168.5.1");
        story::in_sync(sandbox);
        program::sh("ip route add 10.77.0.0/25 via 192.168.5.1");
        sandbox.evenkeel(&["drift"]).expect_code(1).says(words);
        sandbox.verb_on_manifests("apply", &[]).expect_code(1).says(words);
        assert_eq!(ask::routes("up0").iter().filter(|route| route.starts_with("10.77.")).count(), 2, "it is not ours");
        program::sh("ip route del 10.77.0.0/25");
        story::in_sync(sandbox);
        assert_eq!(story::running(sandbox, "front"), front);
    });
}

#[test]
fn a_link_of_our_name_is_never_touched_unless_adopted() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
        program::sh("ip link add ek-shop type bridge; ip addr add 10.1.1.1/24 dev ek-shop");
        let before = ask::ip_json(&["-d", "address", "show", "dev", "ek-shop"]);
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        let run = run.says("network/shop: link ek-shop is there already and evenkeel did not make it");
        assert!(run.stdout.contains("policy.adopt: true"), "{run}");
        assert_eq!(ask::ip_json(&["-d", "address", "show", "dev", "ek-shop"]), before);
        story::running(sandbox, "other");
        // Also when it is to go.
        std::fs::remove_file(sandbox.manifests().join("shop.yaml")).expect("the network's manifest");
        std::fs::remove_file(sandbox.manifests().join("front.yaml")).expect("the container's manifest");
        sandbox.verb_on_manifests("apply", &[]);
        assert_eq!(ask::ip_json(&["-d", "address", "show", "dev", "ek-shop"]), before);

        sandbox.manifest("shop.yaml", &format!("{}policy: {{adopt: true}}\n", story::SHOP));
        sandbox.manifest("front.yaml", &story::front("8080"));
        sandbox.apply();
        assert_eq!(ask::addresses("ek-shop"), ["10.77.0.1/24", "fd77::1/64"]);
        story::in_sync(sandbox);
    });
}

/// A pin that leads to the host's own namespace: what is made and removed in a container's would be the host's.
#[test]
fn the_hosts_own_namespace_is_never_taken_for_a_containers() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        program::sh("ip link add mine type veth peer name mine-peer");
        let pin = sandbox.container_netns("front");
        let pins = pin.parent().expect("the directory of pins");
        std::fs::create_dir_all(pins).expect("the directory of pins");
        let refused = |place: &str| {
            let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
            assert!(
                run.stdout.contains(&pin.display().to_string()) && run.stdout.contains("host's own"),
                "{place}\n{run}"
            );
            assert!(ask::link_exists("mine"), "{place}");
            let links = ask::ip_json(&["link"]);
            assert!(!links.to_string().contains("\"eth0\""), "{place}: {links}");
        };
        std::os::unix::fs::symlink("/proc/1/ns/net", &pin).expect("a link in the pin's place");
        refused("a symbolic link");
        std::fs::remove_file(&pin).expect("the link");
        std::fs::write(&pin, "").expect("a file in the pin's place");
        program::run(Command::new("mount").args(["--bind", "/proc/1/ns/net"]).arg(&pin)).expect_code(0);
        refused("a mount");
        program::run(Command::new("umount").arg(&pin)).expect_code(0);
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        story::in_sync(sandbox);
    });
}
