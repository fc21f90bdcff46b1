//! The files that every container gets from outside: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.
//!
//! They lie in the run directory and are bound into the container, so they are changed in place: a new file of the same
//! name would not be seen there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use evenkeel_plan::HostNames;
use evenkeel_schema::Dns;

/// The loopback lines, ours in every container and compared with nothing.
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                        ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
/// What follows is the host's own, for containers in the host's network.
const HOST_MARK: &str = "# The host's own:\n";
/// Where systemd-resolved keeps the servers that its loopback stub asks.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Writes a hosts file. `host` is the host's own, for a container in the host's network.
pub fn hosts(names: &HostNames, host: Option<&str>) -> String {
    let mut text = LOOPBACK.to_owned();
    for (address, names) in names.iter().filter(|(_, names)| !names.is_empty()) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        text += &format!("{address}\t{}\n", names.join(" "));
    }
    if let Some(host) = host {
        text += HOST_MARK;
        text += host;
    }
    text
}

/// Reads the names out of a hosts file of ours, without the loopback lines and without the host's own.
pub fn parse_hosts(text: &str) -> HostNames {
    let ours = text.split_once(HOST_MARK).map_or(text, |(ours, _)| ours);
    let mut names = HostNames::new();
    for line in ours.lines().filter(|line| !LOOPBACK.lines().any(|own| own == *line)) {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if let Some(address) = words.next().and_then(|word| word.parse().ok()) {
            names.entry(address).or_default().extend(words.map(str::to_owned));
        }
    }
    names
}

/// Writes a resolv.conf: what the manifest states, the host's for the rest.
///
/// In a network of its own a container does not reach the host's loopback servers: they are left out, as Docker does.
pub fn resolv_conf(dns: &Dns, host: &str, own_network: bool) -> String {
    let mut servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
    let mut search: Vec<String> = dns.search.clone();
    let mut rest = Vec::new();
    for line in host.lines() {
        let words: Vec<&str> = line.split(['#', ';']).next().unwrap_or_default().split_whitespace().collect();
        match words.as_slice() {
            ["nameserver", server] if dns.servers.is_empty() => {
                // An address may bear a zone, as fe80::1%eth0.
                let bare = server.split('%').next().unwrap_or_default();
                let loopback = bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
                if !(own_network && loopback) {
                    servers.push((*server).to_owned());
                }
            }
            ["search" | "domain", domains @ ..] if dns.search.is_empty() => {
                search = domains.iter().map(|domain| (*domain).to_owned()).collect();
            }
            ["options", options @ ..] => rest.push(format!("options {}\n", options.join(" "))),
            _ => {}
        }
    }
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    if !search.is_empty() {
        text += &format!("search {}\n", search.join(" "));
    }
    text + &rest.concat()
}

/// Reads the host's resolv.conf; behind systemd-resolved's stub, the one with the real servers.
pub fn host_resolv_conf(own_network: bool) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let host = read("/etc/resolv.conf");
    let has_server = |text: &str| resolv_conf(&Dns::default(), text, true).contains("nameserver");
    match own_network && !has_server(&host) {
        true => Some(read(RESOLVED)).filter(|text| has_server(text)).unwrap_or(host),
        false => host,
    }
}

/// Puts a text into a file in place; one that holds it already is not touched.
pub fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    // Never empty for a reader: first over the old text, then cut to length.
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests;
