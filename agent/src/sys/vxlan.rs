//! The VXLAN devices of this network namespace.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use futures::TryStreamExt as _;
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::new_connection;

use super::links::LinksError;

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vxlan {
    /// Name.
    pub name: String,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Whether it takes packets of any identifier, as some dataplanes have it.
    pub any_vni: bool,
}

/// Every one.
///
/// # Errors
/// Where netlink fails.
pub async fn devices() -> Result<Vec<Vxlan>, LinksError> {
    let (connection, handle, _news) = new_connection()?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    Ok(messages.iter().filter_map(device).collect())
}

fn device(message: &LinkMessage) -> Option<Vxlan> {
    let mut device = None;
    let mut name = String::new();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(known) => name.clone_from(known),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Data(InfoData::Vxlan(data)) = info {
                        device = Some(of(data));
                    }
                }
            }
            _ => {}
        }
    }
    device.map(|device| Vxlan { name, ..device })
}

fn of(data: &[InfoVxlan]) -> Vxlan {
    let mut device = Vxlan::default();
    for attribute in data {
        match attribute {
            InfoVxlan::Id(vni) => device.vni = *vni,
            InfoVxlan::Port(port) => device.port = *port,
            InfoVxlan::CollectMetadata(any) => device.any_vni = *any,
            _ => {}
        }
    }
    device
}
