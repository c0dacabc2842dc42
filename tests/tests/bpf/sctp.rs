//! SCTP: its checksum covers the whole packet and no address, and is kept right unread.

use crate::lab::{At, Lab};
use crate::wire::{LINK, ethernet, sctp};

/// One connection: who, to what Service, at which backend.
const CONNECTIONS: [(&str, &str, &str); 2] = [
    ("10.244.1.5:4000", "10.96.0.10:3868", "10.244.2.7:13868"),
    (
        "[fd00:10::5]:4000",
        "[fd00:96::10]:3868",
        "[fd00:20::7]:13868",
    ),
];

/// Runs packets of every connection both ways, each changed by `change` before it is sent and
/// before it is compared.
#[track_caller]
fn check(lengths: impl Iterator<Item = u16> + Clone, change: fn(&mut Vec<u8>)) {
    let mut lab = Lab::new();
    for (client, service, backend) in CONNECTIONS {
        lab.service("sctp", service, backend);
        let [client, service, backend] =
            [client, service, backend].map(|text| text.parse().unwrap());
        for length in lengths.clone() {
            let chunks: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
            let packet = |source, destination| {
                let mut frame = ethernet(&sctp(source, destination, &chunks));
                change(&mut frame);
                frame
            };
            for (at, sent, expected) in [
                (At::Pod, packet(client, service), packet(client, backend)),
                (At::Uplink, packet(backend, client), packet(service, client)),
            ] {
                let (verdict, got) = lab.run_frame(at, &sent);
                assert_eq!(verdict, "redirect", "{service}, {length} bytes");
                assert!(got == expected, "{service}, {length} bytes: {got:02x?}");
            }
        }
    }
}

#[test]
fn ports_and_addresses_change_both_ways_and_the_checksum_with_them() {
    check((4..=1400).step_by(4), |_| {});
}

#[test]
fn a_checksum_of_zero_is_the_devices_and_is_left_alone() {
    check([4, 100, 1400].into_iter(), |frame| {
        let transport = if frame[LINK] >> 4 == 6 { 40 } else { 20 };
        frame[LINK + transport + 8..][..4].fill(0);
    });
}

#[test]
fn bytes_behind_the_packet_are_no_part_of_its_checksum() {
    // Ethernet pads to 60 bytes.
    check([4].into_iter(), |frame| frame.resize(frame.len() + 14, 0));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let mut lab = Lab::new();
    let (client, service, backend) = CONNECTIONS[0];
    lab.service("sctp", service, backend);
    let ends = |text: &str| text.parse().unwrap();
    let mut sent = ethernet(&sctp(ends(client), ends(service), &[0; 64]));
    let mut expected = ethernet(&sctp(ends(client), ends(backend), &[0; 64]));
    for frame in [&mut sent, &mut expected] {
        *frame.last_mut().unwrap() ^= 1;
    }
    assert_eq!(lab.run_frame(At::Pod, &sent).1, expected);
}

/// The first bytes of chunks (RFC 9260 §3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;
const ABORT: u8 = 6;

#[test]
fn an_association_stays_with_a_backend_that_is_no_longer_in_the_set_until_it_ends() {
    for (client, service, backend) in CONNECTIONS {
        let mut lab = Lab::new();
        let id = lab.service("sctp", service, backend);
        let other = if service.starts_with('[') {
            "[fd00:20::8]:13868"
        } else {
            "10.244.2.8:13868"
        };
        let ends = |text: &str| text.parse().unwrap();
        let packet = |from, to, chunk| ethernet(&sctp(ends(from), ends(to), &[chunk, 0, 0, 4]));
        let sends = |lab: &mut Lab, chunk, to| {
            let got = lab.run_frame(At::Pod, &packet(client, service, chunk)).1;
            assert!(got == packet(client, to, chunk), "{chunk}: {got:02x?}");
        };
        sends(&mut lab, INIT, backend);
        lab.run_frame(At::Uplink, &packet(backend, client, DATA));
        lab.set_backends(id, other);
        sends(&mut lab, DATA, backend);
        sends(&mut lab, ABORT, backend);
        sends(&mut lab, INIT, other);
    }
}
