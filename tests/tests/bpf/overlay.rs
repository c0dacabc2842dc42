//! The overlay's own packets, which carry those of pods.

use crate::lab::{At, Lab};

const PORT: u16 = 4789;

/// A node with an overlay, and a Service of each family at the overlay's port.
fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.service("udp", "172.31.0.1:4789", "10.244.1.5:53");
    lab.service("udp", "[fd00::1]:4789", "[fd00:10::5]:53");
    lab.service("udp", "10.96.0.10:4789", "10.244.1.5:53");
    lab.settings(|settings| settings.overlay_port = PORT.to_be_bytes());
    lab
}

#[test]
fn between_nodes_it_is_for_no_service() {
    let mut lab = lab();
    for (at, packet) in [
        (At::Uplink, "udp 172.31.0.2:40000 > 172.31.0.1:4789"),
        (At::Uplink, "udp [fd00::2]:40000 > [fd00::1]:4789"),
        (At::Node, "udp 172.31.0.1:40000 > 172.31.0.2:4789"),
        (At::Node, "udp [fd00::1]:40000 > [fd00::2]:4789"),
    ] {
        assert_eq!(lab.run(at, packet), format!("pass {packet}"));
    }
}

#[test]
fn from_anybody_else_and_to_anything_else_the_port_is_like_any_other() {
    let mut lab = lab();
    for (at, packet) in [
        (At::Uplink, "udp 172.31.9.9:40000 > 172.31.0.1:4789"),
        (At::Uplink, "udp 172.31.0.2:40000 > 10.96.0.10:4789"),
        (At::Node, "udp 172.31.0.1:40000 > 10.96.0.10:4789"),
        (At::Pod, "udp 10.244.1.6:40000 > 172.31.0.1:4789"),
    ] {
        let found = lab.run(at, packet);
        assert!(found.contains("10.244.1.5:53"), "{packet}: {found}");
    }
}

#[test]
fn without_an_overlay_no_port_is_its_own() {
    let mut lab = lab();
    lab.settings(|settings| settings.overlay_port = [0; 2]);
    let found = lab.run(At::Uplink, "udp 172.31.0.2:40000 > 172.31.0.1:4789");
    assert!(found.contains("10.244.1.5:53"), "{found}");
}
