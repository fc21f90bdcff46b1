//! The firewall table: who reaches what, what is seen of damage by hand, and that one pass repairs it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use evenkeel_host::network::port_conflicts;
use evenkeel_plan::{Firewall, FirewallNetwork, ObservedFirewall, PublishedPort, Sight, bridge_link};
use evenkeel_tests::program::run_in;
use evenkeel_tests::run;

use super::packets::{self, PATIENCE, SILENCE, ask, inside, serve};
use super::{Site, ip, name, on_site, spec};

/// A host at 192.168.9.1 and fd09::1 with four networks: `shop` and `back` with NAT, `vault` internal, `plain` routed.
struct Town {
    lan: PathBuf,
    web: PathBuf,
    db: PathBuf,
    back: PathBuf,
    vault: PathBuf,
    plain: PathBuf,
    firewall: Firewall,
}

impl Town {
    fn serve(&self) {
        let all = [(&self.web, "web"), (&self.db, "db"), (&self.back, "back"), (&self.vault, "vault")];
        for (path, name) in all.into_iter().chain([(&self.plain, "plain"), (&self.lan, "lan")]) {
            serve(Some(path), name, 80);
        }
    }
}

fn town(site: &Site) -> Town {
    let lan = site.sandbox.wire("ens34");
    ip("addr add 192.168.9.1/24 dev ens34");
    ip("-6 addr add fd09::1/64 dev ens34 nodad");
    for command in [
        "-n lan addr add 192.168.9.2/24 dev ens34-peer",
        "-n lan -6 addr add fd09::2/64 dev ens34-peer nodad",
        "-n lan route add 10.77.0.0/16 via 192.168.9.1",
        "-n lan -6 route add fd77::/48 via fd09::1",
    ] {
        ip(command);
    }
    let mut networks = Vec::new();
    let mut network = |name: &str, yaml: &str| {
        let spec = spec(yaml);
        site.ensure(name, &spec);
        networks.push(FirewallNetwork {
            network: super::name(name),
            bridge: bridge_link(&super::name(name), &spec),
            subnets: spec.subnets.iter().map(|subnet| subnet.subnet).collect(),
            nat: spec.nat && !spec.internal,
            internal: spec.internal,
        });
        spec
    };
    let shop = network("shop", "{driver: bridge, subnets: [{subnet: 10.77.0.0/24}, {subnet: 'fd77::/64'}]}");
    let back = network("back", "{driver: bridge, subnets: [{subnet: 10.77.1.0/24}, {subnet: 'fd77:0:0:1::/64'}]}");
    let vault = network("vault", "{driver: bridge, internal: true, subnets: [{subnet: 10.77.2.0/24}]}");
    let plain = network("plain", "{driver: bridge, nat: false, subnets: [{subnet: 10.77.3.0/24}]}");
    let web = site.container(&[site.endpoint("web", "shop", &shop, 0, &["10.77.0.2/24", "fd77::2/64"])]);
    let db = site.container(&[site.endpoint("db", "shop", &shop, 0, &["10.77.0.3/24", "fd77::3/64"])]);
    let back = site.container(&[site.endpoint("back", "back", &back, 0, &["10.77.1.2/24", "fd77:0:0:1::2/64"])]);
    let vault = site.container(&[site.endpoint("vault", "vault", &vault, 0, &["10.77.2.2/24"])]);
    let plain = site.container(&[site.endpoint("plain", "plain", &plain, 0, &["10.77.3.2/24"])]);
    let published = |container: &str, port: &str, target: &str| PublishedPort {
        container: name(container),
        port: port.parse().expect("a port"),
        target: target.parse().expect("an address"),
    };
    let both = |container: &str, port: &str, target: &str| {
        ["tcp", "udp"].map(|protocol| published(container, &format!("{port}/{protocol}"), target))
    };
    let ports: BTreeSet<PublishedPort> = [
        both("web", "8080:80", "10.77.0.2"),
        both("web", "8080:80", "fd77::2"),
        both("db", "127.0.0.1:5432:80", "10.77.0.3"),
        both("back", "192.168.9.1:9090:80", "10.77.1.2"),
        both("back", "[fd09::1]:9090:80", "fd77:0:0:1::2"),
        both("vault", "7070:80", "10.77.2.2"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let firewall = Firewall { networks, ports };
    site.wait(site.networks.apply_firewall(&firewall)).expect("applied");
    Town { lan, web, db, back, vault, plain, firewall }
}

#[track_caller]
fn reaches(netns: Option<&PathBuf>, server: &str, port: u16, says: &str) {
    let from = netns.map_or("the host".to_owned(), |path| path.display().to_string());
    match ask(netns.map(PathBuf::as_path), server, port, PATIENCE) {
        Ok(said) => assert_eq!(said, says, "{from} to {server} port {port}"),
        Err(error) => panic!("{from} does not reach {server} port {port}: {error}"),
    }
}

#[track_caller]
fn is_cut_off(netns: Option<&PathBuf>, server: &str, port: u16) {
    if let Ok(said) = ask(netns.map(PathBuf::as_path), server, port, SILENCE) {
        panic!("{netns:?} reaches {server} port {port}: {said}");
    }
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    on_site(|site| {
        let town = town(site);
        town.serve();
        // The host itself; containers answer its bridge.
        reaches(None, "127.0.0.1", 8080, "web sees 10.77.0.1");
        reaches(None, "127.0.0.1", 5432, "db sees 10.77.0.1");
        reaches(None, "192.168.9.1", 8080, "web sees 10.77.0.1");
        reaches(None, "192.168.9.1", 9090, "back sees 10.77.1.1");
        reaches(None, "fd09::1", 8080, "web sees fd77::1");
        reaches(None, "fd09::1", 9090, "back sees fd77:0:0:1::1");
        reaches(None, "127.0.0.1", 7070, "vault sees 10.77.2.1");
        // No kernel routes ::1 away from loopback; refused at once, clients go on to 127.0.0.1.
        let refused = ask(None, "::1", 8080, PATIENCE).expect_err("nobody listens there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // Outside, with its own address.
        reaches(Some(&town.lan), "192.168.9.1", 8080, "web sees 192.168.9.2");
        reaches(Some(&town.lan), "192.168.9.1", 9090, "back sees 192.168.9.2");
        reaches(Some(&town.lan), "fd09::1", 8080, "web sees fd09::2");
        reaches(Some(&town.lan), "fd09::1", 9090, "back sees fd09::2");
        // A container of another network, with its own address.
        reaches(Some(&town.back), "192.168.9.1", 8080, "web sees 10.77.1.2");
        reaches(Some(&town.back), "10.77.1.1", 8080, "web sees 10.77.1.2");
        reaches(Some(&town.back), "fd09::1", 8080, "web sees fd77:0:0:1::2");
        // A container of the same network, and the container itself, by way of the host.
        reaches(Some(&town.db), "192.168.9.1", 8080, "web sees 10.77.0.1");
        reaches(Some(&town.web), "192.168.9.1", 8080, "web sees 10.77.0.1");
        reaches(Some(&town.web), "10.77.0.1", 8080, "web sees 10.77.0.1");
        reaches(Some(&town.web), "fd09::1", 8080, "web sees fd77::1");
    });
}

#[test]
fn what_is_not_published_is_cut_off() {
    on_site(|site| {
        let town = town(site);
        town.serve();
        // Within a network nothing is in the way.
        reaches(Some(&town.db), "10.77.0.2", 80, "web sees 10.77.0.3");
        // One network to another, and outside to a container's own address although it knows the way.
        is_cut_off(Some(&town.back), "10.77.0.2", 80);
        is_cut_off(Some(&town.back), "fd77::2", 80);
        is_cut_off(Some(&town.lan), "10.77.0.2", 80);
        is_cut_off(Some(&town.lan), "fd77::2", 80);
        // A port of loopback, from outside and from a container.
        is_cut_off(Some(&town.lan), "192.168.9.1", 5432);
        is_cut_off(Some(&town.back), "192.168.9.1", 5432);
        // Out with NAT, and neither out of nor into an internal network.
        reaches(Some(&town.web), "192.168.9.2", 80, "lan sees 192.168.9.1");
        reaches(Some(&town.web), "fd09::2", 80, "lan sees fd09::1");
        is_cut_off(Some(&town.vault), "192.168.9.2", 80);
        is_cut_off(Some(&town.vault), "192.168.9.1", 8080);
        is_cut_off(Some(&town.lan), "192.168.9.1", 7070);
        is_cut_off(Some(&town.web), "10.77.0.1", 7070);
        // A network without NAT is routed to and from outside, and still not to other networks.
        reaches(Some(&town.plain), "192.168.9.2", 80, "lan sees 10.77.3.2");
        reaches(Some(&town.lan), "10.77.3.2", 80, "plain sees 192.168.9.2");
        is_cut_off(Some(&town.web), "10.77.3.2", 80);
        is_cut_off(Some(&town.plain), "10.77.0.2", 80);
    });
}

#[test]
fn nothing_gets_through_even_without_an_answer() {
    on_site(|site| {
        let town = town(site);
        let (lan, plain) = (town.lan.as_path(), town.plain.as_path());
        let may = packets::arrives(Some(lan), ("10.77.3.2", 99), Some(plain), 99, PATIENCE);
        assert!(may, "what may arrive does not");
        let arrives = |from: &PathBuf, to: (&str, u16), at: Option<&PathBuf>, port: u16| {
            packets::arrives(Some(from), to, at.map(PathBuf::as_path), port, SILENCE)
        };
        assert!(!arrives(&town.vault, ("192.168.9.2", 99), Some(&town.lan), 99), "out of an internal network");
        assert!(!arrives(&town.vault, ("10.77.3.2", 99), Some(&town.plain), 99), "out of an internal network");
        assert!(!arrives(&town.lan, ("10.77.2.2", 99), Some(&town.vault), 99), "into an internal network");
        assert!(!arrives(&town.lan, ("192.168.9.1", 7070), Some(&town.vault), 80), "into an internal network");
        assert!(!arrives(&town.web, ("10.77.3.2", 99), Some(&town.plain), 99), "from one network to another");
        assert!(!arrives(&town.plain, ("10.77.0.2", 99), Some(&town.web), 99), "from one network to another");

        // Someone who sends packets for 127.0.0.1 to the host's hardware address, as only a hand-made route does.
        for (path, gateway) in [(&town.lan, "192.168.9.1"), (&town.back, "10.77.1.1")] {
            for command in [
                "ip route del table local 127.0.0.1",
                "ip route del table local 127.0.0.0/8",
                &format!("ip route add 127.0.0.1 via {gateway}"),
            ] {
                run_in(path, &command.split(' ').collect::<Vec<_>>()).expect_code(0);
            }
            assert!(!arrives(path, ("127.0.0.1", 5432), Some(&town.db), 80), "a port of loopback, from {path:?}");
            assert!(!arrives(path, ("127.0.0.1", 99), None, 99), "the host's own loopback, from {path:?}");
        }
    });
}

#[test]
fn a_client_that_keeps_sending_follows_a_udp_port_to_its_new_container() {
    on_site(|site| {
        let mut town = town(site);
        town.serve();
        // One socket throughout, so one flow as long as it is remembered.
        let client = inside(Some(&town.lan), || std::net::UdpSocket::bind("0.0.0.0:4000").expect("a port"));
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let asks = || {
            client.send_to(b"?", "192.168.9.1:8080").expect("sent");
            let mut buffer = [0; 64];
            let length = client.recv(&mut buffer).expect("an answer");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(asks(), "web sees 192.168.9.2");
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied again");
        assert_eq!(asks(), "web sees 192.168.9.2");
        let move_to_db = |published: PublishedPort| match published.target.to_string().as_str() {
            "10.77.0.2" => PublishedPort { target: "10.77.0.3".parse().expect("an address"), ..published },
            _ => published,
        };
        town.firewall.ports = town.firewall.ports.into_iter().map(move_to_db).collect();
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied");
        assert_eq!(asks(), "db sees 192.168.9.2");
    });
}

fn observed(site: &Site) -> ObservedFirewall {
    match site.wait(site.networks.observe_firewall()) {
        Sight::Found { observed, owned: true } => observed,
        other => panic!("the table was not found as ours: {other:?}"),
    }
}

#[test]
fn the_table_is_read_back_as_it_was_written() {
    on_site(|site| {
        let town = town(site);
        let subnets = ["10.77.0.0/24", "10.77.1.0/24", "fd77::/64", "fd77:0:0:1::/64"];
        let homes = [
            ("10.77.0.0/24", "ek-shop"),
            ("10.77.1.0/24", "ek-back"),
            ("10.77.2.0/24", "ek-vault"),
            ("10.77.3.0/24", "ek-plain"),
            ("fd77::/64", "ek-shop"),
            ("fd77:0:0:1::/64", "ek-back"),
        ];
        let expected = ObservedFirewall {
            bridges: ["ek-back", "ek-plain", "ek-shop", "ek-vault"].map(str::to_owned).into(),
            subnets: homes.map(|(subnet, bridge)| (super::net(subnet), bridge.to_owned())).into(),
            nat: subnets.map(super::net).into(),
            internal: ["ek-vault".to_owned()].into(),
            ports: town.firewall.ports.iter().map(|port| (port.port, port.target)).collect(),
            damage: Vec::new(),
            foreign: Vec::new(),
        };
        assert_eq!(observed(site), expected);
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied again");
        assert_eq!(observed(site), expected);
        site.wait(site.networks.apply_firewall(&Firewall::default())).expect("removed");
        assert_eq!(site.wait(site.networks.observe_firewall()), Sight::Absent);
        assert_eq!(run(Command::new("nft").args(["list", "tables"])).expect_code(0).stdout, "");
    });
}

#[test]
fn damage_to_the_table_is_seen_and_repaired() {
    on_site(|site| {
        let town = town(site);
        town.serve();
        let whole = observed(site);
        let table = site.sandbox.instance().as_str().to_owned();
        // What is to be seen of each, as a part of what is observed in words.
        let damages = [
            ("delete element inet T published4 { tcp . 8080 }", ""),
            ("delete element inet T bridges { \"ek-back\" }", "set within has ek-back, which is not in set bridges"),
            ("delete element inet T within { \"ek-back\" . \"ek-back\" }", "set within lacks ek-back"),
            ("delete element inet T home4 { 10.77.3.0/24 . \"ek-plain\" }", ""),
            ("delete element inet T internal { \"ek-vault\" }", ""),
            ("delete element inet T nat4 { 10.77.0.0/24 }", ""),
            ("delete element inet T home4 { 10.77.2.0/24 . \"ek-vault\" }", ""),
            ("add element inet T published4 { tcp . 99 : 10.77.0.2 . 99 }", ""),
            ("flush chain inet T forward", "forward: rule \"keep networks apart\" is missing"),
            ("flush map inet T published6", ""),
            ("flush table inet T", "output: rule \"publish ports to the host itself\" is missing"),
            ("insert rule inet T forward ip saddr 10.77.0.2 accept", "forward: ip saddr 10.77.0.2 accept"),
            ("add chain inet T mine", "chain mine"),
            ("add set inet T mine { type ipv4_addr; }", "set mine"),
            ("add counter inet T mine", "counter mine"),
            ("add chain inet T forward { policy drop; }", "chain forward is altered"),
        ];
        for (damage, seen) in damages {
            run(Command::new("nft").arg(damage.replacen(" T", &format!(" {table}"), 1))).expect_code(0);
            let found = observed(site);
            assert_ne!(found, whole, "`{damage}` was not seen");
            let words = [found.damage.clone(), found.foreign.clone()].concat();
            assert!(seen.is_empty() == words.is_empty(), "`{damage}`: {words:?}");
            assert!(seen.is_empty() || words.iter().any(|word| word == seen), "`{damage}`: {words:?}");
            site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied");
            assert_eq!(observed(site), whole, "`{damage}` was not repaired");
        }
        run(Command::new("nft").args(["delete", "table", "inet", &table])).expect_code(0);
        assert_eq!(site.wait(site.networks.observe_firewall()), Sight::Absent);
        is_cut_off(None, "127.0.0.1", 8080);
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied");
        reaches(None, "127.0.0.1", 8080, "web sees 10.77.0.1");
        // A rule of ours that was replaced keeps its name and not its sense.
        let listing = run(Command::new("nft").args(["-a", "list", "chain", "inet", &table, "forward"])).expect_code(0);
        let line =
            listing.stdout.lines().find(|line| line.contains("keep networks apart")).expect("the rule").to_owned();
        let handle = line.rsplit(' ').next().expect("its handle");
        let replacement = format!(
            "replace rule inet {table} forward handle {handle} iifname @bridges accept comment \"keep networks apart\""
        );
        run(Command::new("nft").arg(replacement)).expect_code(0);
        assert_eq!(observed(site).damage, ["forward: rule \"keep networks apart\" is altered"]);
    });
}

#[test]
fn a_table_that_cannot_be_read_is_not_absent() {
    on_site(|site| {
        let empty = site.sandbox.directory().join("empty");
        std::fs::create_dir(&empty).expect("a directory");
        // SAFETY: no other thread of this test reads the environment.
        unsafe { std::env::set_var("PATH", &empty) };
        let sight = site.wait(site.networks.observe_firewall());
        let table = site.sandbox.instance().as_str().to_owned();
        let why = format!("there is no program `nft` along PATH, which table inet {table} needs: install nftables");
        assert_eq!(sight, Sight::Unreadable(why));
    });
}

/// Puts a program in the place of `nft` that notes how it was called and then is `nft`; gives where it notes that.
fn noting_nft(site: &Site) -> PathBuf {
    let (directory, calls) = (site.sandbox.directory().join("noting"), site.sandbox.directory().join("calls"));
    std::fs::create_dir(&directory).expect("a directory");
    let nft = run(Command::new("sh").args(["-c", "command -v nft"])).expect_code(0);
    let script = format!("#!/bin/sh\necho \"$@\" >>{}\nexec {} \"$@\"\n", calls.display(), nft.stdout.trim());
    std::fs::write(directory.join("nft"), script).expect("a program");
    std::fs::set_permissions(directory.join("nft"), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let path = std::env::var("PATH").expect("a search path");
    // SAFETY: no other thread of this test reads the environment at this moment.
    unsafe { std::env::set_var("PATH", format!("{}:{path}", directory.display())) };
    calls
}

#[test]
fn a_table_that_was_loaded_as_it_was_listed_is_not_listed_again() {
    on_site(|site| {
        let town = town(site);
        let whole = observed(site);
        let calls = noting_nft(site);
        let called = |such: &str| {
            let text = std::fs::read_to_string(&calls).unwrap_or_default();
            text.lines().filter(|line| line.split(' ').any(|word| word == such)).count()
        };
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied");
        assert_eq!(observed(site), whole);
        assert_eq!((called("-f"), called("list")), (1, 0), "loaded anew");
        let table = site.sandbox.instance().as_str().to_owned();
        run(Command::new("nft").args(["delete", "table", "inet", &table])).expect_code(0);
        assert_eq!(site.wait(site.networks.observe_firewall()), Sight::Absent);
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied");
        assert_eq!(observed(site), whole);
        assert_eq!((called("-f"), called("list")), (2, 0), "made again where it was gone");

        // What is not known to be there is listed: somebody else's change, and other ports than before.
        run(Command::new("nft").args(["add", "chain", "inet", &table, "mine"])).expect_code(0);
        assert_eq!(observed(site).foreign, ["chain mine"]);
        let listings = called("list");
        assert!(listings > 0);
        let fewer = Firewall { ports: BTreeSet::new(), ..town.firewall };
        site.wait(site.networks.apply_firewall(&fewer)).expect("applied");
        assert!(observed(site).ports.is_empty());
        assert!(called("list") > listings);
    });
}

#[test]
fn a_thousand_ports_are_one_lookup() {
    on_site(|site| {
        let mut town = town(site);
        let port = |number: u16| PublishedPort {
            container: name("web"),
            port: format!("{}:80", 10_000 + number).parse().expect("a port"),
            target: "10.77.0.2".parse().expect("an address"),
        };
        town.firewall.ports.extend((0..1000).map(port));
        let start = std::time::Instant::now();
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied");
        let applied = start.elapsed();
        let ports = observed(site).ports.len();
        println!("1000 ports applied in {applied:?}, read in {:?}", start.elapsed() - applied);
        assert_eq!(ports, 1012);
        let table = site.sandbox.instance().as_str().to_owned();
        let listing = run(Command::new("nft").args(["list", "chain", "inet", &table, "publish"])).expect_code(0);
        assert_eq!(listing.stdout.matches("dnat").count(), 4, "{listing}");
    });
}

#[test]
fn a_port_that_a_program_of_the_host_has_is_told_with_its_name() {
    on_site(|site| {
        let town = town(site);
        assert_eq!(port_conflicts(&town.firewall), []);
        let listener = inside(None, || std::net::TcpListener::bind("0.0.0.0:8080").expect("a port"));
        let other = inside(None, || std::net::UdpSocket::bind("192.168.9.1:5432").expect("a port"));
        let conflicts = port_conflicts(&town.firewall);
        let [conflict] = conflicts.as_slice() else { panic!("one conflict was expected: {conflicts:?}") };
        assert_eq!((conflict.port.to_string().as_str(), conflict.container.as_str()), ("8080:80/tcp", "web"));
        let (program, pid) = conflict.program.clone().expect("the program");
        assert_eq!(pid, std::process::id());
        assert!(!program.is_empty());
        drop((listener, other));
        assert_eq!(port_conflicts(&town.firewall), []);
    });
}

#[test]
fn the_program_that_loads_is_ready_where_the_table_is_gone_and_does_not_stay() {
    on_site(|site| {
        let town = town(site);
        let table = site.sandbox.instance().as_str().to_owned();
        let ready = |expected: usize| {
            site.wait(async { site.networks.ready_firewall() });
            assert_eq!(loaders(), expected);
        };
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied");
        let whole = observed(site);
        // The table is there: nothing is to be loaded.
        ready(0);
        run(Command::new("nft").args(["delete", "table", "inet", &table])).expect_code(0);
        ready(1);
        site.wait(site.networks.apply_firewall(&town.firewall)).expect("applied");
        assert_eq!(observed(site), whole);
        assert_eq!(loaders(), 0);

        run(Command::new("nft").args(["delete", "table", "inet", &table])).expect_code(0);
        ready(1);
        site.wait(site.networks.unready_firewall());
        assert_eq!(loaders(), 0);
        assert_eq!(site.wait(site.networks.observe_firewall()), Sight::Absent);
    });
}

/// Counts the running `nft` of this process.
fn loaders() -> usize {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    // proc_pid_stat(5): the name in parentheses, the state, the parent.
    let is_loader = |stat: &String| {
        let (front, fields) = stat.rsplit_once(')').unwrap_or_default();
        front.ends_with("(nft") && fields.split_whitespace().nth(1) == Some(own.as_str())
    };
    stats.filter(is_loader).count()
}
