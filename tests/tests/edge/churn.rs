//! Many changes under load.

use crate::lab::{Edge, Kind, Lab, Load, request, server};

/// One endpoint at a time comes, goes, moves or weighs another; every fiftieth change is one of
/// structure.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_endpoint_changes_and_twenty_reloads_lose_no_request() {
    let mut lab = Lab::new(Kind::Haproxy);
    let ports: Vec<u16> = (0..6).map(|n| server(&format!("s{n}"))).collect();
    lab.shop.serve("web", &[("s0", ports[0]), ("s1", ports[1])]);
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    let before = edge.status().totals;
    let load = Load::start(lab.port, "web.example", 3);
    let (mut longest, mut most_old) = (0.0_f64, 0);
    for change in 0..1000_usize {
        let web = lab.shop.services.get_mut("web").unwrap();
        let name = format!("s{}", change % 6);
        match (change / 6) % 4 {
            0 if !web.servers.iter().any(|(server, ..)| *server == name) => {
                web.servers.push((name, ports[change % 6], 1));
            }
            1 => {
                let at = change % web.servers.len();
                web.servers[at].1 = ports[(change + 1) % 6];
            }
            2 if web.servers.len() > 1 => {
                web.servers.remove(0);
            }
            _ => {
                let at = change % web.servers.len();
                web.servers[at].2 = 1 + u16::try_from(change % 200).unwrap();
            }
        }
        edge.offer(&lab.shop);
        let status = edge.live().await.unwrap();
        longest = longest.max(status.waited_seconds);
        if change % 50 == 49 {
            lab.shop
                .serve(&format!("extra{change}"), &[("x", ports[0])]);
            edge.offer(&lab.shop);
            let status = edge.live().await.unwrap();
            most_old = most_old.max(status.old_processes);
        }
    }
    let (good, bad) = load.stop();
    let status = edge.stop().await;
    assert_eq!(bad, Vec::<String>::new(), "of {good} requests");
    assert!(good > 1000, "{good} requests");
    assert_eq!(
        status.totals.reloads() - before.reloads(),
        20,
        "{status:#?}"
    );
    assert!(status.totals.runtime_changes >= 900, "{status:#?}");
    assert!(most_old.max(status.old_processes) <= 8, "{most_old}");
    assert_eq!(request(lab.port, "extra999.example").unwrap().0, 200);
    eprintln!(
        "{good} requests, longest change {longest:.3} s, {:?}",
        status.totals
    );
}
