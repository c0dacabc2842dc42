//! The overlay's device, to and from netlink's messages.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use std::net::IpAddr;

use netlink_packet_route::link::{
    InfoData, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkIpIp, LinkUnspec, LinkVxlan};

use crate::route::image::{ALIAS, DEVICES, Device, Mac, Tunnel};
use crate::sys::sysctl;

/// Replies may come another way than where they would go: a node behind the overlay asks a pod from
/// the address it has outside of it.
const LOOSE: &str = "2";

/// The overlay's device, where the link is one. An alias is set right after a device is made, so one
/// without was left by an agent that was killed in between.
pub(super) fn own_device(link: &LinkMessage) -> Option<Result<Device, &'static str>> {
    let known = name_of(link)?;
    let name = DEVICES.into_iter().find(|name| *name == known)?;
    let (mut kind, mut data, mut mac, mut mtu, mut alias) = (None, None, None, 0, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac),
            LinkAttribute::Mtu(value) => mtu = *value,
            LinkAttribute::IfAlias(value) => alias = Some(value.as_str()),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(value) => kind = Some(value),
                        LinkInfo::Data(value) => data = Some(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let of_kind = matches!(
        (name, kind),
        ("fairlead-vxlan", Some(InfoKind::Vxlan)) | ("fairlead-ipip", Some(InfoKind::IpIp))
    );
    if !of_kind || alias.is_some_and(|alias| alias != ALIAS) {
        return Some(Err(name));
    }
    let tunnel = match data {
        Some(InfoData::Vxlan(infos)) => vxlan(infos, mac),
        Some(InfoData::IpTunnel(infos)) => ip_ip(infos),
        _ => None,
    };
    let as_set = settings(name).iter().all(|(setting, value)| {
        let found = sysctl::get(setting).ok().flatten();
        found.is_none_or(|found| found == *value)
    });
    let up = link.header.flags.contains(LinkFlags::Up);
    Some(Ok(Device {
        tunnel: tunnel.unwrap_or(Tunnel::Other),
        mtu,
        up: up && as_set && alias.is_some(),
    }))
}

fn vxlan(infos: &[InfoVxlan], mac: Option<Mac>) -> Option<Tunnel> {
    let (mut id, mut to, mut from, mut learning) = (None, None, None, true);
    for info in infos {
        match info {
            InfoVxlan::Id(value) => id = Some(*value),
            InfoVxlan::Port(value) => to = Some(*value),
            InfoVxlan::Local(value) => from = Some(IpAddr::from(*value)),
            InfoVxlan::Local6(value) => from = Some(IpAddr::from(*value)),
            InfoVxlan::Learning(value) => learning = *value,
            _ => {}
        }
    }
    Some(Tunnel::Vxlan {
        vni: id?,
        port: to?,
        local: from.filter(|_| !learning)?,
        mac: mac?,
    })
}

fn ip_ip(infos: &[InfoIpTunnel]) -> Option<Tunnel> {
    infos.iter().find_map(|info| match info {
        InfoIpTunnel::Local(local) => Some(Tunnel::IpIp { local: *local }),
        _ => None,
    })
}

pub(super) fn fresh(device: &Device) -> LinkMessage {
    let name = device.tunnel.device();
    match device.tunnel {
        Tunnel::Vxlan {
            vni,
            port,
            local,
            mac,
        } => {
            let builder = LinkVxlan::new(name, vni).port(port).learning(false);
            let builder = match local {
                IpAddr::V4(local) => builder.local(local),
                IpAddr::V6(local) => builder.local6(local),
            };
            let builder = builder.address(mac.0.to_vec()).mtu(device.mtu);
            builder.build()
        }
        Tunnel::IpIp { local } => {
            let builder = LinkIpIp::new(name).mtu(device.mtu);
            match local {
                IpAddr::V4(local) => builder.local(local).build(),
                IpAddr::V6(_) => builder.build(),
            }
        }
        Tunnel::Other => LinkUnspec::new_with_name(name).build(),
    }
}

/// Settings of the overlay's device. It needs no address of its own: what the node sends there has
/// the node's.
pub(super) fn settings(device: &str) -> [(String, &'static str); 2] {
    [
        (format!("net.ipv4.conf.{device}.rp_filter"), LOOSE),
        (format!("net.ipv6.conf.{device}.addr_gen_mode"), "1"),
    ]
}

pub(super) fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}
