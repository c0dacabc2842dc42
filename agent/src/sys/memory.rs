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

/// Gives the pages back that hold nothing any more, and code that a start alone has run: some four
/// megabytes. For after a step that has used much.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: releases free memory of the allocator, under its locks.
    let _released = unsafe { libc::malloc_trim(0) };
    for (start, length) in code() {
        // SAFETY: the mapping is executable and not writable, so its pages are the file's as they
        // were; what is needed again is read from the page cache.
        let dropped = unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                length,
                libc::MADV_DONTNEED,
            )
        };
        if dropped != 0 {
            tracing::debug!("code that was run once stays in memory");
        }
    }
}

/// Where this program's code is mapped: addresses and lengths in bytes. None where that cannot be
/// read.
fn code() -> Vec<(usize, usize)> {
    let (Ok(maps), Ok(program)) = (
        std::fs::read_to_string("/proc/self/maps"),
        std::env::current_exe(),
    ) else {
        return Vec::new();
    };
    let of_program = maps
        .lines()
        .filter(|line| program.to_str().is_some_and(|path| line.ends_with(path)));
    // 7f1c00000000-7f1c00400000 r-xp 00001000 08:01 4242 /usr/bin/program
    let mappings = of_program.filter_map(|line| {
        let mut fields = line.split(' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let start = address(start)?;
        (fields.next()? == "r-xp").then_some((start, address(end)?.checked_sub(start)?))
    });
    mappings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_own_code_is_found_and_runs_on() {
        let here = give_back as *const () as usize;
        let found = code();
        assert!(
            found
                .iter()
                .any(|(start, length)| (*start..start + length).contains(&here)),
            "{found:x?}"
        );
        give_back();
    }
}
