//! Opening paths below a directory whose content is not trusted (openat2(2)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// How often the kernel is asked again. Every try is some microseconds, and one in many is refused on a busy host.
const TRIES: usize = 10_000;

/// Opens a path as `resolve` confines it, never over a link of `/proc` that leads out.
///
/// A rename or a mount anywhere on the host while a path with `..` is walked has the kernel refuse it with EAGAIN, since it could
/// have led out meanwhile. That says nothing of the path: it is walked again.
pub fn open<P: Arg + Copy>(
    directory: impl AsFd,
    path: P,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let (flags, resolve) = (flags | OFlags::CLOEXEC, resolve | ResolveFlags::NO_MAGICLINKS);
    let mut tries = 0;
    loop {
        match openat2(&directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES => tries += 1,
            opened => return opened,
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn renames_elsewhere_refuse_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("root/a/b")).expect("a tree");
        fs::write(path("one"), "").expect("a file");
        let root = File::open(path("root")).expect("the root");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    fs::rename(path("one"), path("other"))
                        .and_then(|()| fs::rename(path("other"), path("one")))
                        .expect("a rename");
                }
            });
            let opened: Result<Vec<()>, Errno> = (0..20_000)
                .map(|_| open(&root, "a/b/../../a/b/..", OFlags::PATH, ResolveFlags::IN_ROOT).map(drop))
                .collect();
            is_over.store(true, Ordering::Relaxed);
            opened.map(drop).expect("each is opened");
        });
    }
}
