//! Which source address a backend sees, and that replies find their way back.

use agent_abi::settings::SETTING_MASQUERADE_ALL;
use expect_test::expect;

use crate::lab::{At, Lab, address};

/// Takes the source apart from `redirect udp SOURCE > DESTINATION`.
fn source(packet: &str) -> String {
    packet.split_whitespace().nth(2).unwrap().to_owned()
}

#[test]
fn node_port_with_a_local_backend_keeps_the_clients_address() {
    let mut lab = Lab::new();
    lab.service("udp", "172.31.0.1:30053", "10.244.1.5:53");
    expect!["redirect udp 172.31.9.9:4000 > 10.244.1.5:53"]
        .assert_eq(&lab.run(At::Uplink, "udp 172.31.9.9:4000 > 172.31.0.1:30053"));
    expect!["redirect udp 172.31.0.1:30053 > 172.31.9.9:4000"]
        .assert_eq(&lab.run(At::Pod, "udp 10.244.1.5:53 > 172.31.9.9:4000"));
}

#[test]
fn node_port_with_a_remote_backend_has_the_nodes_address_and_a_free_port() {
    for (service, client, node, backend) in [
        (
            "172.31.0.1:30080",
            "172.31.9.9:4000",
            "172.31.0.1",
            "10.244.2.7:80",
        ),
        (
            "[fd00::1]:30080",
            "[fd00::99]:4000",
            "[fd00::1]",
            "[fd00:20::7]:80",
        ),
    ] {
        let mut lab = Lab::new();
        lab.service("tcp", service, backend);
        let there = lab.run(At::Uplink, &format!("tcp {client} > {service} S"));
        let translated = source(&there);
        let (address, port) = translated.rsplit_once(':').unwrap();
        assert_eq!(address, node);
        assert!(
            (1024..30_000).contains(&port.parse().unwrap()),
            "{translated}"
        );
        assert_eq!(there, format!("redirect tcp {translated} > {backend} S"));
        assert_eq!(
            lab.run(At::Uplink, &format!("tcp {backend} > {translated} SA")),
            format!("redirect tcp {service} > {client} SA")
        );
    }
}

#[test]
fn a_pod_that_gets_itself_sees_the_services_address() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.1.5:8080");
    expect!["redirect tcp 10.96.0.10:4000 > 10.244.1.5:8080 S"]
        .assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S"));
    expect!["redirect tcp 10.96.0.10:80 > 10.244.1.5:4000 SA"]
        .assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:8080 > 10.96.0.10:4000 SA"));
}

#[test]
fn masquerade_all_hides_the_pod() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    lab.configure(SETTING_MASQUERADE_ALL, [0; 16], 0);
    let there = lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S");
    let translated = source(&there);
    assert!(translated.starts_with("172.31.0.1:"), "{there}");
    assert_eq!(
        lab.run(At::Uplink, &format!("tcp 10.244.2.7:80 > {translated} SA")),
        "redirect tcp 10.96.0.10:80 > 10.244.1.5:4000 SA"
    );
}

#[test]
fn cluster_cidr_masquerades_cluster_ip_clients_from_outside_it_only() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.1.5:80");
    lab.configure(0, address("10.244.0.0"), 96 + 16);
    let outside = lab.run(At::Uplink, "tcp 172.31.9.9:4000 > 10.96.0.10:80 S");
    assert!(source(&outside).starts_with("172.31.0.1:"), "{outside}");
    expect!["redirect tcp 10.244.3.3:4000 > 10.244.1.5:80 S"]
        .assert_eq(&lab.run(At::Uplink, "tcp 10.244.3.3:4000 > 10.96.0.10:80 S"));
}
