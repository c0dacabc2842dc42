//! How the process gets its memory.
#![expect(unsafe_code, reason = "glibc's switch has no safe wrapper")]

/// Keeps the heap small: 12 megabytes of 78 with ten thousand Services. To be called before the
/// first thread.
///
/// By default each thread has a heap of its own, and what one has freed is of no use to the others;
/// with a single one, threads that read manifests would wait for one another.
/// And once a large block has been freed, later ones are carved out of the heap, where they leave
/// holes, instead of being mapped and given back.
pub fn tighten_heap() {
    /// glibc's initial value; setting it keeps it from growing.
    const MAPPED_FROM: libc::c_int = 128 * 1024;
    #[cfg(target_env = "gnu")]
    for (option, value) in [
        (libc::M_ARENA_MAX, 2),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
    ] {
        // SAFETY: changes a number inside the allocator, under its lock.
        let _accepted = unsafe { libc::mallopt(option, value) };
    }
}

/// Gives the pages back that hold nothing any more. For after a step that has used much.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: releases free memory of the allocator, under its locks.
    let _released = unsafe { libc::malloc_trim(0) };
}
