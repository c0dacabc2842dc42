//! How the process gets its memory.
#![expect(unsafe_code, reason = "glibc's switch has no safe wrapper")]

/// Gives all threads one heap. By default each gets its own, and what one has freed is of no use to
/// the others: six megabytes of a start with ten thousand Services. To be called before the first
/// thread.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: changes a number inside the allocator, under its lock.
    unsafe {
        // It refuses unknown numbers only; then each thread has its heap, as without this.
        let _accepted = libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
