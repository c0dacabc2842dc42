//! Requests, as words of the wire: each attribute begins with its length and its kind.

use expect_test::expect;

use super::*;

fn tuple(source: &str, destination: &str, protocol: u8) -> Tuple {
    Tuple {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
    }
}

/// Rows of words, as the attributes are aligned.
fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes
        .chunks(4)
        .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let rows: Vec<String> = words.chunks(8).map(|row| row.join(" ")).collect();
    rows.join("\n") + "\n"
}

#[test]
fn a_listing_asks_for_any_family() {
    expect![[r#"
        14000000 01010103 01000000 00000000 00000000
    "#]]
    .assert_eq(&hex(&dump()));
}

#[test]
fn dnat_of_udp_is_a_range_beside_the_untranslated_reply() {
    let flow = Flow::established(
        tuple("10.0.0.1:1000", "10.96.0.1:53", Tuple::UDP),
        tuple("10.0.1.1:8053", "10.0.0.1:1000", Tuple::UDP),
        Duration::from_millis(29_001),
    );
    expect![[r#"
        dc000000 00010506 01000000 00000000 02000000 34000180 14000180 08000100
        0a000001 08000200 0a600001 1c000280 05000100 11000000 06000200 03e80000
        06000300 00350000 34000280 14000180 08000100 0a600001 08000200 0a000001
        1c000280 05000100 11000000 06000200 00350000 06000300 03e80000 28000d80
        08000100 0a000101 08000200 0a000101 14000380 06000100 1f750000 06000200
        1f750000 28000680 08000100 0a000001 08000200 0a000001 14000380 06000100
        03e80000 06000200 03e80000 08000300 0000000e 08000700 0000001e
    "#]]
    .assert_eq(&hex(&create(&flow).unwrap()));
}

#[test]
fn both_translations_of_tcp_over_ipv6_with_a_mark() {
    let mut flow = Flow::established(
        tuple("[fd00::1]:1000", "[fd00:96::1]:80", Tuple::TCP),
        tuple("[fd00:1::1]:8080", "[fd00::9]:2000", Tuple::TCP),
        Duration::from_secs(86_400),
    );
    flow.mark = 0x4000;
    expect![[r#"
        64010000 00010506 01000000 00000000 0a000000 4c000180 2c000180 14000300
        fd000000 00000000 00000000 00000001 14000400 fd000096 00000000 00000000
        00000001 1c000280 05000100 06000000 06000200 03e80000 06000300 00500000
        4c000280 2c000180 14000300 fd000096 00000000 00000000 00000001 14000400
        fd000000 00000000 00000000 00000001 1c000280 05000100 06000000 06000200
        00500000 06000300 03e80000 40000d80 14000400 fd000001 00000000 00000000
        00000001 14000500 fd000001 00000000 00000000 00000001 14000380 06000100
        1f900000 06000200 1f900000 40000680 14000400 fd000000 00000000 00000000
        00000009 14000500 fd000000 00000000 00000000 00000009 14000380 06000100
        07d00000 06000200 07d00000 08000300 0000000e 08000700 00015180 08000800
        00004000 20000480 1c000180 05000100 03000000 06000400 08080000 06000500
        08080000
    "#]]
    .assert_eq(&hex(&create(&flow).unwrap()));
}

#[test]
fn untranslated_sctp_has_no_range() {
    let original = tuple("10.0.0.1:1000", "10.0.1.1:80", Tuple::SCTP);
    let flow = Flow::established(original, original.reversed(), Duration::ZERO);
    expect![[r#"
        ac000000 00010506 01000000 00000000 02000000 34000180 14000180 08000100
        0a000001 08000200 0a000101 1c000280 05000100 84000000 06000200 03e80000
        06000300 00500000 34000280 14000180 08000100 0a000101 08000200 0a000001
        1c000280 05000100 84000000 06000200 00500000 06000300 03e80000 08000300
        0000000e 08000700 00000000 20000480 1c000380 05000100 04000000 08000200
        00000000 08000300 00000000
    "#]]
    .assert_eq(&hex(&create(&flow).unwrap()));
}

#[test]
fn deletion_names_the_original_direction() {
    let original = tuple("10.0.0.1:1000", "10.96.0.1:53", Tuple::UDP);
    expect![[r#"
        48000000 02010500 01000000 00000000 02000000 34000180 14000180 08000100
        0a000001 08000200 0a600001 1c000280 05000100 11000000 06000200 03e80000
        06000300 00350000
    "#]]
    .assert_eq(&hex(&delete(&original).unwrap()));
}

#[test]
fn what_no_entry_can_hold_is_not_encoded() {
    let v4 = tuple("10.0.0.1:1000", "10.96.0.1:53", Tuple::UDP);
    let v6 = tuple("[fd00::1]:1000", "[fd00:96::1]:53", Tuple::UDP);
    let mixed = tuple("10.0.0.1:1000", "[fd00:96::1]:53", Tuple::UDP);
    let tcp = tuple("10.96.0.1:53", "10.0.0.1:1000", Tuple::TCP);
    let icmp = tuple("10.0.0.1:1000", "10.96.0.1:53", 1);
    for (original, reply) in [
        (v4, v6.reversed()),
        (v4, mixed.reversed()),
        (mixed, mixed.reversed()),
        (v4, tcp),
        (icmp, icmp.reversed()),
    ] {
        let flow = Flow::established(original, reply, Duration::ZERO);
        assert_eq!(create(&flow), None, "{original}, {reply}");
    }
    assert_eq!(delete(&mixed), None);
    assert_eq!(delete(&icmp), None);
}

#[test]
fn time_outs_are_whole_seconds_and_never_shorter() {
    let cases = [(0, 0), (1, 1), (1_000, 1), (1_001, 2)];
    for (milliseconds, expected) in cases {
        assert_eq!(seconds(Duration::from_millis(milliseconds)), expected);
    }
    assert_eq!(seconds(Duration::MAX), u32::MAX);
}
