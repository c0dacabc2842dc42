//! Interfaces as status shows them: where the programs are, and why not.

use std::collections::BTreeMap;

use super::role::Role;
use crate::lb::ebpf::attach::{AttachError, Target};
use crate::sys::links::Link;

/// One interface as status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Index; 0 where it is not there.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it is to the agent.
    pub role: Role,
    /// Whether its driver runs the edge path.
    pub xdp: Xdp,
    /// Why the programs are not there.
    pub error: Option<String>,
}

/// The edge path of one interface. Without it, packets take the way through tc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// `--xdp-devices` does not name the interface.
    NotWanted,
    /// The driver runs it.
    Attached,
    /// It does not, and why.
    Refused(String),
}

pub(super) fn report(roles: &[(&Link, Role)], errors: &[AttachError]) -> Vec<Device> {
    for error in errors {
        tracing::warn!(%error, cause = error.cause(), "tried again in a while");
    }
    let of = |name: &str| errors.iter().find(|error| error.interface() == Some(name));
    let device = |(link, role): &(&Link, Role)| Device {
        index: link.index,
        name: link.name.clone(),
        role: *role,
        xdp: Xdp::NotWanted,
        error: of(&link.name).map(|error| format!("{error}: {}", error.cause())),
    };
    roles.iter().map(device).collect()
}

/// Says of each of `names` what became of the edge path there. `targets` could have it, all but
/// those in `refused` do.
pub(super) fn add_xdp(
    devices: &mut Vec<Device>,
    names: &[String],
    targets: &[Target],
    refused: &BTreeMap<u32, String>,
) {
    for name in names {
        let target = targets.iter().find(|target| target.name == *name);
        let xdp = match target.map(|target| refused.get(&target.index)) {
            Some(None) => Xdp::Attached,
            Some(Some(reason)) => Xdp::Refused(reason.clone()),
            None => Xdp::Refused("not an uplink".to_owned()),
        };
        match devices.iter_mut().find(|device| device.name == *name) {
            Some(device) => device.xdp = xdp,
            None => devices.push(Device {
                index: 0,
                name: name.clone(),
                role: Role::Ignore("not there, but named by --xdp-devices"),
                xdp: Xdp::NotWanted,
                error: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::ebpf::attach::Side;

    #[test]
    fn every_interface_named_for_xdp_says_what_became_of_it() {
        let device = |name: &str, side, xdp| Device {
            index: 2,
            name: name.into(),
            role: Role::Attach(side),
            xdp,
            error: None,
        };
        let target = |index, name: &str| Target {
            index,
            name: name.into(),
            side: Side::Uplink,
        };
        let mut devices = vec![
            device("eth0", Side::Uplink, Xdp::NotWanted),
            device("eth1", Side::Uplink, Xdp::NotWanted),
            device("eth2", Side::Uplink, Xdp::NotWanted),
            device("pod", Side::Workload, Xdp::NotWanted),
        ];
        let reason = "Operation not supported".to_owned();
        add_xdp(
            &mut devices,
            &["eth0", "eth1", "pod", "eth9"].map(str::to_owned),
            &[target(1, "eth0"), target(2, "eth1")],
            &[(2, reason.clone())].into(),
        );
        let absent = Device {
            index: 0,
            name: "eth9".into(),
            role: Role::Ignore("not there, but named by --xdp-devices"),
            xdp: Xdp::NotWanted,
            error: None,
        };
        let not_an_uplink = Xdp::Refused("not an uplink".into());
        assert_eq!(
            devices,
            [
                device("eth0", Side::Uplink, Xdp::Attached),
                device("eth1", Side::Uplink, Xdp::Refused(reason)),
                device("eth2", Side::Uplink, Xdp::NotWanted),
                device("pod", Side::Workload, not_an_uplink),
                absent,
            ]
        );
    }
}
