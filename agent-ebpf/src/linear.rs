//! The beginning of a packet where it is in one piece, behind functions that are safe to call.
//!
//! To read and write it so takes no helper, each of which takes as long as a look-up. Drivers leave the headers
//! there; where they are elsewhere, `kernel` has helpers that find them.
#![expect(unsafe_code, reason = "the packet is raw memory")]

use aya_ebpf::bindings::__sk_buff;

/// The first `N` pairs of bytes of a packet.
///
/// Pairs, since the kernel puts the link-layer header at an even address, and the target reads memory
/// that is not known to be aligned byte by byte.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<const N: usize> {
    start: usize,
}

impl<const N: usize> Pairs<N> {
    /// `None` where they are not in one piece.
    #[inline(always)]
    pub(crate) fn of(skb: *mut __sk_buff) -> Option<Self> {
        // SAFETY: `skb` is the program's context; the verifier rewrites the access.
        let start = unsafe { (*skb).data } as usize;
        // SAFETY: as above.
        let end = unsafe { (*skb).data_end } as usize;
        (start + 2 * N <= end).then_some(Self { start })
    }

    /// Reads a pair, in network order.
    #[inline(always)]
    pub(crate) fn at<const INDEX: usize>(self) -> [u8; 2] {
        const { assert!(INDEX < N) };
        // SAFETY: `of` has made the comparison that the verifier wants to see, so the pair is there.
        unsafe { *((self.start + 2 * INDEX) as *const u16) }.to_ne_bytes()
    }

    /// Reads the last pair.
    #[inline(always)]
    pub(crate) fn last(self) -> [u8; 2] {
        // SAFETY: as in `at`.
        unsafe { *((self.start + 2 * (N - 1)) as *const u16) }.to_ne_bytes()
    }

    /// Writes a pair as it stands in memory. The packet is the program's own: a program that writes so is given no other
    /// (`bpf_unclone_prologue` of the kernel).
    #[inline(always)]
    pub(crate) fn put<const INDEX: usize>(self, pair: u16) {
        const { assert!(INDEX < N) };
        // SAFETY: as in `at`.
        unsafe { *((self.start + 2 * INDEX) as *mut u16) = pair };
    }

    /// Writes the last pair.
    #[inline(always)]
    pub(crate) fn put_last(self, pair: u16) {
        // SAFETY: as in `at`.
        unsafe { *((self.start + 2 * (N - 1)) as *mut u16) = pair };
    }

    /// Writes a word as it stands in memory, which is the target's order: the lower half first.
    #[inline(always)]
    pub(crate) fn put_word<const INDEX: usize, const NEXT: usize>(self, word: u32) {
        const { assert!(NEXT == INDEX + 1 && cfg!(target_endian = "little")) };
        self.put::<INDEX>(word as u16);
        self.put::<NEXT>((word >> 16) as u16);
    }

    /// Reads four bytes.
    #[inline(always)]
    pub(crate) fn four<const INDEX: usize, const NEXT: usize>(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.at::<INDEX>(), self.at::<NEXT>());
        [a, b, c, d]
    }
}
