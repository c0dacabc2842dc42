//! SCTP's checksum (RFC 9260 §6.8, appendix A) after a change of the ports.
//!
//! A CRC is linear: the checksum of a packet with some bits flipped is the old one, with the CRC of
//! the flipped bits alone flipped into it. Those are followed by the rest of the packet, as zeros;
//! to append zeros is to multiply by a power of x, which takes a step a bit of their number, not
//! one a byte. So no payload is read, whatever the packet's length.
//!
//! A product by a constant is four look-ups in a table. A loop over bits would be as good at run
//! time, and more than the verifier walks.

/// Array of one [`Table`].
pub const CRC32C_MAP: &str = "CRC32C_V1";

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Products: `[k][i][byte]` is byte `i` of a checksum followed by 2^k bytes of zeros.
pub type Table = [[[u32; 256]; 4]; 16];

/// Fills a table.
pub fn fill(table: &mut Table) {
    // x^8, bits reversed: one byte of zeros; then two, four, and so on.
    let mut zeros = 1 << (31 - 8);
    for slices in table {
        for (slice, products) in slices.iter_mut().enumerate() {
            for (byte, product) in (0..).zip(products) {
                let shifted: u32 = byte << (8 * slice);
                *product = multiply(shifted, zeros);
            }
        }
        zeros = multiply(zeros, zeros);
    }
}

/// The checksum of a packet whose first four bytes change from `old` to `new` and which has
/// `following` bytes after them (at most 65,531). `checksum` is as read from the packet, that is
/// little-endian.
#[inline(always)]
pub fn after_change(
    table: &Table,
    checksum: u32,
    old: [u8; 4],
    new: [u8; 4],
    following: u32,
) -> u32 {
    let mut difference = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
    // A CRC has its own 32 bits of zeros behind the message.
    let zeros = following + 4;
    let mut power = 0;
    while power < table.len() {
        let [a, b, c, d] = difference.to_le_bytes();
        let slices = &table[power];
        let product = slices[0][a as usize]
            ^ slices[1][b as usize]
            ^ slices[2][c as usize]
            ^ slices[3][d as usize];
        // Without a branch: the verifier would follow both ways.
        let applies = 0u32.wrapping_sub((zeros >> power) & 1);
        difference = (product & applies) | (difference & !applies);
        power += 1;
    }
    checksum ^ difference
}

/// Product of two polynomials modulo [`POLYNOMIAL`], bits reversed.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in 0..32 {
        // The highest bit is the coefficient of x^0.
        product ^= b & 0u32.wrapping_sub((a >> (31 - bit)) & 1);
        b = (b >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(b & 1));
    }
    product
}

#[cfg(test)]
mod tests {
    use super::{POLYNOMIAL, after_change, fill};

    fn crc32c(bytes: &[u8]) -> u32 {
        let mut state = u32::MAX;
        for byte in bytes {
            state ^= u32::from(*byte);
            for _ in 0..8 {
                state = (state >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(state & 1));
            }
        }
        !state
    }

    #[test]
    fn the_reference_is_crc32c() {
        // RFC 3720 appendix B.4: 32 bytes of zeros.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_change_of_ports_gives_the_checksum_of_the_changed_packet() {
        let mut table = [[[0; 256]; 4]; 16];
        fill(&mut table);
        for length in [0_usize, 1, 8, 9, 63, 1400, 9000, 65_527] {
            let mut packet: Vec<u8> = (0..length + 4)
                .map(|index| u8::try_from(index * 7 % 251).unwrap())
                .collect();
            let old = [packet[0], packet[1], packet[2], packet[3]];
            let before = crc32c(&packet);
            let new = [0x75, 0x30, 0x1f, 0x90];
            packet[..4].copy_from_slice(&new);
            assert_eq!(
                after_change(&table, before, old, new, u32::try_from(length).unwrap()),
                crc32c(&packet),
                "{length}"
            );
        }
    }
}
