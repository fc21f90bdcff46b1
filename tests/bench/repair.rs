//! From damage to repair by a running agent, as the kernel shows it.
//!
//! Damage is done by the commands a person would type. A poll of this process sees the thing gone, then whole again; the
//! time between the two is the figure, so the start of the damaging command is not in it.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_tests::{Sandbox, eventually};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// How often each kind of damage is done.
const TIMES: usize = 100;
/// Between two looks of the poll.
const POLL: Duration = Duration::from_micros(100);
const LIMIT: Duration = Duration::from_secs(10);

const SHIM: &str = "lan-shim";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 223);
const ROUTE: [u8; 4] = [10, 87, 0, 192];

/// Prints median and 99th percentile of each kind of damage.
pub fn latency(sandbox: &Sandbox) {
    sandbox.wire("eth9");
    let page = "command: [httpd, -f, -p, \"80\", -h, /www]";
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    sandbox.manifest(
        "repair.yaml",
        &format!(
            "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {{name: lan}}\nspec:\n  driver: macvlan\n  \
             parent: eth9\n  subnets:\n    - {{subnet: 10.87.0.0/24, gateway: 10.87.0.254, ipRange: 10.87.0.192/27, \
             auxAddresses: {{host: {ADDRESS}}}}}\n  shim: {{address: host, routes: auto}}\n---\n\
             apiVersion: evenkeel/v1\nkind: Network\nmetadata: {{name: inside}}\nspec: {{driver: bridge, subnets: [{{subnet: 10.88.0.0/24}}]}}\n---\n\
             apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: web}}\nspec:\n  image: busybox\n  {page}\n  \
             networks: [{{name: lan}}]\n---\n\
             apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: shop}}\nspec:\n  image: busybox\n  {page}\n  \
             networks: [{{name: inside}}]\n  ports: [\"8087:80\"]\n",
        ),
    );
    let _agent = sandbox.agent(&[]);
    let table = Table::new(sandbox.instance().as_str());
    eventually("the agent's first pass", || {
        if address_is_there() && route_is_there() && table.is_there() { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let whole = || address_is_there() && route_is_there();
    println!("{:<44} {:>12} {:>12} {:>12}", "damage to repair", "median", "99th of 100", "largest");
    report("shim link deleted", &["ip", "link", "delete", SHIM], &whole);
    report("shim address removed", &["ip", "address", "delete", &format!("{ADDRESS}/32"), "dev", SHIM], &whole);
    report("shim route removed", &["ip", "route", "delete", "10.87.0.192/27", "dev", SHIM], &whole);
    let name = sandbox.instance().as_str().to_owned();
    report("nftables table deleted", &["nft", "delete", "table", "inet", &name], &|| table.is_there());
}

fn report(what: &str, damage: &[&str], is_whole: &dyn Fn() -> bool) {
    let mut times: Vec<Duration> = (0..TIMES).map(|_| repair(damage, is_whole)).collect();
    times.sort();
    let figure = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let (median, high) = (times[TIMES / 2], times[TIMES * 99 / 100 - 1]);
    println!("{what:<44} {:>12} {:>12} {:>12}", figure(median), figure(high), figure(times[TIMES - 1]));
}

/// Does the damage once and gives the time from its first sight to its last.
fn repair(damage: &[&str], is_whole: &dyn Fn() -> bool) -> Duration {
    // The agent has looked after its own repair before: each is a damage of its own.
    std::thread::sleep(Duration::from_millis(150));
    assert!(is_whole(), "whole before {damage:?}");
    let mut child = Command::new(damage[0]).args(&damage[1..]).spawn().expect("the damaging command");
    let limit = Instant::now() + LIMIT;
    let wait = |wanted: bool| {
        while is_whole() != wanted {
            assert!(Instant::now() < limit, "{damage:?} was not {}", if wanted { "repaired" } else { "seen" });
            std::thread::sleep(POLL);
        }
        Instant::now()
    };
    let gone = wait(false);
    let back = wait(true);
    assert!(child.wait().expect("its exit status").success(), "{damage:?}");
    back - gone
}

fn address_is_there() -> bool {
    let mut all = nix::ifaddrs::getifaddrs().expect("the addresses");
    all.any(|one| {
        let address = one.address.as_ref().and_then(|address| address.as_sockaddr_in()).map(|address| address.ip());
        one.interface_name == SHIM && address == Some(ADDRESS)
    })
}

fn route_is_there() -> bool {
    let text = std::fs::read_to_string("/proc/net/route").expect("the routes");
    let destination = format!("{:08X}", u32::from_ne_bytes(ROUTE));
    let mut lines = text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    lines.any(|fields| fields == [SHIM, destination.as_str()])
}

/// Asks nfnetlink whether the table is there: `nft` itself would take longer than the repair.
struct Table {
    socket: Socket,
    request: Vec<u8>,
}

impl Table {
    fn new(name: &str) -> Table {
        const NFT_MSG_GETTABLE: u16 = (10 << 8) | 1;
        const NLM_F_REQUEST: u16 = 1;
        const NFTA_TABLE_NAME: u16 = 1;
        let mut socket = Socket::new(NETLINK_NETFILTER).expect("a netlink socket");
        socket.bind_auto().expect("its address");
        let mut body = vec![1, 0, 0, 0]; // NFPROTO_INET, version, resource
        body.extend(u16::try_from(name.len() + 5).expect("a short name").to_ne_bytes());
        body.extend(NFTA_TABLE_NAME.to_ne_bytes());
        body.extend(name.as_bytes());
        body.resize((body.len() + 1).next_multiple_of(4), 0);
        let mut request = u32::try_from(body.len() + 16).expect("a short message").to_ne_bytes().to_vec();
        request.extend(NFT_MSG_GETTABLE.to_ne_bytes());
        request.extend(NLM_F_REQUEST.to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        Table { socket, request }
    }

    fn is_there(&self) -> bool {
        self.socket.send_to(&self.request, &SocketAddr::new(0, 0), 0).expect("a question");
        let mut answer = Vec::with_capacity(4096);
        self.socket.recv_from(&mut answer, 0).expect("an answer");
        // NLMSG_ERROR where there is none.
        u16::from_ne_bytes([answer[4], answer[5]]) != 2
    }
}
