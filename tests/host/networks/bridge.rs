//! Bridge networks: made, described, damaged by hand and repaired; containers on them reach each other.

use std::collections::BTreeSet;

use evenkeel_plan::{LinkKind, ObservedInterface, Sight};
use evenkeel_tests::ask::{addresses, addresses_in, link_exists, ping};
use evenkeel_tests::eventually;

use super::{everything, ip, name, net, on_site, spec, without_index};

const SHOP: &str = "{driver: bridge, subnets: [{subnet: 10.77.0.0/24}, {subnet: 'fd77::/64'}]}";

#[test]
fn containers_of_a_bridge_reach_each_other_and_the_host() {
    on_site(|site| {
        let shop = spec(SHOP);
        site.ensure("shop", &shop);
        let web = site.container(&[site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24", "fd77::2/64"])]);
        let db = site.container(&[site.endpoint("db", "shop", &shop, 0, &["10.77.0.3/24", "fd77::3/64"])]);
        for (from, to) in [(&web, "10.77.0.3"), (&web, "fd77::3"), (&db, "10.77.0.1"), (&db, "fd77::1")] {
            assert!(ping(Some(from), to), "{} does not reach {to}", from.display());
        }
        assert!(ping(None, "10.77.0.2") && ping(None, "fd77::2"), "the host does not reach the container");
        assert_eq!(addresses_in(&web, "eth0"), ["10.77.0.2/24", "fd77::2/64"]);
        assert_eq!(addresses("ek-shop"), ["10.77.0.1/24", "fd77::1/64"]);
    });
}

#[test]
fn a_bridge_is_described_field_by_field() {
    on_site(|site| {
        let shop = spec("{driver: bridge, mtu: 1400, subnets: [{subnet: 10.77.0.0/24}]}");
        assert_eq!(site.observe("shop", &shop), Sight::Absent);
        site.ensure("shop", &shop);
        let Sight::Found { observed, owned: true } = site.observe("shop", &shop) else { panic!("not found as ours") };
        let link = observed.link.expect("a link");
        assert_eq!((link.name.as_str(), link.kind.as_str()), ("ek-shop", "bridge"));
        assert_eq!((link.up, link.mtu), (true, 1400));
        assert_eq!(link.addresses, [net("10.77.0.1/24")].into());
        assert_eq!(link.alias, Some(format!("{}:network/shop", site.sandbox.instance().as_str())));
        assert!(observed.forwarding_v4);

        let web = site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24"]);
        site.container(std::slice::from_ref(&web));
        let expected = ObservedInterface {
            name: "eth0".to_owned(),
            kind: LinkKind::Veth,
            up: true,
            mtu: 1400,
            mac: Some(web.mac),
            addresses: [net("10.77.0.2/24")].into(),
            gateways: ["10.77.0.1".parse().expect("an address")].into(),
            unrouted: BTreeSet::new(),
            bridge: Some("ek-shop".to_owned()),
            parent: None,
        };
        let one = site.wait(site.networks.observe_interfaces(&name("web"))).expect("interfaces");
        assert_eq!(one, Some(vec![expected.clone()]));
        let asked = [name("web"), name("nobody")].into();
        let mut all = site.wait(site.networks.observe_all_interfaces(&asked));
        assert_eq!(all.remove("web").expect("asked for").expect("interfaces"), Some(vec![expected]));
        assert_eq!(all.remove("nobody").expect("asked for").expect("no namespace"), None);
    });
}

#[test]
fn a_link_that_its_manifest_renames_is_still_the_networks() {
    on_site(|site| {
        site.ensure("shop", &spec(SHOP));
        let renamed = spec("{driver: bridge, bridge: br7, subnets: [{subnet: 10.77.0.0/24}]}");
        let Sight::Found { observed, owned: true } = site.observe("shop", &renamed) else {
            panic!("not found as ours")
        };
        assert_eq!(observed.link.expect("the link of before").name, "ek-shop");
        site.wait(site.networks.remove(&name("shop"))).expect("removed by its mark");
        assert!(!link_exists("ek-shop"));
    });
}

#[test]
fn damage_to_a_bridge_is_seen_and_repaired() {
    let damages = [
        "addr del 10.77.0.1/24 dev ek-shop",
        "addr add 10.78.0.1/24 dev ek-shop",
        "-6 addr del fd77::1/64 dev ek-shop",
        "link set ek-shop down",
        "link set ek-shop mtu 1280",
        "link del ek-shop",
    ];
    on_site(|site| {
        let shop = spec(SHOP);
        site.ensure("shop", &shop);
        let look = || without_index(site.observe("shop", &shop));
        let whole = look();
        for damage in damages {
            ip(damage);
            assert_ne!(look(), whole, "`ip {damage}` was not seen");
            site.ensure("shop", &shop);
            assert_eq!(look(), whole, "`ip {damage}` was not repaired");
        }
    });
}

#[test]
fn damage_to_an_interface_is_seen_and_repaired() {
    on_site(|site| {
        let shop = spec(SHOP);
        site.ensure("shop", &shop);
        let endpoint = site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24", "fd77::2/64"]);
        let path = site.container(std::slice::from_ref(&endpoint));
        let host_end = &endpoint.host_interface;
        let inside = |command: &str| format!("netns exec web ip {command}");
        // `ip netns` looks in a directory of its own.
        std::fs::create_dir_all("/run/netns").expect("/run/netns");
        std::fs::File::create("/run/netns/web").expect("a file to mount on");
        let own = Some(path.as_path());
        nix::mount::mount(own, "/run/netns/web", None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>)
            .expect("bind");

        let look = || site.wait(site.networks.observe_interfaces(&name("web"))).expect("interfaces");
        let whole = look();
        let damages = [
            inside("addr del 10.77.0.2/24 dev eth0"),
            inside("addr add 10.77.0.9/24 dev eth0"),
            inside("addr del fd77::2/64 dev eth0"),
            inside("route del default"),
            inside("route replace default via 10.77.0.77"),
            inside("-6 route del default"),
            inside("link set eth0 address 02:00:00:00:00:01"),
            inside("link set eth0 mtu 1280"),
            inside("link set eth0 down"),
            inside("link del eth0"),
            format!("link set {host_end} nomaster"),
            format!("link set {host_end} down"),
            format!("link del {host_end}"),
            "link del ek-shop".to_owned(),
        ];
        for damage in damages {
            ip(&damage);
            assert_ne!(look(), whole, "`ip {damage}` was not seen");
            site.ensure("shop", &shop);
            site.container(std::slice::from_ref(&endpoint));
            assert_eq!(look(), whole, "`ip {damage}` was not repaired");
            eventually("the host answers", || if ping(own, "10.77.0.1") { Ok(()) } else { Err(damage.clone()) });
        }
    });
}

#[test]
fn a_second_ensure_changes_nothing() {
    on_site(|site| {
        let shop = spec(SHOP);
        let endpoint = site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24", "fd77::2/64"]);
        site.ensure("shop", &shop);
        let path = site.container(std::slice::from_ref(&endpoint));
        let before = everything(&[&path]);
        site.ensure("shop", &shop);
        let again = site.container(std::slice::from_ref(&endpoint));
        assert_eq!(again, path);
        assert_eq!(everything(&[&path]), before);
    });
}

#[test]
fn an_interface_that_is_not_listed_goes() {
    on_site(|site| {
        let (shop, back) = (spec(SHOP), spec("{driver: bridge, subnets: [{subnet: 10.78.0.0/24}]}"));
        site.ensure("shop", &shop);
        site.ensure("back", &back);
        let first = site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24"]);
        let second = site.endpoint("web", "back", &back, 1, &["10.78.0.2/24"]);
        let path = site.container(&[first.clone(), second.clone()]);
        assert_eq!(addresses_in(&path, "eth1"), ["10.78.0.2/24"]);
        // The other network takes the first's place.
        let moved = site.endpoint("web", "back", &back, 0, &["10.78.0.2/24"]);
        site.container(std::slice::from_ref(&moved));
        assert_eq!(addresses_in(&path, "eth0"), ["10.78.0.2/24"]);
        assert!(ping(Some(&path), "10.78.0.1"));
        assert_eq!(addresses_in(&path, "eth1"), [""; 0]);
        assert!(!link_exists(&first.host_interface), "the host's end of the first network stays");
    });
}

#[test]
fn a_link_of_somebody_elses_in_the_place_of_the_hosts_end_is_refused_and_left_alone() {
    on_site(|site| {
        let shop = spec(SHOP);
        site.ensure("shop", &shop);
        let web = site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24"]);
        let end = &web.host_interface;
        for link in [format!("{end} type bridge"), format!("{end} type veth peer name somebodys")] {
            ip(&format!("link add {link}"));
            ip(&format!("link set {end} alias somebodys"));
            let error = site.wait(site.networks.join(&name("web"), std::slice::from_ref(&web))).expect_err("a link");
            assert_eq!(error.to_string(), format!("there is a link {end} already that evenkeel did not make"));
            assert!(link_exists(end));
            ip(&format!("link delete {end}"));
        }
        // As one that was cut off before it had the mark.
        ip(&format!("link add {end} type veth peer name half"));
        site.container(std::slice::from_ref(&web));
        assert!(!link_exists("half"));
    });
}

#[test]
fn what_something_else_made_is_refused_and_left_alone() {
    on_site(|site| {
        let shop = spec(SHOP);
        ip("link add ek-shop type bridge");
        let before = everything(&[]);
        let Sight::Found { owned: false, .. } = site.observe("shop", &shop) else { panic!("not found as another's") };
        assert_eq!(site.view(&[("shop", &shop)], &[]).foreign_links, ["ek-shop".to_owned()].into());
        let error = site.wait(site.networks.ensure(&name("shop"), &shop)).expect_err("another's link");
        assert_eq!(error.to_string(), "there is a link ek-shop already that evenkeel did not make");
        site.wait(site.networks.remove(&name("shop"))).expect("nothing to do");
        // Forwarding was switched on before the link was looked at: nothing of links and routes changed.
        assert_eq!(everything(&[]), before);
        ip("link set ek-shop alias evenkeel-0123abcd:network/shop");
        let error = site.wait(site.networks.adopt(&name("shop"), &shop)).expect_err("another root's link");
        assert_eq!(
            error.to_string(),
            "link ek-shop belongs to evenkeel-0123abcd:network/shop already: it cannot be adopted"
        );
        ip("link set ek-shop alias somebodys");
        site.wait(site.networks.adopt(&name("shop"), &shop)).expect("adopted");
        assert!(matches!(site.observe("shop", &shop), Sight::Found { owned: true, .. }));
    });
}

#[test]
fn nothing_is_left_after_removal() {
    on_site(|site| {
        let before = everything(&[]);
        let shop = spec(SHOP);
        site.ensure("shop", &shop);
        let path = site.container(&[site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24"])]);
        for _ in 0..2 {
            site.wait(site.networks.remove_namespace(&name("web"))).expect("removed");
            site.wait(site.networks.remove(&name("shop"))).expect("removed");
        }
        assert!(!path.exists() && !path.parent().expect("a directory").exists());
        assert_eq!(everything(&[]), before);
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(!mounts.contains("netns"), "{mounts}");
    });
}

#[test]
fn two_hundred_interfaces_are_made_side_by_side() {
    on_site(|site| {
        let shop = spec("{driver: bridge, subnets: [{subnet: 10.77.0.0/16}]}");
        site.ensure("shop", &shop);
        let start = std::time::Instant::now();
        let make = |number: usize| {
            let (networks, container) = (site.networks.clone(), format!("c{number}"));
            let address = format!("10.77.1.{number}/16");
            let endpoint = site.endpoint(&container, "shop", &shop, 0, &[&address]);
            async move {
                let endpoints = std::slice::from_ref(&endpoint);
                networks.join(&endpoint.container, endpoints).await.expect("a namespace with its interface");
            }
        };
        site.wait(async {
            let tasks: Vec<_> = (1..=200).map(|number| tokio::spawn(make(number))).collect();
            for task in tasks {
                task.await.expect("made");
            }
        });
        let made = start.elapsed();
        let names = (1..=200).map(|number| name(&format!("c{number}"))).collect();
        let all = site.wait(site.networks.observe_all_interfaces(&names));
        println!("200 made in {made:?}, observed in {:?}", start.elapsed() - made);
        assert!(all.values().all(|seen| matches!(seen, Ok(Some(list)) if list.len() == 1 && list[0].up)), "{all:?}");
        assert!(ping(Some(&site.sandbox.container_netns("c1")), "10.77.1.200"));
    });
}
