//! Settings under `/proc/sys/net` of the namespace that the calling thread is in.
//!
//! Which of them are to have which value is not decided here, except for what has to go together.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use evenkeel_shim::fail_point;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::NetworkError;

/// Reads a setting; `None` where this kernel has none of that name, as without IPv6.
pub(super) fn read(name: &str) -> Result<Option<String>, NetworkError> {
    let path = path(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NetworkError::Sysctl { path, source }),
    }
}

/// Writes a setting where it is not so already. One that this kernel does not have is left out.
pub(super) fn write(name: &str, value: &str) -> Result<(), NetworkError> {
    match read(name)? {
        Some(current) if !same(&current, value) => {
            let path = path(name);
            fs::write(&path, value).map_err(|source| NetworkError::Sysctl { path, source })?;
            fail_point!("sysctl.written");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Writes settings of one directory, without looking first: for a namespace that is known to be new.
///
/// Each lookup in `/proc/sys/net` passes over the entries of all namespaces that have one of the name, so that it is made once.
pub(super) fn set_all(directory: &str, values: &[(&str, &str)]) -> Result<(), NetworkError> {
    let path = path(directory);
    let failed = |name: &str| {
        let path = path.join(name);
        move |errno: rustix::io::Errno| NetworkError::Sysctl { path, source: errno.into() }
    };
    let open = |at: BorrowedFd<'_>, path: &Path, flags| match openat(at, path, flags | OFlags::CLOEXEC, Mode::empty()) {
        // This kernel does not have it.
        Err(rustix::io::Errno::NOENT) => Ok(None),
        opened => opened.map(Some),
    };
    let Some(opened) = open(CWD, &path, OFlags::PATH | OFlags::DIRECTORY).map_err(failed(""))? else { return Ok(()) };
    for (name, value) in values {
        let Some(file) = open(opened.as_fd(), name.as_ref(), OFlags::WRONLY).map_err(failed(name))? else { continue };
        rustix::io::write(&file, value.as_bytes()).map_err(failed(name))?;
        fail_point!("namespace.setting.written");
    }
    Ok(())
}

/// Tells whether the host forwards between its links: IPv4, IPv6.
pub(super) fn forwarding() -> Result<(bool, bool), NetworkError> {
    let on = |name| Ok(read(name)?.is_some_and(|value| value != "0"));
    Ok((on("ipv4/ip_forward")?, on("ipv6/conf/all/forwarding")?))
}

/// Tells whether bridged frames pass the firewall as packets do (bridge netfilter).
///
/// Then a container's packet to its own published port is turned around by the bridge, below the host's routing, and
/// the bridge sends nothing back through the port that it came from unless that is allowed.
pub(super) fn bridges_filter() -> Result<bool, NetworkError> {
    let on = |name| Ok::<_, NetworkError>(read(name)?.is_some_and(|value| value != "0"));
    Ok(on("bridge/bridge-nf-call-iptables")? || on("bridge/bridge-nf-call-ip6tables")?)
}

/// Makes the host forward IPv6 and still take its own addresses and routes from routers where it does now.
///
/// A forwarding host ignores router advertisements unless `accept_ra` is 2 (ip-sysctl), so a host that has its default
/// route from one would lose it.
pub(super) fn forward_v6() -> Result<(), NetworkError> {
    if forwarding()?.1 {
        return Ok(());
    }
    let directory = path("ipv6/conf");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(NetworkError::Sysctl { path: directory, source }),
    };
    for entry in entries.filter_map(Result::ok) {
        let link = entry.file_name();
        // `all` is nobody's own value, and what is made later decides for itself.
        let Some(link) = link.to_str().filter(|link| !matches!(*link, "all" | "default" | "lo")) else { continue };
        let name = format!("ipv6/conf/{link}/accept_ra");
        if read(&name)?.as_deref() == Some("1") {
            write(&name, "2")?;
        }
    }
    write("ipv6/conf/all/forwarding", "1")
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}

/// Compares word by word: the kernel separates several values by tabs.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}
