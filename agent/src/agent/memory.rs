//! Keeps an agent small that idles for months after a busy minute.

/// Lets threads that come allocate from two heaps, in place of up to eight for each core that all keep their largest size.
///
/// Threads that have one of their own by now keep it; see mallopt(3). Other C libraries than glibc have no such heaps.
pub(super) fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator, under its own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives pages that no object is in back to the kernel; see malloc_trim(3).
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and moves no object.
    unsafe {
        libc::malloc_trim(0);
    }
}
