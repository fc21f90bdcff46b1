//! The table as one program listed it, kept in the run directory for the next.
//!
//! A listing takes a program to be started, and nothing else in a look at the host does. The kernel numbers the
//! transactions on its tables, so what was listed at a number holds for as long as that is the last one: it is the
//! kernel's word, said earlier. The numbers are those of one network namespace, which the kernel tells apart by a cookie.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use evenkeel_plan::ObservedFirewall;
use evenkeel_shim::fail_point;
use serde::{Deserialize, Serialize};

/// `SO_NETNS_COOKIE` of asm-generic/socket.h, since Linux 5.14.
const NETNS_COOKIE: libc::c_int = 71;

/// One listing with all that it depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::network) struct Kept {
    /// Of this release's reading.
    version: String,
    /// `/proc/sys/kernel/random/boot_id`: cookies begin anew with the kernel.
    boot: String,
    namespace: u64,
    generation: u32,
    /// `None` where there was no table.
    pub(super) observed: Option<ObservedFirewall>,
}

impl Kept {
    /// Takes a listing that was made at a generation of the calling thread's namespace; `None` where the kernel has no cookie.
    pub(super) fn of(generation: u32, observed: Option<ObservedFirewall>) -> Option<Kept> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = cookie().ok()?;
        Some(Kept { version: env!("CARGO_PKG_VERSION").to_owned(), boot, namespace, generation, observed })
    }

    /// Reads what was kept, where it is of this kernel, namespace and generation. Anything else is as good as nothing.
    pub(super) fn read(path: &Path, generation: u32) -> Option<Kept> {
        let kept: Kept = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let now = Kept::of(generation, None)?;
        let fits = (&kept.version, &kept.boot, kept.namespace, kept.generation)
            == (&now.version, &now.boot, now.namespace, now.generation);
        fits.then_some(kept)
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("new");
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fail_point!("firewall.keeping");
        fs::rename(temporary, path)
    }
}

/// Asks for the number of the calling thread's network namespace, which no other has until the next boot.
fn cookie() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of a number that outlives the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut length)
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_this_moment_is_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("firewall.json");
        assert_eq!(Kept::read(&path, 7), None);
        let observed = ObservedFirewall { bridges: ["br0".to_owned()].into(), ..ObservedFirewall::default() };
        let Some(kept) = Kept::of(7, Some(observed)) else {
            return assert!(cookie().is_err(), "the kernel has cookies");
        };
        kept.write(&path).expect("a write");
        assert_eq!(Kept::read(&path, 7), Some(kept.clone()));
        assert_eq!(Kept::read(&path, 8), None, "another transaction");
        for other in [Kept { namespace: kept.namespace + 1, ..kept.clone() }, Kept { boot: "other".into(), ..kept }] {
            other.write(&path).expect("a write");
            assert_eq!(Kept::read(&path, 7), None);
        }
        fs::write(&path, "{").expect("a write");
        assert_eq!(Kept::read(&path, 7), None);
    }
}
