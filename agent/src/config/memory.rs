//! Sizes that follow the machine's memory.

/// Entries of the connection table for a machine with `bytes` of memory: about 0.3 % of it, at 176
/// bytes an entry, in steps of two so that machines of a kind have tables of a size. 262,144 for
/// 16 GiB, which is what netfilter gives its own table there.
pub(super) fn connections(bytes: u64) -> u32 {
    const SMALLEST: u64 = 65_536;
    const LARGEST: u64 = 8_388_608;
    let entries = (bytes / 65_536).next_power_of_two();
    u32::try_from(entries.clamp(SMALLEST, LARGEST)).unwrap_or(u32::MAX)
}

/// The machine's memory in bytes.
pub(super) fn total() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

#[cfg(test)]
mod tests {
    use super::connections;

    #[test]
    fn connections_follow_the_memory_within_bounds() {
        const GIB: u64 = 1 << 30;
        for (gib, expected) in [
            (0, 65_536),
            (1, 65_536),
            (4, 65_536),
            (16, 262_144),
            (64, 1_048_576),
            (4096, 8_388_608),
        ] {
            assert_eq!(connections(gib * GIB), expected, "{gib} GiB");
        }
    }
}
