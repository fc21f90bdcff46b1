//! Damage by hand: `drift` names the field, one pass repairs it, `drift` is content again.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use evenkeel_tests::{ask, program, sandboxed};
use serde_json::Value;

use super::named_and_repaired;
use crate::story;

#[test]
fn an_address_of_the_shim_is_deleted() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let web = story::running(sandbox, "web");
        named_and_repaired(sandbox, "network/mynet", "shim.address", || {
            program::sh("ip addr del 10.0.36.223/32 dev mynet-shim");
        });
        assert_eq!(ask::addresses("mynet-shim"), ["10.0.36.223/32"]);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        assert_eq!(story::running(sandbox, "web"), web, "the container was not touched");
    });
}

#[test]
fn a_route_of_the_shim_is_deleted() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        named_and_repaired(sandbox, "network/mynet", "shim.routes", || {
            program::sh("ip route del 10.0.36.192/27 dev mynet-shim");
        });
        assert_eq!(ask::routes("mynet-shim"), ["10.0.36.192/27"]);
    });
}

#[test]
fn the_shim_is_deleted() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        named_and_repaired(sandbox, "network/mynet", "shim", || {
            program::sh("ip link del mynet-shim");
        });
        assert_eq!(ask::addresses("mynet-shim"), ["10.0.36.223/32"]);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
    });
}

#[test]
fn the_shim_is_set_down() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        named_and_repaired(sandbox, "network/mynet", "shim.up", || {
            program::sh("ip link set mynet-shim down");
        });
        assert!(ask::ping(None, "10.0.36.200"));
    });
}

#[test]
fn an_interface_of_a_container_is_deleted() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let netns = sandbox.container_netns("web");
        named_and_repaired(sandbox, "container/web", "networks.mynet", || {
            program::run_in(&netns, &["ip", "link", "del", "eth0"]).expect_code(0);
        });
        assert_eq!(ask::addresses_in(&netns, "eth0"), ["10.0.36.200/24"]);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
    });
}

#[test]
fn the_firewall_table_is_deleted() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        let instance = sandbox.instance();
        named_and_repaired(sandbox, "container/front", "ports", || {
            program::sh(&format!("nft delete table inet {}", instance.as_str()));
            assert!(!ask::wget(None, "http://127.0.0.1:8080/").succeeded());
        });
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}

#[test]
fn a_rule_of_the_firewall_is_added_by_hand() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let instance = sandbox.instance();
        let table = instance.as_str();
        let drift = named_and_repaired(sandbox, "container/front", "firewall", || {
            program::sh(&format!(
                "nft add chain inet {table} mine; nft add rule inet {table} mine tcp dport 4242 drop"
            ));
        });
        drift.says("chain mine");
        let text = ask::nft_table(table).expect("the table").to_string();
        assert!(!text.contains("4242"), "{text}");
    });
}

#[test]
fn a_bridge_is_deleted() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        named_and_repaired(sandbox, "network/shop", "link", || {
            program::sh("ip link del ek-shop");
        });
        assert_eq!(ask::addresses("ek-shop"), ["10.77.0.1/24", "fd77::1/64"]);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        assert_eq!(story::running(sandbox, "front"), front, "the container's process lived through it");
    });
}

/// The kernel makes them with an address and never again.
#[test]
fn the_routes_of_an_address_are_flushed() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        // Those of link-local addresses are the kernel's own matter.
        let own = |mut routes: Value| {
            routes.as_array_mut().expect("a list").retain(|route| route["dst"] != "fe80::/64");
            routes
        };
        let ask = ["-4", "-6"].map(|family| [family, "route", "show", "dev", "ek-shop"]);
        let routes = || ask.map(|question| own(ask::ip_json(&question)));
        let before = routes();
        named_and_repaired(sandbox, "network/shop", "routes", || {
            program::sh("ip route flush dev ek-shop; ip -6 route flush dev ek-shop");
        });
        assert_eq!(routes(), before, "as the kernel had made them");
        let netns = sandbox.container_netns("front");
        let inside = || ["-4", "-6"].map(|family| own(ask::ip_json_in(&netns, &[family, "route"])));
        let before = inside();
        named_and_repaired(sandbox, "container/front", "networks.shop.routes", || {
            program::run_in(&netns, &["sh", "-ec", "ip route flush dev eth0; ip -6 route flush dev eth0"])
                .expect_code(0);
        });
        assert_eq!(inside(), before);
        assert_eq!(story::running(sandbox, "front"), front);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}

#[test]
fn a_main_process_is_killed() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        // So long a pause that `drift` sees it.
        sandbox.manifest("web.yaml", &format!("{}  restart: {{backoff: {{initial: 3s}}}}\n", story::WEB));
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "web");
        story::in_sync(sandbox);
        program::sh(&format!("kill -9 {pid}"));
        story::phase(sandbox, "web", "backoff");
        sandbox.evenkeel(&["drift"]).expect_code(1).says("container/web").says("SIGKILL");
        // The start is its shim's, with the backoff that its manifest states: a pass leaves that alone.
        sandbox.verb_on_manifests("apply", &[]);
        assert_ne!(story::running(sandbox, "web").0, pid);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        story::in_sync(sandbox);
    });
}

/// Nobody is left to start it again: that is the pass's to do.
#[test]
fn a_main_process_and_its_shim_are_killed() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "web");
        let shim = story::status(sandbox, "web").expect("its status")["shimPid"].clone();
        named_and_repaired(sandbox, "container/web", "state", || {
            program::sh(&format!("kill -9 {shim} {pid}"));
        });
        assert_ne!(story::running(sandbox, "web").0, pid);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
    });
}

#[test]
fn a_killed_main_process_is_started_again_by_its_shim() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "web");
        program::sh(&format!("kill -9 {pid}"));
        ask::eventually("another process runs", || {
            let (now, _) = story::running(sandbox, "web");
            if now == pid { Err(format!("still {pid}")) } else { Ok(()) }
        });
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        story::in_sync(sandbox);
    });
}

#[test]
fn a_shim_is_killed() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "web");
        let shim = story::status(sandbox, "web").expect("its status")["shimPid"].as_u64().expect("a pid");
        named_and_repaired(sandbox, "container/web", "shim", || {
            program::sh(&format!("kill -9 {shim}"));
            ask::eventually("the shim is gone", || match ask::start_time(shim as u32) {
                None => Ok(()),
                Some(_) => Err("it is there".to_owned()),
            });
        });
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        // One main process, not the orphan beside a new one.
        let (now, _) = story::running(sandbox, "web");
        assert!(now == pid || ask::start_time(pid).is_none(), "{pid} lives on beside {now}");
        // The child that answered a request may still be at its end.
        ask::eventually("one server", || {
            let servers = program::run(std::process::Command::new("pgrep").args(["-x", "httpd"]));
            if servers.stdout.lines().count() == 1 { Ok(()) } else { Err(servers.to_string()) }
        });
    });
}

#[test]
fn a_volume_changes_its_owner() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let path = sandbox.paths().volume(&"data".parse().expect("a name"));
        fs::write(path.join("kept"), "kept").expect("a file in the volume");
        named_and_repaired(sandbox, "volume/data", "owner", || chown(&path, Some(0), Some(7)).expect("chown"));
        let metadata = fs::metadata(&path).expect("the volume");
        assert_eq!((metadata.uid(), metadata.gid()), (1000, 1000));
        named_and_repaired(sandbox, "volume/data", "mode", || {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        });
        assert_eq!(fs::metadata(&path).expect("the volume").mode() & 0o7777, 0o750);
        assert_eq!(fs::read_to_string(path.join("kept")).expect("the file"), "kept");
    });
}

#[test]
fn settings_of_a_bridge_are_altered() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        for (field, setting, wrong, right) in [
            ("sysctl.ipv4.route_localnet", "net/ipv4/conf/ek-shop/route_localnet", "0", "1\n"),
            ("sysctl.ipv6.accept_ra", "net/ipv6/conf/ek-shop/accept_ra", "2", "0\n"),
        ] {
            let path = format!("/proc/sys/{setting}");
            named_and_repaired(sandbox, "network/shop", field, || fs::write(&path, wrong).expect("the setting"));
            assert_eq!(fs::read_to_string(&path).expect("the setting"), right);
        }
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}

#[test]
fn limits_are_changed_in_the_cgroup() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let web = story::running(sandbox, "web");
        let instance = sandbox.instance();
        // Field, file on cgroup v2 and v1, the value written by hand, the value that it must have again.
        let limits = [
            ("resources.memory", "memory.max", "memory.limit_in_bytes", "33554432", "67108864"),
            ("resources.pids", "pids.max", "pids.max", "7", "50"),
        ];
        for (field, v2, v1, wrong, right) in limits {
            let file = ask::cgroup_file(instance.as_str(), "web", v2, v1);
            named_and_repaired(sandbox, "container/web", field, || fs::write(&file, wrong).expect("the limit"));
            assert_eq!(fs::read_to_string(&file).expect("the limit").trim(), right, "{}", file.display());
        }
        // A kernel that counts no swap has no file to alter.
        let files = ask::cgroups(instance.as_str(), "web");
        let files = files.iter().flat_map(|own| [own.join("memory.swap.max"), own.join("memory.memsw.limit_in_bytes")]);
        if let Some(file) = files.into_iter().find(|file| file.exists()) {
            let before = fs::read_to_string(&file).expect("the limit");
            named_and_repaired(sandbox, "container/web", "resources.memory.swap", || {
                fs::write(&file, "134217728").expect("the limit");
            });
            assert_eq!(fs::read_to_string(&file).expect("the limit"), before, "{}", file.display());
        }
        let file = ask::cgroup_file(instance.as_str(), "web", "cpu.max", "cpu.cfs_quota_us");
        let before = fs::read_to_string(&file).expect("the quota");
        named_and_repaired(sandbox, "container/web", "resources.cpus", || {
            fs::write(&file, "20000").expect("the quota")
        });
        assert_eq!(fs::read_to_string(&file).expect("the quota"), before);
        assert_eq!(story::running(sandbox, "web"), web, "limits are repaired under the running process");
    });
}

#[test]
fn a_repaired_difference_is_over_and_the_next_one_is_new() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        program::sh("ip link del mynet-shim");
        sandbox.evenkeel(&["drift"]).expect_code(1);
        std::thread::sleep(std::time::Duration::from_secs(2));
        let lasting = sandbox.evenkeel(&["drift"]);
        assert!(lasting.stdout.contains("absent for "), "{lasting}");
        sandbox.apply();
        program::sh("ip link del mynet-shim");
        let new = sandbox.evenkeel(&["drift"]);
        assert!(new.code == Some(1) && !new.stdout.contains("absent for "), "{new}");
    });
}

#[test]
fn a_container_of_which_only_its_processes_are_left_is_ended_before_it_is_made_again() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "web");
        let (root, run) = (sandbox.paths().root().to_owned(), sandbox.paths().run().to_owned());
        // The processes keep the namespace, whose interface has the hardware address of the one that is to be made.
        program::sh(&format!("umount -l {}/netns/web", run.display()));
        for directory in [root, run] {
            fs::remove_file(directory.join("containers/web/created.json")).expect("the record");
        }
        sandbox.apply();
        story::in_sync(sandbox);
        assert_eq!(ask::start_time(pid), None, "the old process is gone");
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
    });
}
