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

/// Gives the pages back that hold nothing any more, and code and constants that a start alone has used,
/// among them the eBPF programs: some seven megabytes. For after a step that has used much.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: releases free memory of the allocator, under its locks.
    let _released = unsafe { libc::malloc_trim(0) };
    for (start, length) in unchanging() {
        // SAFETY: nobody writes to the mapping, so its pages are the file's as they were; what is needed
        // again is read from the page cache.
        let dropped = unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                length,
                libc::MADV_DONTNEED,
            )
        };
        if dropped != 0 {
            tracing::debug!("what was used once stays in memory");
        }
    }
}

/// Where this program's code is mapped, and the constants before it: addresses and lengths in bytes.
/// Behind it there are constants that the loader has written to (RELRO). None where that cannot be read.
fn unchanging() -> Vec<(usize, usize)> {
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
        let length = address(end)?.checked_sub(start)?;
        Some((fields.next()?.to_owned(), (start, length)))
    });
    let mut mappings: Vec<(String, (usize, usize))> = mappings.collect();
    let is_code = |(may, _): &(String, _)| may == "r-xp";
    mappings.truncate(
        mappings
            .iter()
            .rposition(is_code)
            .map_or(0, |last| last + 1),
    );
    mappings.retain(|(may, _)| matches!(may.as_str(), "r--p" | "r-xp"));
    mappings.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_own_code_is_found_and_it_lives_on_with_its_constants() {
        let constant: &'static str = "of this test alone, and not on the heap";
        let here = give_back as *const () as usize;
        let found = unchanging();
        let holds = |(start, length): &(usize, usize)| (*start..start + length).contains(&here);
        assert!(found.iter().any(holds), "{found:x?}");
        give_back();
        assert!(constant.ends_with("heap"));
    }
}
