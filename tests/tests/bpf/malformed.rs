//! What the programs do with packets that are not what they say.

use agent_abi::counters::Counter;

use crate::lab::{At, Lab};
use crate::packet::frame;

const SYN: &str = "tcp 10.244.1.5:4000 > 10.96.0.10:80 S";

#[test]
fn every_truncation_passes_untouched_or_is_translated_whole() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    let whole = frame(SYN);
    // The kernel's test run takes nothing shorter than the network header.
    for length in 34..whole.len() {
        let (verdict, out) = lab.run_frame(At::Pod, &whole[..length]);
        // Up to the TCP flags there is nothing to tell a connection by, and up to the checksum
        // there is nothing to translate.
        let expected = match length {
            ..48 => "pass",
            48..52 => "drop",
            _ => "redirect",
        };
        assert_eq!(verdict, expected, "{length} bytes");
        if verdict == "pass" {
            assert_eq!(out, &whole[..length], "{length} bytes");
        }
    }
}

#[test]
fn ipv4_options_are_skipped() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    let mut packet = frame(SYN);
    packet[14] = 0x46;
    packet.splice(34..34, [1, 1, 1, 0]);
    let (verdict, out) = lab.run_frame(At::Pod, &packet);
    assert_eq!(verdict, "redirect");
    assert_eq!(out[30..34], [10, 244, 2, 7]);
    assert_eq!(out[34..38], [1, 1, 1, 0]);
}

#[test]
fn other_versions_and_protocols_pass_untouched() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    let change = |at: usize, value: u8| {
        let mut packet = frame(SYN);
        packet[at] = value;
        packet
    };
    for (what, packet) in [
        ("IP version 5", change(14, 0x55)),
        ("header of 16 bytes", change(14, 0x44)),
        ("protocol GRE", change(23, 47)),
        ("EtherType ARP", change(13, 0x06)),
    ] {
        let (verdict, out) = lab.run_frame(At::Pod, &packet);
        assert_eq!((verdict.as_str(), &out), ("pass", &packet), "{what}");
    }
}

#[test]
fn later_fragments_follow_the_first_one_and_others_pass() {
    let mut lab = Lab::new();
    lab.service("udp", "10.96.0.10:53", "10.244.2.7:5353");
    let fragment = |identification: u8, more: bool, offset: u8| {
        let mut packet = frame("udp 10.244.1.5:4000 > 10.96.0.10:53");
        packet[19] = identification;
        packet[20] = if more { 0x20 } else { 0 };
        packet[21] = offset;
        packet
    };
    assert_eq!(lab.run_frame(At::Pod, &fragment(1, true, 0)).0, "redirect");
    let (verdict, out) = lab.run_frame(At::Pod, &fragment(1, false, 4));
    assert_eq!(verdict, "redirect");
    assert_eq!(out[30..34], [10, 244, 2, 7]);
    // Where its ports would be, a later fragment has data.
    assert_eq!(out[34..], fragment(1, false, 4)[34..]);
    assert_eq!(lab.run_frame(At::Pod, &fragment(2, false, 4)).0, "drop");
    assert_eq!(lab.counter(Counter::FragmentsHeld), 1);
    assert_eq!(lab.counter(Counter::FragmentsTranslated), 1);
}
