//! Network namespaces of containers, pinned by a bind mount so that they outlive every process in them.
//!
//! A thread enters a namespace for one deed and ends: none stays inside, since it would keep the namespace alive. What
//! is to be in a namespace is `endpoint.rs`'s matter.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use evenkeel_schema::Name;
use evenkeel_shim::fail_point;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::fstatfs;

use super::inventory::Inventory;
use super::netlink::{self, Netlink};
use super::{NetworkError, sysctl};

/// The magic number of the file system that namespaces' files lie on (statfs(2)).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// The index of a new namespace's loopback, its first link.
const LOOPBACK: u32 = 1;

/// Settings of every new namespace: as Docker has them, and no address of a link that the manifest does not state, neither from a
/// router nor of the kernel's own (`IN6_ADDR_GEN_MODE_NONE`).
///
/// What a link sends for an address of its own reaches every port of its bridge: with a thousand of them that is a million packets.
const SETTINGS: [(&str, &[(&str, &str)]); 2] = [
    ("ipv4", &[("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")]),
    ("ipv6/conf/default", &[("accept_ra", "0"), ("addr_gen_mode", "1")]),
];

/// Guards the directory of pinned namespaces between "is it prepared" and "is something in it".
#[derive(Debug, Default)]
pub(super) struct PinLock(Mutex<()>);

/// Opens a pinned namespace; `None` where there is none: no file, or one that nothing is mounted on.
pub(super) fn open(path: &Path) -> Result<Option<File>, NetworkError> {
    let fail = |source| NetworkError::Namespace { deed: "open", path: path.to_owned(), source };
    let file = match File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(NetworkError::ForeignNamespace { path: path.to_owned() });
        }
        Err(error) => return Err(fail(error)),
    };
    let on = fstatfs(&file).map_err(|errno| fail(errno.into()))?;
    if on.filesystem_type().0 as i64 != NSFS_MAGIC {
        return Ok(None);
    }
    // Whatever is made in a container's namespace, and all that is removed with it, would be the host's.
    let own = fs::metadata("/proc/self/ns/net").map_err(fail)?;
    let found = file.metadata().map_err(fail)?;
    if (found.dev(), found.ino()) == (own.dev(), own.ino()) {
        return Err(NetworkError::ForeignNamespace { path: path.to_owned() });
    }
    Ok(Some(file))
}

/// An existing namespace with a connection to its rtnetlink.
#[derive(Debug)]
pub(super) struct Entered {
    pub path: PathBuf,
    pub namespace: File,
    pub netlink: Netlink,
    /// Just made: there is nothing in it but loopback.
    pub fresh: bool,
}

/// Connects to the rtnetlink of a namespace.
pub(super) async fn connect(path: &Path, namespace: &File) -> Result<Netlink, NetworkError> {
    let fail = |source| NetworkError::Namespace { deed: "connect to", path: path.to_owned(), source };
    let socket = inside(namespace, || (netlink::socket(), ())).await.and_then(|socket| socket).map_err(fail)?;
    Netlink::over(socket).map_err(fail)
}

/// Does one deed on a thread of its own inside a namespace. The second of what it gives is dropped there, after the
/// first was handed over: nobody waits for what is slow to close.
pub(super) async fn inside<T: Send + 'static, L>(
    namespace: &File,
    deed: impl FnOnce() -> (T, L) + Send + 'static,
) -> io::Result<T> {
    let namespace = namespace.try_clone()?;
    on_thread(move || match setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET) {
        Ok(()) => {
            let (value, late) = deed();
            (Ok(value), Some(late))
        }
        Err(errno) => (Err(errno.into()), None),
    })
    .await?
}

/// Does one deed in a new namespace, which ends with it unless the deed pins it.
pub(super) async fn in_new<T: Send + 'static>(deed: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    on_thread(move || (unshare(CloneFlags::CLONE_NEWNET).map(|()| deed()).map_err(io::Error::from), ())).await?
}

/// Starts a thread, and gives what waits for its deed. No `spawn_blocking`: the pool's threads must never end up in
/// another namespace than the process.
fn on_thread<T: Send + 'static, L>(
    deed: impl FnOnce() -> (T, L) + Send + 'static,
) -> impl Future<Output = io::Result<T>> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("network-namespace".to_owned()).spawn(move || {
        let (value, late) = deed();
        // Whoever asked may have been cancelled.
        let _ = answer.send(value);
        drop(late);
    });
    async move {
        started?;
        answered.await.map_err(|_| io::Error::other("the thread in the network namespace ended early"))
    }
}

/// Lists what is in each of these namespaces, `None` where there is none, on one thread for each processor.
pub(super) async fn list_all(namespaces: Vec<(Name, PathBuf)>) -> Vec<(Name, Listed)> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = namespaces.len().div_ceil(threads).max(1);
    let list_share = |namespaces: &[(Name, PathBuf)]| {
        let owned = namespaces.to_vec();
        on_thread(move || (owned.into_iter().map(|(name, path)| (name, list_one(&path))).collect::<Vec<_>>(), ()))
    };
    let shares: Vec<_> = namespaces.chunks(share).map(|share| (share, list_share(share))).collect();
    let mut all = Vec::with_capacity(namespaces.len());
    for (share, listed) in shares {
        match listed.await {
            Ok(listed) => all.extend(listed),
            Err(error) => all.extend(share.iter().map(|(name, path)| {
                let source = io::Error::new(error.kind(), error.to_string());
                (name.clone(), Err(NetworkError::Namespace { deed: "enter", path: path.clone(), source }))
            })),
        }
    }
    all
}

/// What is in a namespace.
pub(super) type Listed = Result<Option<Inventory>, NetworkError>;

fn list_one(path: &Path) -> Listed {
    let Some(namespace) = open(path)? else { return Ok(None) };
    let fail = |errno: nix::errno::Errno| NetworkError::Namespace {
        deed: "enter",
        path: path.to_owned(),
        source: errno.into(),
    };
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(fail)?;
    Inventory::of_thread().map(Some).map_err(|(what, source)| NetworkError::List { what, source })
}

/// Makes a namespace and pins it, or takes the one that is pinned there already.
pub(super) async fn create(
    host: &Netlink,
    lock: std::sync::Arc<PinLock>,
    path: &Path,
) -> Result<Entered, NetworkError> {
    let fail = |source| NetworkError::Namespace { deed: "create", path: path.to_owned(), source };
    let gone = || fail(io::ErrorKind::NotFound.into());
    let (namespace, socket) = match open(path)? {
        Some(namespace) => (namespace, None),
        None => {
            let pinned = path.to_owned();
            let made = move || pin_own(&lock, &pinned).map(|()| netlink::socket());
            let socket = in_new(made).await.map_err(fail)??.map_err(fail)?;
            fail_point!("namespace.pinned");
            (open(path)?.ok_or_else(gone)?, Some(socket))
        }
    };
    // What has a number here is heard of here, see `watch.rs`.
    host.number_namespace(&namespace).await.map_err(fail)?;
    fail_point!("namespace.numbered");
    let fresh = socket.is_some();
    let netlink = match socket {
        Some(socket) => Netlink::over(socket).map_err(fail)?,
        None => connect(path, &namespace).await?,
    };
    let down = match fresh {
        true => Some(LOOPBACK),
        false => netlink.link_by_name("lo").await.map_err(fail)?.filter(|link| !link.up).map(|link| link.index),
    };
    if let Some(index) = down {
        netlink.set_link(super::links::up(index)).await.map_err(fail)?;
        fail_point!("namespace.up");
    }
    Ok(Entered { path: path.to_owned(), namespace, netlink, fresh })
}

/// Pins the namespace of the calling thread, with every setting made before anyone can find it.
fn pin_own(lock: &PinLock, path: &Path) -> Result<(), NetworkError> {
    for (directory, values) in SETTINGS {
        sysctl::set_all(directory, values)?;
    }
    fail_point!("namespace.made");
    let fail = |source| NetworkError::Namespace { deed: "pin", path: path.to_owned(), source };
    let _prepared = lock.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let parent = path.parent().unwrap_or(Path::new("/"));
    prepare(parent).map_err(fail)?;
    fail_point!("namespace.directory");
    File::options().create(true).truncate(false).write(true).open(path).map_err(fail)?;
    fail_point!("namespace.file");
    let own = Path::new("/proc/thread-self/ns/net");
    mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| fail(errno.into()))
}

/// Makes the directory a shared mount of its own, as iproute2 does with its own directory.
///
/// So mount namespaces that were copied from this one lose a pinned namespace when it is unpinned here, instead of
/// keeping it alive.
fn prepare(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let share = || mount(None::<&str>, directory, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        // It is not a mount point yet.
        Err(nix::errno::Errno::EINVAL) => {
            mount(Some(directory), directory, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
            fail_point!("namespace.directory.bound");
            Ok(share()?)
        }
        other => Ok(other?),
    }
}

/// Takes the pin away, and the directory's own mount with the last one. What is gone already is fine.
pub(super) fn unpin(lock: &PinLock, path: &Path) -> Result<(), NetworkError> {
    let fail = |source| NetworkError::Namespace { deed: "remove", path: path.to_owned(), source };
    let _prepared = lock.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if open(path)?.is_some() {
        umount2(path, MntFlags::MNT_DETACH).map_err(|errno| fail(errno.into()))?;
        fail_point!("namespace.unpinned");
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    fail_point!("namespace.file.removed");
    let parent: PathBuf = path.parent().unwrap_or(Path::new("/")).to_owned();
    let empty = fs::read_dir(&parent).is_ok_and(|mut entries| entries.next().is_none());
    if empty {
        // It fails where a pin came meanwhile, and then so does the other; where a killed process did it, only the other is left to do.
        let _ = umount2(&parent, MntFlags::empty());
        fail_point!("namespace.directory.unmounted");
        let _ = fs::remove_dir(&parent);
    }
    Ok(())
}
