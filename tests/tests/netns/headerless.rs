//! Devices without Ethernet headers under an agent: the overlay's own gets its program, no other any.
//! A TUN device stands for IPIP's, which not every kernel makes.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use etherparse::{TcpHeaderSlice, TcpOptionElement};
use tests::harness::{
    Agent, AgentOptions, Place, Tun, attachments, eventually, has_tcx, inventory,
};
use tests::packets::is_valid_packet;

use crate::cluster::Cluster;

/// As the agent names the overlay's device.
const OURS: &str = "fairlead-ipip";
const ANOTHERS: &str = "wg0";

/// A device of `mtu`, behind which everybody is told to ask for segments of 1,460.
#[track_caller]
fn device(place: &Place, name: &str, network: &str, mtu: u32) -> Tun {
    let tun = place.namespace.run(|| Tun::new(name)).unwrap();
    let lines = format!(
        "addr add {network}.1/32 dev {name}\nlink set {name} mtu {mtu} up\nroute add {network}.0/24 dev {name} advmss 1460\n"
    );
    place.namespace.ip(&lines).unwrap();
    tun
}

/// What a connection that leaves by the device asks for.
#[track_caller]
fn asked(place: &Place, tun: &mut Tun, to: &str) -> u16 {
    let to: SocketAddr = to.parse().unwrap();
    let patience = Duration::from_millis(50);
    let is_answered = || Ok(TcpStream::connect_timeout(&to, patience).is_ok());
    assert!(!place.namespace.run(is_answered).unwrap());
    let packet = tun.next(|found| found[0] == 0x45 && found[9] == 6).unwrap();
    assert!(is_valid_packet(&packet), "{packet:?}");
    let tcp = TcpHeaderSlice::from_slice(&packet[20..]).unwrap();
    let mut options = tcp.options_iterator();
    options
        .find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
            _ => None,
        })
        .unwrap()
}

/// The programs at both devices.
fn programs(place: &Place) -> Vec<String> {
    let mut found = attachments(place).unwrap();
    found.retain(|line| [OURS, ANOTHERS].iter().any(|name| line.contains(name)));
    found
}

#[test]
fn the_overlays_own_device_alone_gets_a_program() {
    for flag in ["--enable-tcx=true", "--enable-tcx=false"] {
        if flag == "--enable-tcx=true" && !has_tcx() {
            eprintln!("this kernel has no tcx");
            continue;
        }
        let options = AgentOptions::flags(&[flag]);
        let mut cluster = Cluster::without_agents(options, &[]).with_agents(&["node1"]);
        let place = cluster.lab.place("node1").clone();
        // The programs are kept for the next interface, and for the next start.
        let kept = |line: &String| line.contains("/programs/");
        let others = || {
            let mut found = inventory(&cluster.lab, "node1").unwrap();
            found.retain(|line| !kept(line));
            found
        };
        let before = others();
        let mut ours = device(&place, OURS, "10.99.1", 1300);
        let mut anothers = device(&place, ANOTHERS, "10.99.2", 1300);
        eventually("the program is attached", || {
            let found = programs(&place);
            let done = found.len() == 1
                && found[0].contains(OURS)
                && found[0].contains("egress: ")
                && found[0].contains("tunnel_egress");
            anyhow::ensure!(done, "{flag}: {found:?}");
            Ok(Some(()))
        })
        .unwrap();
        for (name, role) in [(OURS, "tunnel"), (ANOTHERS, "no Ethernet header")] {
            eventually("status says so", || {
                let status = cluster.agents["node1"].status()?;
                let devices = status["devices"].as_array().cloned().unwrap_or_default();
                let found = devices.iter().find(|device| device["name"] == name);
                let said = found.and_then(|device| device["role"].as_str());
                anyhow::ensure!(said.is_some_and(|said| said.starts_with(role)), "{said:?}");
                Ok(Some(()))
            })
            .unwrap();
        }
        assert_eq!(asked(&place, &mut ours, "10.99.1.2:80"), 1260, "{flag}");
        assert_eq!(asked(&place, &mut anothers, "10.99.2.2:80"), 1460, "{flag}");
        place
            .namespace
            .ip(&format!("link set {OURS} mtu 1200\n"))
            .unwrap();
        let mut address = 2;
        eventually("the size is followed", || {
            address += 1;
            let asked = asked(&place, &mut ours, &format!("10.99.1.{address}:80"));
            anyhow::ensure!(asked == 1160, "{asked}");
            Ok(Some(()))
        })
        .unwrap();
        drop((ours, anothers));
        eventually("what was there for it is gone", || {
            let left = others();
            anyhow::ensure!(left == before, "{flag}: {left:?}");
            Ok(Some(()))
        })
        .unwrap();
        // It stays when the agent goes, as all programs do, until it is cleaned up.
        let mut ours = device(&place, OURS, "10.99.1", 1300);
        eventually("the program is attached anew", || {
            Ok((programs(&place).len() == 1).then_some(()))
        })
        .unwrap();
        cluster.agents.remove("node1");
        assert_eq!(asked(&place, &mut ours, "10.99.1.4:80"), 1260, "{flag}");
        let answer = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(
            inventory(&cluster.lab, "node1").unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(asked(&place, &mut ours, "10.99.1.5:80"), 1460, "{flag}");
    }
}
