//! What the kernel has of the agent's, in a few milliseconds: programs that print it take longer than
//! a repair does.

use std::collections::BTreeSet;

use cni::netlink::Netlink;
use cni::range::Family;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tests::harness::Namespace;

use super::OVERLAY;

/// The agent's protocol, and the priority of its rules.
const PROTOCOL: u8 = 71;
const PRIORITY: u32 = 7100;

/// A socket in a node's namespace.
pub(super) struct Kernel(Netlink);

impl Kernel {
    #[track_caller]
    pub(super) fn open(namespace: &Namespace) -> Self {
        Self(namespace.run(|| Ok(Netlink::open()?)).unwrap())
    }

    /// Everything, a line each.
    #[track_caller]
    pub(super) fn look(&mut self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let index = self.device(&mut found);
        for (family, of_rules) in [
            (Family::V4, AddressFamily::Inet),
            (Family::V6, AddressFamily::Inet6),
        ] {
            self.routes(family, &mut found);
            self.rules(of_rules, &mut found);
            self.neighbours(of_rules, index, &mut found);
        }
        self.neighbours(AddressFamily::Bridge, index, &mut found);
        found
    }

    /// What differs from an earlier look.
    #[track_caller]
    pub(super) fn differs(&mut self, from: &BTreeSet<String>) -> BTreeSet<String> {
        &self.look() ^ from
    }

    #[track_caller]
    fn dump(&mut self, question: RouteNetlinkMessage) -> Vec<RouteNetlinkMessage> {
        self.0.exchange(question, NLM_F_DUMP).unwrap()
    }

    fn device(&mut self, found: &mut BTreeSet<String>) -> u32 {
        for answer in self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())) {
            let RouteNetlinkMessage::NewLink(link) = answer else {
                continue;
            };
            let is_named =
                |attribute: &LinkAttribute| *attribute == LinkAttribute::IfName(OVERLAY.to_owned());
            if link.attributes.iter().any(is_named) {
                let mtu = cni::netlink::mtu(&link);
                let up = link.header.flags.contains(LinkFlags::Up);
                found.insert(format!("device up {up} mtu {mtu:?}"));
                return link.header.index;
            }
        }
        0
    }

    fn routes(&mut self, family: Family, found: &mut BTreeSet<String>) {
        for route in self.0.routes(family).unwrap() {
            if u8::from(route.header.protocol) != PROTOCOL {
                continue;
            }
            let attributes = route.attributes.iter().filter(|attribute| {
                matches!(
                    attribute,
                    RouteAttribute::Destination(_)
                        | RouteAttribute::Gateway(_)
                        | RouteAttribute::MultiPath(_)
                        | RouteAttribute::Priority(_)
                        | RouteAttribute::PrefSource(_)
                        | RouteAttribute::Table(_)
                )
            });
            let length = route.header.destination_prefix_length;
            let kind = route.header.kind;
            found.insert(format!(
                "route {kind:?} /{length} {:?}",
                attributes.collect::<Vec<_>>()
            ));
        }
    }

    fn rules(&mut self, family: AddressFamily, found: &mut BTreeSet<String>) {
        let mut question = RuleMessage::default();
        question.header.family = family;
        for answer in self.dump(RouteNetlinkMessage::GetRule(question)) {
            if let RouteNetlinkMessage::NewRule(rule) = answer
                && rule.attributes.contains(&RuleAttribute::Priority(PRIORITY))
            {
                found.insert(format!("{rule:?}"));
            }
        }
    }

    fn neighbours(&mut self, family: AddressFamily, index: u32, found: &mut BTreeSet<String>) {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        for answer in self.dump(RouteNetlinkMessage::GetNeighbour(question)) {
            let RouteNetlinkMessage::NewNeighbour(entry) = answer else {
                continue;
            };
            if entry.header.ifindex != index || entry.header.state != NeighbourState::Permanent {
                continue;
            }
            let attributes = entry.attributes.iter().filter(|attribute| {
                matches!(
                    attribute,
                    NeighbourAttribute::Destination(_) | NeighbourAttribute::LinkLayerAddress(_)
                )
            });
            found.insert(format!(
                "neighbour {family:?} {:?}",
                attributes.collect::<Vec<_>>()
            ));
        }
    }
}
