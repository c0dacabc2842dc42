//! The Internet checksum (RFC 1071) after a change (RFC 1624), without reading what does not change.

/// What a checksum over `from` lacks when they become `to`: a ones' complement sum of 32 bits, as
/// the kernel's helpers take it. Words are as they stand in memory, whatever its byte order.
#[inline(always)]
pub fn difference<const N: usize>(from: &[u32; N], to: &[u32; N]) -> u32 {
    let mut sum = 0_u64;
    let mut index = 0;
    while index < N {
        sum += u64::from(!from[index]) + u64::from(to[index]);
        index += 1;
    }
    add_carry(sum)
}

/// A checksum as it stands in the packet, after a change.
#[inline(always)]
pub fn after_change(checksum: [u8; 2], difference: u32) -> [u8; 2] {
    let sum = u64::from(difference) + u64::from(!u32::from(u16::from_ne_bytes(checksum)));
    let sum = add_carry(sum);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "the carry has been added")]
    let sum = sum as u16;
    (!sum).to_ne_bytes()
}

/// What is to become of a transport checksum as the ports change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfPorts {
    /// Nothing: the device fills it in.
    Nothing,
    /// To be written.
    Write([u8; 2]),
    /// It is not known which.
    Unknown,
}

/// The same, from what the kernel has made of the checksum as the addresses changed.
///
/// Where a device is to fill it in (`CHECKSUM_PARTIAL`), the field is the sum of the pseudo header, which the
/// kernel changes as such; otherwise it is the complement of a sum. It tells no program which, but its two
/// ways never lead to the same where the addresses' change is one to the sum. `addresses` and `ports` are
/// [`difference`]s.
#[inline(always)]
pub fn of_ports(before: [u8; 2], after: [u8; 2], addresses: u32, ports: u32) -> OfPorts {
    let is_sum = after == complement(after_change(complement(before), addresses));
    let is_checksum = after == after_change(before, addresses);
    match (is_sum, is_checksum) {
        (true, false) => OfPorts::Nothing,
        (false, true) => OfPorts::Write(after_change(after, ports)),
        _ => OfPorts::Unknown,
    }
}

#[inline(always)]
fn complement([a, b]: [u8; 2]) -> [u8; 2] {
    [!a, !b]
}

/// Adds what is over 32 bits to what is below.
#[inline(always)]
fn add_carry(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    #[expect(clippy::cast_possible_truncation, reason = "the carry has been added")]
    let sum = sum as u32;
    sum
}

#[cfg(test)]
mod tests {
    use super::{OfPorts, after_change, complement, difference, of_ports};

    /// RFC 1071 §4.1, of 16-bit words in memory order.
    fn checksum(words: &[u32]) -> [u8; 2] {
        let halves = words.iter().flat_map(|word| [word & 0xffff, word >> 16]);
        let mut sum: u32 = halves.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!u16::try_from(sum).unwrap()).to_ne_bytes()
    }

    /// Numbers with more zeros and ones in a row than chance gives.
    fn numbers() -> impl Iterator<Item = u32> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let [low, high, ..] = state.to_le_bytes();
            let word = u32::try_from(state >> 32).unwrap();
            match low % 8 {
                0 => 0,
                1 => u32::MAX,
                2 => word << (high % 32),
                3 => !(word >> (high % 32)),
                _ => word,
            }
        })
    }

    #[test]
    fn the_checksum_after_a_change_is_that_of_the_changed_words() {
        let mut numbers = numbers();
        for round in 0..200_000 {
            // A word that stays, which a header always has that is not zero.
            let mut words = [0x0000_0045; 9];
            words[1..].fill_with(|| numbers.next().unwrap());
            let before = checksum(&words);
            let from: [u32; 8] = words[1..].try_into().unwrap();
            let to: [u32; 8] = std::array::from_fn(|_| numbers.next().unwrap());
            words[1..].copy_from_slice(&to);
            let after = after_change(before, difference(&from, &to));
            assert_eq!(after, checksum(&words), "{round}: {from:08x?} to {to:08x?}");
        }
    }

    #[test]
    fn what_the_kernel_made_of_a_checksum_says_whether_the_ports_count() {
        let mut numbers = numbers();
        let mut known = 0;
        for round in 0..200_000 {
            let [a, b, c, d] = std::array::from_fn(|_| numbers.next().unwrap());
            let (addresses, ports) = (difference(&[a], &[b]), difference(&[c], &[d]));
            let [x, y, ..] = numbers.next().unwrap().to_le_bytes();
            let before = [x, y];
            let of_checksum = after_change(before, addresses);
            let of_sum = complement(after_change(complement(before), addresses));
            let write = OfPorts::Write(after_change(of_checksum, ports));
            let left = of_ports(before, of_checksum, addresses, ports);
            assert!(
                matches!(left, OfPorts::Unknown) || left == write,
                "{round}: {left:?}"
            );
            let nothing = of_ports(before, of_sum, addresses, ports);
            assert!(
                matches!(nothing, OfPorts::Unknown | OfPorts::Nothing),
                "{round}: {nothing:?}"
            );
            known += u32::from(left == write && nothing == OfPorts::Nothing);
        }
        // The rest are changes that are none to the sum.
        assert!(known > 150_000, "{known}");
    }

    #[test]
    fn no_change_leaves_the_checksum() {
        for sum in 0..u16::MAX {
            let words = [0x0a00_0001, u32::MAX, 0];
            let checksum = sum.to_ne_bytes();
            assert_eq!(after_change(checksum, difference(&words, &words)), checksum);
        }
    }
}
