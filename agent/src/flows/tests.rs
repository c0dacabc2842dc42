//! Events as operators see them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use agent_abi::Address;
use agent_abi::connection::TupleV1;
use agent_abi::counters::Counter;
use agent_abi::flow::{
    FLOW_ALLOWED, FLOW_AUDITED, FLOW_DROPPED, FLOW_REJECTED, FlowV1, HOOK_CONNECT, HOOK_FROM_POD,
    HOOK_TO_POD, HOOK_UPLINK, peer_of_cgroup,
};
use bytemuck::Zeroable as _;
use expect_test::expect;
use jiff::Timestamp;
use model::{IpFamily, ObjectKey, Protocol, Tier};

use super::filter::Filter;
use super::record::{Flow, Line, Verdict};
use super::resolve::{Lookups, resolve};
use crate::desired::policy::{PolicyRef, Reason};
use crate::desired::{LbServiceKey, Owner};
use crate::lb::ebpf::entries::address;

/// Pods shop/web 10.0.1.5 and shop/cart 10.0.1.6, node n1 172.31.0.1, Service shop/web (4), rules 1
/// (isolation by shop/closed), 2 (rule 3 of shop/open) and 3 (rule 0 of the cluster's `admin`).
struct Fake;

impl Lookups for Fake {
    fn pod(&self, address: IpAddr) -> Option<ObjectKey> {
        let name = match address.to_string().as_str() {
            "10.0.1.5" => "web",
            "10.0.1.6" => "cart",
            _ => return None,
        };
        Some(ObjectKey::new("shop", name))
    }

    fn node(&self, address: IpAddr) -> Option<String> {
        (address.to_string() == "172.31.0.1").then(|| "n1".to_owned())
    }

    fn service(&self, id: u32) -> Option<LbServiceKey> {
        (id == 4).then(|| LbServiceKey {
            owner: Owner::Service(ObjectKey::new("shop", "web")),
            port: model::PortName::new(Some("http")),
            protocol: Protocol::Tcp,
            family: IpFamily::V4,
        })
    }

    fn rule(&self, rule: u32) -> Option<Reason> {
        let policy = |tier, key| {
            Arc::new(PolicyRef {
                tier,
                priority: 0,
                key,
            })
        };
        let of_shop = |name| policy(Tier::NetworkPolicy, ObjectKey::new("shop", name));
        match rule {
            1 => Some(Reason::Isolated(of_shop("closed"))),
            2 => Some(Reason::Rule(of_shop("open"), 3)),
            3 => {
                let admin = policy(Tier::Admin, ObjectKey::cluster_scoped("admin"));
                Some(Reason::Rule(admin, 0))
            }
            _ => None,
        }
    }

    fn process(&self, cgroup: u64) -> Option<ObjectKey> {
        (cgroup == 77).then(|| ObjectKey::new("shop", "web"))
    }

    fn interface(&self, index: u32) -> Option<String> {
        (index == 9).then(|| "veth9".to_owned())
    }
}

fn end(text: &str) -> (Address, [u8; 2]) {
    let end: SocketAddr = text.parse().unwrap();
    (address(end.ip()), end.port().to_be_bytes())
}

fn event(
    (verdict, hook, reason): (u8, u8, Counter),
    (protocol, source, destination): (u8, &str, &str),
    change: impl FnOnce(&mut FlowV1),
) -> Flow {
    let ((source, source_port), (destination, destination_port)) = (end(source), end(destination));
    let mut event = FlowV1 {
        tuple: TupleV1 {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            _pad: [0; 3],
        },
        reason: reason as u32,
        interface: 9,
        verdict,
        hook,
        ..FlowV1::zeroed()
    };
    change(&mut event);
    let time = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    resolve(&event, time, &Fake)
}

fn peer(event: &mut FlowV1, text: &str) {
    (event.peer, event.peer_port) = end(text);
}

/// A dropped request to a Service, an audited one to the pod, a refusal, a ping that passes.
fn flows() -> [Flow; 5] {
    let (tcp, icmp) = (6, 1);
    [
        event(
            (FLOW_DROPPED, HOOK_FROM_POD, Counter::DropPolicyEgress),
            (tcp, "10.0.1.6:4000", "10.96.0.1:80"),
            |event| {
                peer(event, "10.0.1.5:8080");
                (event.rule, event.service, event.suppressed) = (1, 4, 7);
                event.begun_by_pod = 1;
            },
        ),
        event(
            (FLOW_AUDITED, HOOK_TO_POD, Counter::PolicyAudited),
            (tcp, "172.31.0.1:1024", "10.0.1.5:8080"),
            |event| {
                peer(event, "198.51.100.9:1024");
                event.rule = 2;
            },
        ),
        event(
            (FLOW_REJECTED, HOOK_UPLINK, Counter::PacketsRejected),
            (tcp, "198.51.100.9:4000", "192.0.2.1:80"),
            |event| event.service = 4,
        ),
        event(
            (FLOW_ALLOWED, HOOK_TO_POD, Counter::PacketConnections),
            (icmp, "10.0.1.6:77", "10.0.1.5:77"),
            |event| {
                peer(event, "10.0.1.6:77");
                event.rule = 3;
            },
        ),
        event(
            (FLOW_DROPPED, HOOK_TO_POD, Counter::DropPolicyIngress),
            (17, "[fd00::7]:53", "[fd00::5]:4000"),
            |event| peer(event, "[fd00::7]:53"),
        ),
    ]
}

#[test]
fn a_line_names_who_sent_what_to_whom_and_why_it_went_no_further() {
    let refused = event(
        (FLOW_REJECTED, HOOK_CONNECT, Counter::SocketRejected),
        (6, "0.0.0.0:0", "10.96.0.1:80"),
        |event| (event.peer, event.service) = (peer_of_cgroup(77), 4),
    );
    let flows = flows().into_iter().chain([refused]);
    let lines: Vec<Line> = flows.map(|flow| Line::Flow(Box::new(flow))).collect();
    let lost = serde_json::from_str(r#"{"lost":12}"#).unwrap();
    let lines = [lines, vec![lost]].concat();
    expect![[r#"
        TIME                      VERDICT   WHERE         CONNECTION                                                          SERVICE   WHY
        2023-11-14T22:13:20.123Z  dropped   from-pod/tcp  shop/cart 10.0.1.6:4000 -> 10.96.0.1:80 at shop/web 10.0.1.5:8080   shop/web  egress: NetworkPolicy shop/closed isolates the pod, and no rule allows it (7 more like it)
        2023-11-14T22:13:20.123Z  audited   to-pod/tcp    n1 172.31.0.1:1024 -> shop/web 10.0.1.5:8080 for 198.51.100.9:1024  -         ingress: rule 3 of NetworkPolicy shop/open
        2023-11-14T22:13:20.123Z  rejected  uplink/tcp    198.51.100.9:4000 -> 192.0.2.1:80                                   shop/web  the Service has no endpoint
        2023-11-14T22:13:20.123Z  allowed   to-pod/icmp   shop/cart 10.0.1.6 -> shop/web 10.0.1.5                             -         ingress: rule 0 of ClusterNetworkPolicy admin
        2023-11-14T22:13:20.123Z  dropped   to-pod/udp    [fd00::7]:53 -> [fd00::5]:4000                                      -         no pod is known at the address, or its rules are not in force
        2023-11-14T22:13:20.123Z  rejected  connect/tcp   shop/web -> 10.96.0.1:80                                            shop/web  the Service has no endpoint
        12 flows are missing here: they came faster than they were read
    "#]].assert_eq(&crate::control::table_of_flows(&lines));
}

#[test]
fn a_record_says_all_of_it_and_travels_whole() {
    let [flow, ..] = flows();
    let json = serde_json::to_string(&flow).unwrap();
    expect![[r#"{"time":"2023-11-14T22:13:20.123Z","verdict":"dropped","reason":"policy_egress","direction":"egress","hook":"from-pod","interface":"veth9","protocol":"tcp","source":{"address":"10.0.1.6","port":4000,"pod":"shop/cart"},"destination":{"address":"10.96.0.1","port":80},"peer":{"address":"10.0.1.5","port":8080,"pod":"shop/web"},"service":{"name":"shop/web","kind":"Service","port":"http"},"policy":{"kind":"NetworkPolicy","name":"shop/closed"},"suppressed":7}"#]].assert_eq(&json);
    let line: Line = serde_json::from_str(&json).unwrap();
    assert_eq!(line, Line::Flow(Box::new(flow)));
}

#[test]
fn conditions_hold_together() {
    let text = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    let cases: [(Filter, &[usize]); 14] = [
        (none(), &[0, 1, 2, 3, 4]),
        (
            Filter {
                pod: text("shop/cart"),
                ..none()
            },
            &[0, 3],
        ),
        // As the backend of a Service too.
        (
            Filter {
                pod: text("shop/web"),
                ..none()
            },
            &[0, 1, 3],
        ),
        (
            Filter {
                pod: text("other/web"),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                namespace: text("shop"),
                ..none()
            },
            &[0, 1, 2, 3],
        ),
        (
            Filter {
                service: text("shop/web"),
                ..none()
            },
            &[0, 2],
        ),
        (
            Filter {
                policy: text("shop/closed"),
                ..none()
            },
            &[0],
        ),
        (
            Filter {
                policy: text("admin"),
                ..none()
            },
            &[3],
        ),
        (
            Filter {
                verdict: Some(Verdict::Dropped),
                ..none()
            },
            &[0, 4],
        ),
        (
            Filter {
                reason: text("policy_ingress"),
                ..none()
            },
            &[4],
        ),
        (
            Filter {
                protocol: text("TCP"),
                ..none()
            },
            &[0, 1, 2],
        ),
        (
            Filter {
                port: Some(8080),
                ..none()
            },
            &[0, 1],
        ),
        (
            Filter {
                port: Some(77),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                pod: text("shop/web"),
                verdict: Some(Verdict::Audited),
                ..none()
            },
            &[1],
        ),
    ];
    let flows = flows();
    for (filter, expected) in cases {
        let wanted = (0..flows.len()).filter(|index| filter.wants(&flows[*index]));
        assert_eq!(wanted.collect::<Vec<_>>(), expected, "{filter:?}");
    }
}
