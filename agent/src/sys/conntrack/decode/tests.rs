//! Answers as a kernel of version 6.18 wrote them, whole, cut off and changed.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

/// TCP through DNAT, marked.
const TCP: &str = "
    d4000000 00010200 01000000 00000000 02000000 34000180 14000180 08000100
    0a000001 08000200 0a600001 1c000280 05000100 06000000 06000200 03e80000
    06000300 00500000 34000280 14000180 08000100 0a000101 08000200 0a000001
    1c000280 05000100 06000000 06000200 1f900000 06000300 03e80000 08000300
    000001ae 08000800 00004000 08000c00 f81232cd 08000b00 00000001 08000700
    0006977f 30000480 2c000180 05000100 03000000 05000200 0a000000 05000300
    0a000000 06000400 23000000 06000500 23000000
";
/// A UDP datagram over IPv6 that nobody has answered.
const UDP: &str = "
    d4000000 00010200 01000000 00000000 0a000000 4c000180 2c000180 14000300
    fd000000 00000000 00000000 00000001 14000400 fd000000 00000000 00000000
    00000002 1c000280 05000100 11000000 06000200 03e80000 06000300 00350000
    4c000280 2c000180 14000300 fd000000 00000000 00000000 00000002 14000400
    fd000000 00000000 00000000 00000001 1c000280 05000100 11000000 06000200
    00350000 06000300 03e80000 08000300 00000188 08000800 00000000 08000c00
    c00a1f34 08000b00 00000001 08000700 0000001d
";
const ICMP: &str = "
    b4000000 00010200 01000000 00000000 02000000 3c000180 14000180 08000100
    0a000001 08000200 0a000101 24000280 05000100 01000000 06000400 00000000
    05000500 08000000 05000600 00000000 3c000280 14000180 08000100 0a000101
    08000200 0a000001 24000280 05000100 01000000 06000400 00000000 05000500
    00000000 05000600 00000000 08000300 0000018a 08000800 00004000 08000c00
    c9e079f5 08000b00 00000001 08000700 0000001d
";
const DONE: &str = "14000000 03000200 01000000 00000000 00000000";
/// `ENOENT`, with the header of the request.
const REFUSED: &str = "
    24000000 02000000 01000000 00000000 feffffff
    48000000 02010500 01000000 00000000
";

fn bytes(messages: &[&str]) -> Vec<u8> {
    let digits: Vec<u8> = messages
        .concat()
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[track_caller]
fn read(bytes: &[u8]) -> (Answer, Option<End>) {
    let mut answer = Answer::default();
    let end = datagram(bytes, &mut answer).unwrap();
    (answer, end)
}

fn line(flow: &Flow) -> String {
    let Flow {
        original,
        reply,
        timeout,
        tcp_state,
        status,
        mark,
    } = flow;
    format!(
        "{original}, {reply}, {timeout:?}, state {tcp_state:?}, status {status:#x}, mark {mark:#x}\n"
    )
}

#[test]
fn a_listing_of_the_kernel_is_read() {
    let (answer, end) = read(&bytes(&[TCP, ICMP, UDP, DONE]));
    let lines: String = answer.flows.iter().map(line).collect();
    expect![[r#"
        tcp 10.0.0.1:1000 -> 10.96.0.1:80, tcp 10.0.1.1:8080 -> 10.0.0.1:1000, 431999s, state Some(3), status 0x1ae, mark 0x4000
        udp [fd00::1]:1000 -> [fd00::2]:53, udp [fd00::2]:53 -> [fd00::1]:1000, 29s, state None, status 0x188, mark 0x0
    "#]].assert_eq(&lines);
    assert_eq!((answer.malformed, answer.interrupted), (0, false));
    assert_eq!(end, Some(End::Done));
    let marks: Vec<_> = answer
        .flows
        .iter()
        .map(|f| (f.is_translated(), f.is_established()))
        .collect();
    assert_eq!(marks, [(true, true), (false, false)]);
}

#[test]
fn more_datagrams_follow_until_the_end() {
    let (answer, end) = read(&bytes(&[TCP]));
    assert_eq!((answer.flows.len(), end), (1, None));
    assert_eq!(read(&[]), (Answer::default(), None));
}

#[test]
fn an_error_number_ends_an_answer() {
    assert_eq!(read(&bytes(&[REFUSED])).1, Some(End::Error(2)));
    let acknowledged = REFUSED.replace("feffffff", "00000000");
    assert_eq!(read(&bytes(&[&acknowledged])).1, Some(End::Done));
    let halfway = "14000000 03000200 01000000 00000000 f4ffffff";
    assert_eq!(read(&bytes(&[TCP, halfway])).1, Some(End::Error(12)));
}

#[test]
fn an_interrupted_listing_is_known_by_any_message() {
    let done = DONE.replace("03000200", "03001200");
    assert!(read(&bytes(&[TCP, &done])).0.interrupted);
    let entry = TCP.replace("00010200", "00011200");
    assert!(read(&bytes(&[&entry, DONE])).0.interrupted);
}

#[test]
fn an_entry_that_cannot_be_read_harms_no_other() {
    let broken = [
        // No reply; an address of three bytes; no port; a protocol of no bytes; a length beyond
        // its message; one below its own header.
        TCP.replace("34000280", "34003280"),
        TCP.replacen("08000100", "07000100", 1),
        TCP.replacen("06000200 03e80000", "06001200 03e80000", 1),
        TCP.replacen("05000100", "04000100", 1),
        TCP.replace("2c000180", "ff000180"),
        TCP.replace("34000180", "02000180"),
    ];
    for entry in &broken {
        assert_ne!(entry, TCP);
        let (answer, end) = read(&bytes(&[entry, UDP, DONE]));
        assert_eq!((answer.flows.len(), answer.malformed), (1, 1), "{entry}");
        assert_eq!(end, Some(End::Done));
    }
}

#[test]
fn entries_of_zones_are_passed_over() {
    let all = TCP.replace("08000b00 00000001", "06001200 00070000");
    assert_eq!(read(&bytes(&[&all, UDP])).0.flows.len(), 1);
    // Of one direction only: the tuple grows by an attribute.
    let one = TCP
        .replace("d4000000", "dc000000")
        .replacen("34000180", "3c000180", 1)
        .replacen(
            "06000300 00500000",
            "06000300 00500000 06000300 00070000",
            1,
        );
    let (answer, _) = read(&bytes(&[&one, UDP]));
    assert_eq!((answer.flows.len(), answer.malformed), (1, 0));
}

#[test]
fn messages_that_cannot_be_told_apart_are_an_error() {
    for length in ["00000000", "0f000000", "ffffffff", "d5000000"] {
        let entry = TCP.replace("d4000000", length);
        let read = datagram(&bytes(&[&entry]), &mut Answer::default());
        assert_eq!(read, Err(Malformed), "{length}");
    }
    let empty = "10000000 03000200 01000000 00000000";
    let read = datagram(&bytes(&[empty]), &mut Answer::default());
    assert_eq!(read, Err(Malformed));
}

#[test]
fn cut_off_anywhere_nothing_is_made_up() {
    let whole = bytes(&[TCP, UDP, DONE]);
    let flows = read(&whole).0.flows;
    for length in 0..whole.len() {
        let mut answer = Answer::default();
        let end = datagram(&whole[..length], &mut answer);
        assert!(!matches!(end, Ok(Some(_))), "{length}");
        assert!(flows.starts_with(&answer.flows), "{length}");
    }
    // The same where the message says so itself: whatever attributes are left are read.
    let entry = bytes(&[TCP]);
    for length in 16..entry.len() {
        let mut cut = entry[..length].to_vec();
        cut[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
        let (answer, _) = read(&cut);
        assert_eq!(answer.flows.len() + answer.malformed, 1, "{length}");
    }
}

proptest! {
    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut changed = bytes(&[TCP, ICMP, UDP, DONE]);
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        let mut answer = Answer::default();
        if datagram(&changed, &mut answer).is_ok() {
            prop_assert!(answer.flows.len() <= 3);
        }
    }

    #[test]
    fn changes_in_one_entry_leave_the_next(
        changes in prop::collection::vec((16..212_usize, any::<u8>()), 1..8),
    ) {
        let mut changed = bytes(&[TCP, UDP, DONE]);
        for (at, byte) in changes {
            changed[at] = byte;
        }
        let (answer, end) = read(&changed);
        let (expected, _) = read(&bytes(&[UDP]));
        prop_assert_eq!(answer.flows.last(), expected.flows.last());
        prop_assert_eq!(end, Some(End::Done));
    }
}
