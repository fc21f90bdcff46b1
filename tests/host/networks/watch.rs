//! The kernel's word that something changed, for what concerns us and for nothing else.

use std::process::Command;
use std::time::Duration;

use evenkeel_host::network::Hint;
use evenkeel_plan::Firewall;
use evenkeel_tests::{eventually, run};
use tokio::sync::mpsc::Receiver;

use super::{Site, ip, on_site, spec};

/// Gathers hints until none has come for a while.
fn hints(site: &Site, receiver: &mut Receiver<Hint>) -> Vec<Hint> {
    let mut all = Vec::new();
    site.wait(async {
        while let Ok(Some(hint)) = tokio::time::timeout(Duration::from_millis(300), receiver.recv()).await {
            all.push(hint);
        }
    });
    all.sort();
    all.dedup();
    all
}

/// Waits for a hint that has to come.
#[track_caller]
fn hinted(site: &Site, receiver: &mut Receiver<Hint>, wanted: Hint) {
    let mut all = Vec::new();
    eventually(&format!("the hint {wanted:?}"), || {
        all.extend(hints(site, receiver));
        if all.contains(&wanted) { Ok(()) } else { Err(format!("{all:?}")) }
    });
}

#[test]
fn changes_are_told_as_what_they_are() {
    on_site(|site| {
        let shop = spec("{driver: bridge, subnets: [{subnet: 10.77.0.0/24}]}");
        let endpoint = site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24"]);
        site.ensure("shop", &shop);
        let web = site.container(std::slice::from_ref(&endpoint));
        site.wait(site.networks.apply_firewall(&Firewall::default())).expect("no table");
        let mut receiver = site.wait(async { site.networks.watch() }).expect("a watch");
        // Link-local addresses take a moment to settle.
        eventually("silence", || if hints(site, &mut receiver).is_empty() { Ok(()) } else { Err("hints".to_owned()) });

        // What is as it should be is not touched.
        site.ensure("shop", &shop);
        site.container(std::slice::from_ref(&endpoint));
        assert_eq!(hints(site, &mut receiver), []);

        ip("addr add 10.99.0.1/32 dev lo");
        hinted(site, &mut receiver, Hint::Address);
        ip("route add 10.98.0.0/24 dev ek-shop");
        hinted(site, &mut receiver, Hint::Route);
        ip("link set ek-shop down");
        hinted(site, &mut receiver, Hint::Link);
        site.ensure("shop", &shop);
        hints(site, &mut receiver);

        let table = site.sandbox.instance().as_str().to_owned();
        run(Command::new("nft").args(["add", "table", "inet", "somebodys"])).expect_code(0);
        assert!(!hints(site, &mut receiver).contains(&Hint::Firewall), "of another's table");
        run(Command::new("nft").args(["add", "table", "inet", &table])).expect_code(0);
        hinted(site, &mut receiver, Hint::Firewall);

        // A change inside a container is told too.
        evenkeel_tests::program::run_in(&web, &["ip", "addr", "del", "10.77.0.2/24", "dev", "eth0"]).expect_code(0);
        hinted(site, &mut receiver, Hint::Address);
    });
}

#[test]
fn more_changes_than_fit_are_an_overrun() {
    on_site(|site| {
        let mut receiver = site.wait(async { site.networks.watch() }).expect("a watch");
        let batch: String =
            (0..20_000).map(|n| format!("route add 10.{}.{}.0/24 dev lo\n", n / 250, n % 250)).collect();
        let file = site.sandbox.directory().join("batch");
        std::fs::write(&file, batch).expect("a batch");
        run(Command::new("ip").arg("-batch").arg(&file)).expect_code(0);
        hinted(site, &mut receiver, Hint::Overrun);
        // It goes on after that.
        ip("link add late type bridge");
        hinted(site, &mut receiver, Hint::Link);
    });
}
