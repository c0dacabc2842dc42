//! Services without endpoints answer at once.

use agent_abi::counters::Counter;
use expect_test::expect;

use crate::lab::{At, Lab};
use crate::packet::{describe, frame};

#[test]
fn tcp_is_reset() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80 [fd00:96::10]:80 172.31.0.1:30080", "");
    expect!["redirect tcp 10.96.0.10:80 > 10.244.1.5:4000 RA seq 0 ack 1001"]
        .assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S"));
    expect!["redirect tcp [fd00:96::10]:80 > [fd00:10::5]:4000 RA seq 0 ack 1001"]
        .assert_eq(&lab.run(At::Pod, "tcp [fd00:10::5]:4000 > [fd00:96::10]:80 S"));
    expect!["redirect tcp 172.31.0.1:30080 > 172.31.9.9:4000 R seq 5000 ack 0"]
        .assert_eq(&lab.run(At::Uplink, "tcp 172.31.9.9:4000 > 172.31.0.1:30080 A"));
    assert_eq!(lab.counter(Counter::PacketsRejected), 3);
}

#[test]
fn a_reset_does_not_acknowledge_what_ethernet_pads() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "");
    let mut padded = frame("tcp 10.244.1.5:4000 > 10.96.0.10:80 S");
    padded.resize(60, 0);
    let (_, got) = lab.run_frame(At::Pod, &padded);
    expect!["tcp 10.96.0.10:80 > 10.244.1.5:4000 RA seq 0 ack 1001"].assert_eq(&describe(&got));
}

#[test]
fn a_reset_is_not_answered() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "");
    expect!["drop"].assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 R"));
}

#[test]
fn udp_is_unreachable() {
    let mut lab = Lab::new();
    lab.service("udp", "10.96.0.10:53 [fd00:96::10]:53", "");
    expect!["redirect icmp 10.96.0.10 > 10.244.1.5 unreachable DestinationUnreachable(Port) quoting 28 bytes"]
        .assert_eq(&lab.run(At::Pod, "udp 10.244.1.5:4000 > 10.96.0.10:53"));
    expect![
        "redirect icmp6 fd00:96::10 > fd00:10::5 DestinationUnreachable(Port) quoting 48 bytes"
    ]
    .assert_eq(&lab.run(At::Pod, "udp [fd00:10::5]:4000 > [fd00:96::10]:53"));
}

#[test]
fn the_node_itself_is_answered_too() {
    let mut lab = Lab::new();
    lab.service("udp", "10.96.0.10:53", "");
    expect!["redirect icmp 10.96.0.10 > 172.31.0.1 unreachable DestinationUnreachable(Port) quoting 28 bytes"]
        .assert_eq(&lab.run(At::Node, "udp 172.31.0.1:4000 > 10.96.0.10:53"));
}
