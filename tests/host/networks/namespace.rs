//! Containers' network namespaces: how they are made, what outlives what, and that neighbours hear of a new holder.

use std::path::PathBuf;

use evenkeel_plan::{Endpoint, interim_link};
use evenkeel_tests::ask::{ip_json, ip_json_in, link_exists, ping};
use evenkeel_tests::eventually;
use evenkeel_tests::program::run_in;

use super::{Site, name, on_site, spec};

const SHOP: &str = "{driver: bridge, subnets: [{subnet: 10.77.0.0/24}, {subnet: 'fd77::/64'}]}";

#[test]
fn a_namespace_is_set_up_before_anyone_can_enter_it() {
    on_site(|site| {
        let path = site.wait(site.networks.join(&name("web"), &[])).expect("a namespace");
        assert_eq!(path, site.sandbox.container_netns("web"));
        assert!(ping(Some(&path), "127.0.0.1") && ping(Some(&path), "::1"), "loopback is not up");
        let setting = |file: &str| run_in(&path, &["cat", &format!("/proc/sys/net/{file}")]).expect_code(0).stdout;
        assert_eq!(setting("ipv4/ip_unprivileged_port_start").trim(), "0");
        assert_eq!(setting("ipv4/ping_group_range").trim(), "0\t2147483647");
        assert_eq!(setting("ipv6/conf/default/accept_ra").trim(), "0");
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("ours").trim(),
            "1024"
        );
    });
}

#[test]
fn a_pin_that_was_never_finished_is_taken_for_none() {
    on_site(|site| {
        let path = site.sandbox.container_netns("web");
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, "").expect("a file without a namespace");
        assert_eq!(site.wait(site.networks.observe_interfaces(&name("web"))).expect("looked at"), None);
        site.wait(site.networks.join(&name("web"), &[])).expect("a namespace");
        let pinned = || std::fs::metadata(&path).map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata));
        let first = pinned().expect("a namespace");
        site.wait(site.networks.join(&name("web"), &[])).expect("the same namespace");
        assert_eq!(pinned().expect("a namespace"), first);
    });
}

#[test]
fn many_namespaces_are_pinned_and_unpinned_at_once() {
    on_site(|site| {
        let deed = |number: usize| {
            let (networks, container) = (site.networks.clone(), name(&format!("c{number}")));
            async move {
                for _ in 0..3 {
                    networks.join(&container, &[]).await.expect("pinned");
                    networks.remove_namespace(&container).await.expect("unpinned");
                }
            }
        };
        site.wait(async {
            let tasks: Vec<_> = (0..25).map(|number| tokio::spawn(deed(number))).collect();
            for task in tasks {
                task.await.expect("done");
            }
        });
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(!mounts.contains("netns"), "{mounts}");
    });
}

#[test]
fn a_link_that_was_never_finished_is_made_anew() {
    on_site(|site| {
        let interim = interim_link(site.sandbox.instance().as_str(), &name("shop"));
        super::ip(&format!("link add {interim} type bridge"));
        site.ensure("shop", &spec(SHOP));
        assert!(link_exists("ek-shop") && !link_exists(&interim));
        super::ip(&format!("link add {interim} type bridge"));
        site.wait(site.networks.remove(&name("shop"))).expect("removed");
        assert!(!link_exists("ek-shop") && !link_exists(&interim));
    });
}

#[test]
fn neighbours_hear_of_an_addresss_new_holder() {
    on_site(|site| {
        let shop = spec(SHOP);
        site.ensure("shop", &shop);
        let addresses = ["10.77.0.2/24", "fd77::2/64"];
        let db = site.container(&[site.endpoint("db", "shop", &shop, 0, &["10.77.0.3/24", "fd77::3/64"])]);
        let (old, new) =
            (site.endpoint("web", "shop", &shop, 0, &addresses), site.endpoint("other", "shop", &shop, 0, &addresses));
        site.container(std::slice::from_ref(&old));
        assert!(ping(Some(&db), "10.77.0.2") && ping(Some(&db), "fd77::2"));
        let known = |address: &str| {
            let neighbours = ip_json_in(&db, &["neigh", "show", "to", address]);
            neighbours[0]["lladdr"].as_str().unwrap_or_default().to_owned()
        };
        for address in ["10.77.0.2", "fd77::2"] {
            assert_eq!(known(address), old.mac.to_string());
        }
        site.wait(site.networks.remove_namespace(&name("web"))).expect("gone");
        site.container(std::slice::from_ref(&new));
        // Nothing was sent from the neighbour meanwhile.
        for address in ["10.77.0.2", "fd77::2"] {
            eventually("the neighbour knows", || match known(address) {
                mac if mac == new.mac.to_string() => Ok(()),
                mac => Err(format!("{address} is at {mac}")),
            });
        }
    });
}

/// Makes `web` on a network with IPv4 and IPv6 and on one with IPv4 alone, and gives its namespace.
fn container_of_two_networks(site: &Site) -> ([Endpoint; 2], PathBuf) {
    let (shop, back) = (spec(SHOP), spec("{driver: bridge, subnets: [{subnet: 10.78.0.0/24}]}"));
    site.ensure("shop", &shop);
    site.ensure("back", &back);
    let endpoints = [
        site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24", "fd77::2/64"]),
        site.endpoint("web", "back", &back, 1, &["10.78.0.2/24"]),
    ];
    let web = site.container(&endpoints);
    (endpoints, web)
}

#[test]
fn a_container_of_two_networks_leaves_by_the_first() {
    on_site(|site| {
        let (endpoints, web) = container_of_two_networks(site);
        let defaults = |family: &str| {
            let routes = ip_json_in(&web, &[family, "route", "show", "default"]);
            let list = routes.as_array().cloned().unwrap_or_default();
            list.iter().map(|route| format!("{} {}", route["gateway"], route["dev"])).collect::<Vec<_>>()
        };
        assert_eq!(defaults("-4"), [r#""10.77.0.1" "eth0""#]);
        assert_eq!(defaults("-6"), [r#""fd77::1" "eth0""#]);
        assert!(ping(Some(&web), "10.78.0.1"));
        // An address that changes takes its subnet's routes along; the default route comes back.
        let mut changed = endpoints.clone();
        changed[0].addresses = vec![super::net("10.77.0.7/24"), super::net("fd77::2/64")];
        site.container(&changed);
        assert_eq!(defaults("-4"), [r#""10.77.0.1" "eth0""#]);
        assert!(ping(None, "10.77.0.7"));
    });
}

#[test]
fn an_interface_has_no_address_of_the_kernels_own() {
    on_site(|site| {
        let (endpoints, web) = container_of_two_networks(site);
        assert!(ping(None, "10.78.0.2") && ping(None, "fd77::2"), "both are in operation");
        let listed = |links: serde_json::Value| -> Vec<String> {
            let infos = links.as_array().into_iter().flatten().filter_map(|link| link["addr_info"].as_array().cloned());
            infos.flatten().filter_map(|info| info["local"].as_str().map(str::to_owned)).collect()
        };
        // What IPv6 does not do without is made of the hardware address (RFC 4291, appendix A).
        let [a, b, c, d, e, f] = endpoints[0].mac.0;
        let link_local: std::net::Ipv6Addr =
            format!("fe80::{:x}{b:02x}:{c:02x}ff:fe{d:02x}:{e:02x}{f:02x}", a ^ 2).parse().expect("an address");
        let mut inside = listed(ip_json_in(&web, &["-6", "address", "show", "dev", "eth0"]));
        inside.sort();
        assert_eq!(inside, ["fd77::2".to_owned(), link_local.to_string()]);
        assert_eq!(listed(ip_json_in(&web, &["-6", "address", "show", "dev", "eth1"])), [""; 0]);
        for endpoint in &endpoints {
            assert_eq!(listed(ip_json(&["-6", "address", "show", "dev", &endpoint.host_interface])), [""; 0]);
        }
    });
}
