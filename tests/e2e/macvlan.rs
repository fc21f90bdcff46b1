//! The story that evenkeel exists for: macvlan with the host's shim, from manifests to a page.

use evenkeel_tests::{ask, program, sandboxed};

use crate::story;

#[test]
fn manifests_become_a_page_over_the_shim() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.verb_on_manifests("plan", &["--detailed-exitcode"]).expect_code(2).says("web").says("mynet");
        assert!(!ask::link_exists("mynet-shim"), "a plan changes nothing");
        assert!(!sandbox.paths().root().exists(), "a plan writes nothing");

        sandbox.apply();
        assert_eq!(ask::addresses("mynet-shim"), ["10.0.36.223/32"]);
        assert_eq!(ask::routes("mynet-shim"), ["10.0.36.192/27"]);
        let shim = &ask::ip_json(&["-d", "link", "show", "dev", "mynet-shim"])[0];
        assert_eq!(shim["linkinfo"]["info_kind"], "macvlan");
        assert_eq!(shim["linkinfo"]["info_data"]["mode"], "bridge");
        assert_eq!(shim["link"], "parent0");
        assert_eq!(shim["ifalias"], format!("{}:network/mynet", sandbox.instance().as_str()));
        let web = sandbox.container_netns("web");
        assert_eq!(ask::addresses_in(&web, "eth0"), ["10.0.36.200/24"]);
        assert_eq!(ask::ip_json_in(&web, &["route", "show", "default"])[0]["gateway"], "10.0.36.254");

        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        assert!(ask::ping(None, "10.0.36.200"), "from the host over the shim");
        assert!(ask::ping(Some(&web), "10.0.36.223"), "from the container to the host's shim");
        program::sh("ip -n lan addr add 10.0.36.1/24 dev parent0-peer");
        assert!(ask::ping(Some(&sandbox.netns("lan")), "10.0.36.200"), "from a station of the lan");
    });
}

#[test]
fn a_second_apply_does_nothing() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let before = (story::running(sandbox, "web"), ask::ip_json(&["-d", "address"]));
        story::in_sync(sandbox);
        sandbox.apply();
        assert_eq!(before, (story::running(sandbox, "web"), ask::ip_json(&["-d", "address"])));
        story::in_sync(sandbox);
    });
}

#[test]
fn dynamic_addresses_come_from_the_range_and_stay() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        // A /29 with six usable addresses, of which one is the host's and one is stated by the other container.
        let network = story::MYNET.replace("10.0.36.192/27", "10.0.36.200/29").replace(".223", ".201");
        sandbox.manifest("network.yaml", &network);
        let dynamic = |name: &str| {
            story::WEB.replace("{name: web}", &format!("{{name: {name}}}")).replace(", ipv4: 10.0.36.200", "")
        };
        sandbox.manifest("more.yaml", &[dynamic("one"), dynamic("two")].join("---\n"));
        sandbox.apply();
        let address = |name: &str| ask::addresses_in(&sandbox.container_netns(name), "eth0");
        let (one, two) = (address("one"), address("two"));
        let free: Vec<Vec<String>> = (202..=207).map(|last| vec![format!("10.0.36.{last}/24")]).collect();
        assert!(free.contains(&one) && free.contains(&two) && one != two, "{one:?} {two:?}");
        assert_eq!(address("web"), ["10.0.36.200/24"]);

        // Another container does not move them, nor does a restart of the process.
        sandbox.manifest("third.yaml", &dynamic("a-first-by-name"));
        sandbox.apply();
        assert_eq!((address("one"), address("two")), (one, two));
    });
}
