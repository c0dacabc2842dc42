//! Cutting IP packets, as a host does that knows a smaller MTU. The netns lane uses it too.

const FRAGMENT: u8 = 44;

/// Cuts a packet into fragments of `piece` bytes of data, a multiple of eight (RFC 791 §3.2). With
/// `options`, an extension header of that number stands between an IPv6 fragment header and the
/// data. The checksums of IPv4 headers are right.
pub(crate) fn cut(
    packet: &[u8],
    piece: usize,
    identification: u16,
    options: Option<u8>,
) -> Vec<Vec<u8>> {
    let is_v6 = packet[0] >> 4 == 6;
    let (header, data) = packet.split_at(if is_v6 { 40 } else { 20 });
    let protocol = header[if is_v6 { 6 } else { 9 }];
    let mut data = data.to_vec();
    if options.is_some() {
        // PadN of six bytes (RFC 8200 §4.2).
        data.splice(0..0, [protocol, 0, 1, 4, 0, 0, 0, 0]);
    }
    let pieces: Vec<&[u8]> = data.chunks(piece).collect();
    let [i0, i1] = identification.to_be_bytes();
    let fragment = |(index, data): (usize, &&[u8])| {
        let more = u16::from(index + 1 < pieces.len());
        let offset = u16::try_from(index * piece).expect("an IP packet");
        let length = |extra| u16::try_from(data.len() + extra).expect("an IP packet");
        let mut packet = header.to_vec();
        if is_v6 {
            packet[4..6].copy_from_slice(&length(8).to_be_bytes());
            packet[6] = FRAGMENT;
            let [o0, o1] = (offset | more).to_be_bytes();
            packet.extend([options.unwrap_or(protocol), 0, o0, o1, 0, 0, i0, i1]);
        } else {
            let [o0, o1] = ((offset / 8) | (more << 13)).to_be_bytes();
            packet[2..4].copy_from_slice(&length(20).to_be_bytes());
            packet[4..8].copy_from_slice(&[i0, i1, o0, o1]);
            packet[10..12].fill(0);
            let words = packet
                .chunks(2)
                .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
            let sum: u32 = words.sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        packet.extend(*data);
        packet
    };
    pieces.iter().enumerate().map(fragment).collect()
}
