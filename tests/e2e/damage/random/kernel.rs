//! Whether the kernel bears out that everything is as wanted, the program not asked.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use evenkeel_tests::{Sandbox, ask, store};
use serde_json::Value;

use super::wanted::{Container, Network, Wanted};
use crate::story;

/// Compares; the error says what is otherwise.
pub fn agrees(sandbox: &Sandbox, wanted: &Wanted) -> Result<(), String> {
    for (name, network) in &wanted.networks {
        network_agrees(sandbox, name, network)?;
    }
    for (name, volume) in &wanted.volumes {
        let path = sandbox.paths().volume(&name.parse().expect("a name"));
        let found = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mode = u32::from_str_radix(volume.mode, 8).expect("octal digits");
        let owner = u32::try_from(volume.owner).expect("a small number");
        equal(
            &format!("{name}: owner, group, mode"),
            &(owner, owner, mode),
            &(found.uid(), found.gid(), found.mode() & 0o7777),
        )?;
    }
    for (name, container) in &wanted.containers {
        container_agrees(sandbox, wanted, name, container)?;
    }
    nothing_more(sandbox, wanted)?;
    let faults = store::faults(&sandbox.paths());
    if faults.is_empty() { Ok(()) } else { Err(format!("the image store is not sound: {}", faults.join("; "))) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, found: &T) -> Result<(), String> {
    if wanted == found { Ok(()) } else { Err(format!("{what}: wanted {wanted:?}, found {found:?}")) }
}

fn network_agrees(sandbox: &Sandbox, name: &str, network: &Network) -> Result<(), String> {
    let (link, number) = (network.link(name), network.number);
    let found = &ask::ip_json(&["-d", "link", "show", "dev", &link])[0];
    let mark = format!("{}:network/{name}", sandbox.instance().as_str());
    equal(&format!("{link}: mark"), &Some(mark.as_str()), &found["ifalias"].as_str())?;
    let flags = found["flags"].as_array().into_iter().flatten();
    equal(&format!("{link}: up"), &true, &flags.clone().any(|flag| flag == "UP"))?;
    if let Some(mtu) = network.mtu {
        equal(&format!("{link}: mtu"), &Some(mtu), &found["mtu"].as_u64())?;
    }
    let (mut addresses, mut routes) = if network.bridge {
        (vec![format!("10.{number}.0.1/24")], vec![format!("10.{number}.0.0/24")])
    } else {
        (vec![format!("10.{number}.0.223/32")], vec![format!("10.{number}.0.192/27")])
    };
    let mut found = ask::routes(&link);
    // What a manifest says nothing of, as other routes over a bridge, is somebody else's.
    found.retain(|route| !network.bridge || routes.contains(route));
    equal(&format!("{link}: routes"), &routes, &found)?;
    if network.ipv6 {
        addresses.push(format!("fd{number}::1/64"));
        routes = vec![format!("fd{number}::/64")];
        let six = ask::ip_json(&["-6", "route", "show", "dev", &link]);
        let six = six.as_array().into_iter().flatten().filter_map(|route| route["dst"].as_str());
        let six: Vec<String> = six.filter(|route| !route.starts_with("fe80")).map(str::to_owned).collect();
        equal(&format!("{link}: IPv6 routes"), &routes, &six)?;
    }
    equal(&format!("{link}: addresses"), &addresses, &ask::addresses(&link))
}

fn container_agrees(sandbox: &Sandbox, wanted: &Wanted, name: &str, container: &Container) -> Result<(), String> {
    let (pid, _) = story::running(sandbox, name);
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let read = |file: &str| fs::read_to_string(proc.join(file)).map_err(|error| format!("{name}: {file}: {error}"));
    let environment: BTreeSet<String> = read("environ")?.split('\0').map(str::to_owned).collect();
    equal(&format!("{name}: env"), &true, &environment.contains(&format!("WORD={}", container.word)))?;
    equal(&format!("{name}: image"), &(container.image == "other"), &environment.contains("OTHER=1"))?;
    equal(&format!("{name}: command"), &"httpd", &read("cmdline")?.split('\0').next().unwrap_or_default())?;
    let place = |path: &Path| {
        let found = fs::metadata(path).map_err(|error| format!("{name}: {}: {error}", path.display()))?;
        Ok::<_, String>((found.dev(), found.ino()))
    };
    for volume in &container.volumes {
        let path = sandbox.paths().volume(&volume.parse().expect("a name"));
        equal(
            &format!("{name}: the directory at /{volume}"),
            &place(&path)?,
            &place(&proc.join("root").join(volume))?,
        )?;
    }
    let netns = sandbox.container_netns(name);
    equal(&format!("{name}: its network namespace"), &place(&netns)?, &place(&proc.join("ns/net"))?)?;

    let instance = sandbox.instance();
    let limit = |v2: &str, v1: &str| fs::read_to_string(ask::cgroup_file(instance.as_str(), name, v2, v1));
    let limit =
        |v2: &str, v1: &str| limit(v2, v1).map(|text| text.trim().to_owned()).map_err(|error| error.to_string());
    if let Some(memory) = container.memory {
        let bytes = (memory << 20).to_string();
        equal(&format!("{name}: memory"), &bytes, &limit("memory.max", "memory.limit_in_bytes")?)?;
    }
    let pids = container.pids.map_or_else(|| "max".to_owned(), |pids| pids.to_string());
    equal(&format!("{name}: pids"), &pids, &limit("pids.max", "pids.max")?)?;
    let cpus = limit("cpu.max", "cpu.cfs_quota_us")?;
    let limited = !cpus.starts_with("max") && cpus != "-1";
    equal(&format!("{name}: cpus ({cpus})"), &container.cpus, &limited)?;

    for (place, network) in container.networks.iter().enumerate() {
        let (interface, number) = (format!("eth{place}"), wanted.networks[network].number);
        let addresses = ask::addresses_in(&netns, &interface);
        let four = addresses.iter().find(|address| address.starts_with(&format!("10.{number}.0.")));
        let Some(four) = four else { return Err(format!("{name}: {interface} has {addresses:?}")) };
        let four = four.trim_end_matches("/24");
        if place == 0 && container.fixed {
            equal(&format!("{name}: address"), &format!("10.{number}.0.{}", 200 + container.number).as_str(), &four)?;
        }
        equal(
            &format!("{name}: addresses of {interface}"),
            &(1 + usize::from(wanted.networks[network].ipv6)),
            &addresses.len(),
        )?;
        served(&format!("http://{four}/"))?;
    }
    match container.port {
        Some(port) => served(&format!("http://127.0.0.1:{port}/")),
        None => Ok(()),
    }
}

/// Gets the page; a server that was just started may need a moment.
fn served(url: &str) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..5 {
        let answer = ask::wget(None, url);
        if answer.stdout == "hello\n" {
            return Ok(());
        }
        last = answer.to_string();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err(format!("no page from {url}: {last}"))
}

/// Looks for links, processes, shims, namespaces and ports that nothing wants.
fn nothing_more(sandbox: &Sandbox, wanted: &Wanted) -> Result<(), String> {
    let bridged =
        |container: &Container| container.networks.iter().filter(|name| wanted.networks[*name].bridge).count();
    let ends: usize = wanted.containers.values().map(bridged).sum();
    let links = ask::ip_json(&["link"]);
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    let ours: Vec<&str> = names.filter(|name| !["lo", "parent0"].contains(name)).collect();
    equal(&format!("links {ours:?}"), &(wanted.networks.len() + ends), &ours.len())?;

    let comm = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    let count = |program: &str| {
        let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let living = pids.filter(|pid| ask::start_time(*pid).is_some() && comm(*pid) == program);
        // A server has a child of its own for each page that it serves.
        let parent = |pid: u32| evenkeel_shim::process::stat(pid).map(|stat| comm(stat.parent));
        living.filter(|pid| parent(*pid).is_some_and(|parent| parent != program)).count()
    };
    equal("servers", &wanted.containers.len(), &count("httpd"))?;
    equal("shims", &wanted.containers.len(), &count("evenkeel-shim"))?;
    for (what, path) in [
        ("state directories", sandbox.paths().root().join("containers")),
        ("run directories", sandbox.paths().run().join("containers")),
        ("network namespaces", sandbox.paths().network_namespaces()),
    ] {
        let found = fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok);
        let found: BTreeSet<String> = found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        equal(what, &wanted.containers.keys().cloned().collect(), &found)?;
    }
    let table = ask::nft_table(sandbox.instance().as_str());
    let text = table.map(|table: Value| table.to_string()).unwrap_or_default();
    for number in 0..8 {
        let name = format!("c{number}");
        for port in [8000 + number, 8100 + number, 8200 + number, 8300 + number] {
            let published = wanted.containers.get(&name).and_then(|container| container.port) == Some(port);
            equal(&format!("port {port} in the table"), &published, &text.contains(&format!("{port}")))?;
        }
    }
    Ok(())
}
