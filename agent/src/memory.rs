//! Keeps the program small: an agent idles for months after a busy minute.

/// Lets all threads allocate from one heap, in place of up to eight for each core that all keep their largest size, and that
/// cost each new thread a dozen system calls and page faults.
///
/// To be called before there is a second thread: those that have a heap of their own keep it; see mallopt(3). Other C
/// libraries than glibc have no such heaps.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator, under its own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives pages that no object is in back to the kernel; see malloc_trim(3).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and moves no object.
    unsafe {
        libc::malloc_trim(0);
    }
}
