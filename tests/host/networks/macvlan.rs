//! Macvlan networks with the host's shim, on one end of a veth pair as a network card.

use evenkeel_plan::Sight;
use evenkeel_tests::ask::{addresses, addresses_in, link_exists, ping, routes};
use evenkeel_tests::run;

use super::{everything, ip, name, net, on_site, spec, without_index};

const MYNET: &str = "{driver: macvlan, parent: ens34, subnets: [{subnet: 10.0.36.0/24, gateway: 10.0.36.254, \
                     ipRange: 10.0.36.192/27, auxAddresses: {host: 10.0.36.223}}], shim: {address: host}}";

#[test]
fn the_host_reaches_macvlan_containers_through_the_shim_and_back() {
    on_site(|site| {
        let lan = site.sandbox.wire("ens34");
        run(std::process::Command::new("ip").args("-n lan addr add 10.0.36.254/24 dev ens34-peer".split(' ')))
            .expect_code(0);
        let mynet = spec(MYNET);
        site.ensure("mynet", &mynet);
        let db = site.container(&[site.endpoint("db", "mynet", &mynet, 0, &["10.0.36.200/24"])]);
        assert_eq!(addresses("mynet-shim"), ["10.0.36.223/32"]);
        assert_eq!(routes("mynet-shim"), ["10.0.36.192/27"]);
        assert_eq!(addresses_in(&db, "eth0"), ["10.0.36.200/24"]);
        assert!(ping(None, "10.0.36.200"), "the host does not reach the container");
        assert!(ping(Some(&db), "10.0.36.223"), "the container does not reach the host");
        assert!(ping(Some(&db), "10.0.36.254"), "the container does not reach its gateway");
        assert!(ping(Some(&lan), "10.0.36.200"), "the gateway does not reach the container");

        let Sight::Found { observed, owned: true } = site.observe("mynet", &mynet) else { panic!("not ours") };
        let link = observed.link.expect("the shim");
        assert_eq!((link.kind.as_str(), link.macvlan_mode.as_deref()), ("macvlan", Some("bridge")));
        assert_eq!((link.parent.as_deref(), link.up), (Some("ens34"), true));
        assert_eq!(link.routes, [net("10.0.36.192/27")].into());
        assert_eq!(observed.parent.map(|parent| (parent.name, parent.up)), Some(("ens34".to_owned(), true)));
    });
}

#[test]
fn damage_to_the_shim_is_seen_and_repaired() {
    on_site(|site| {
        site.sandbox.wire("ens34");
        let mynet = spec(MYNET);
        site.ensure("mynet", &mynet);
        let db = site.endpoint("db", "mynet", &mynet, 0, &["10.0.36.200/24"]);
        site.container(std::slice::from_ref(&db));
        let look = || {
            let mut view = site.view(&[("mynet", &mynet)], &["mynet"]);
            without_index(view.networks.remove("mynet").expect("asked for"))
        };
        let whole = look();
        let damages = [
            "addr del 10.0.36.223/32 dev mynet-shim",
            "addr add 10.0.36.99/24 dev mynet-shim",
            "route del 10.0.36.192/27",
            "route add 10.99.0.0/16 dev mynet-shim",
            "link set mynet-shim down",
            "link del mynet-shim",
            "link set ens34 down",
        ];
        for damage in damages {
            ip(damage);
            assert_ne!(look(), whole, "`ip {damage}` was not seen");
            site.ensure("mynet", &mynet);
            site.container(std::slice::from_ref(&db));
            assert_eq!(look(), whole, "`ip {damage}` was not repaired");
            assert!(ping(None, "10.0.36.200"), "after `ip {damage}` the host does not reach the container");
        }
        // A shim of another mode or on another parent cannot be repaired in place.
        ip("link del mynet-shim");
        ip("link add mynet-shim link ens34 type macvlan mode private");
        let mark = format!("link set mynet-shim alias {}:network/mynet", site.sandbox.instance().as_str());
        ip(&mark);
        assert_ne!(look(), whole);
        site.ensure("mynet", &mynet);
        assert_eq!(look(), whole);
    });
}

#[test]
fn a_second_ensure_changes_nothing() {
    on_site(|site| {
        site.sandbox.wire("ens34");
        let mynet = spec(MYNET);
        site.ensure("mynet", &mynet);
        let endpoint = site.endpoint("db", "mynet", &mynet, 0, &["10.0.36.200/24"]);
        let path = site.container(std::slice::from_ref(&endpoint));
        let before = everything(&[&path]);
        site.ensure("mynet", &mynet);
        site.container(std::slice::from_ref(&endpoint));
        assert_eq!(everything(&[&path]), before);
    });
}

#[test]
fn a_missing_parent_is_named() {
    on_site(|site| {
        let mynet = spec(MYNET);
        assert_eq!(site.observe("mynet", &mynet), Sight::Absent);
        let error = site.wait(site.networks.ensure(&name("mynet"), &mynet)).expect_err("no parent");
        assert_eq!(error.to_string(), "the parent link ens34 of network mynet does not exist");
    });
}

#[test]
fn without_a_shim_only_the_ledger_knows_the_network() {
    on_site(|site| {
        site.sandbox.wire("ens34");
        let plain = spec("{driver: macvlan, parent: ens34, subnets: [{subnet: 10.0.36.0/24}]}");
        site.ensure("plain", &plain);
        assert_eq!(site.observe("plain", &plain), Sight::Absent);
        let mut view = site.view(&[("plain", &plain)], &["plain"]);
        let Some(Sight::Found { observed, owned: true }) = view.networks.remove("plain") else { panic!("not ours") };
        assert_eq!(observed.link, None);
        assert_eq!(observed.parent.map(|parent| parent.name), Some("ens34".to_owned()));
    });
}

#[test]
fn the_whole_subnet_through_the_shim_goes_before_the_parents_own_route() {
    on_site(|site| {
        site.sandbox.wire("ens34");
        ip("addr add 10.0.36.10/24 dev ens34");
        ip("-6 addr add fd36::10/64 dev ens34 nodad");
        let mynet = spec(
            "{driver: macvlan, parent: ens34, subnets: [{subnet: 10.0.36.0/24}, {subnet: 'fd36::/64'}], \
             shim: {address: 10.0.36.223}}",
        );
        let wide = spec(
            "{driver: macvlan, parent: ens34, subnets: [{subnet: 10.0.36.0/24}, {subnet: 'fd36::/64'}], \
             shim: {address: 'fd36::223'}}",
        );
        site.ensure("mynet", &mynet);
        site.ensure("wide", &wide);
        site.container(&[site.endpoint("db", "mynet", &mynet, 0, &["10.0.36.200/24", "fd36::200/64"])]);
        assert!(ping(None, "10.0.36.200"), "the host does not reach the container");
        assert!(ping(None, "fd36::200"), "the host does not reach the container by IPv6");
        site.ensure("mynet", &mynet);
        assert_eq!(routes("mynet-shim"), ["10.0.36.0/24"]);
        assert_eq!(routes("wide-shim"), [""; 0], "a route of the family that the shim has no address of");
        let foreign = site.view(&[("mynet", &mynet)], &[]).host_routes;
        assert!(foreign.contains(&(net("10.0.36.0/24"), "ens34".to_owned())), "{foreign:?}");
        assert!(foreign.iter().all(|(_, link)| link == "ens34"), "{foreign:?}");
        site.wait(site.networks.remove(&name("mynet"))).expect("removed");
        assert!(!link_exists("mynet-shim"));
        assert_eq!(routes("ens34"), ["10.0.36.0/24"]);
    });
}
