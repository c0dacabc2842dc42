//! Whether an address and port is a Service's, and what is near it where it is not.

use std::net::IpAddr;

use agent_abi::service::{
    FRONTEND_DIRECT_RETURN, FRONTEND_EXTERNAL, FRONTEND_LOCAL_INSIDE, FRONTEND_LOCAL_OUTSIDE,
    FRONTEND_LOOPBACK, FRONTEND_NODE_PORT, FrontendKeyV1, FrontendV2,
};
use model::{ClusterIps, Kind, Service};

use super::resolve::without_address;
use super::{ExplainError, Facts, Packet, Step, Target, Topic, some_of};
use crate::desired::{Frontend, LbService, LbServiceKey, Pool};
use crate::lb::ebpf::entries::address;

/// A frontend of the kernel, and the unit it should be of.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) value: FrontendV2,
    pub(super) wanted: Option<Wanted<'a>>,
}

/// A frontend that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) key: &'a LbServiceKey,
    pub(super) unit: &'a LbService,
    frontend: &'a Frontend,
}

impl Found<'_> {
    /// What is the cause of it.
    pub(super) fn object(&self) -> Option<&LbServiceKey> {
        self.wanted.map(|wanted| wanted.key)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.value.flags & flag != 0
    }
}

/// Looks a packet's destination up.
pub(super) fn find<'a>(
    packet: &Packet,
    facts: &Facts<'a>,
    steps: &mut Vec<Step>,
) -> Result<Option<Found<'a>>, ExplainError> {
    let target = &packet.target;
    let key = FrontendKeyV1 {
        address: address(target.address.ip()),
        port: target.address.port().to_be_bytes(),
        protocol: target.protocol.number(),
        _pad: 0,
    };
    let looked_at = format!("FRONTENDS_V2[{target}]");
    let wanted = wanted(target, facts);
    let Some(value) = facts.lookups.frontend(key)? else {
        steps.push(match wanted {
            Some(wanted) => missing(looked_at, &wanted, facts),
            None => Step::new(
                Topic::Frontend,
                looked_at,
                "nothing",
                "no Service has this address, port and protocol: packets pass untouched",
            ),
        });
        if wanted.is_none() {
            near(target, facts, steps);
        }
        return Ok(None);
    };
    let found = Found { value, wanted };
    steps.push(present(looked_at, &found));
    steps.extend(differing(&found));
    Ok(Some(found))
}

fn wanted<'a>(target: &Target, facts: &Facts<'a>) -> Option<Wanted<'a>> {
    facts.desired.services.iter().find_map(|(key, unit)| {
        let frontend = unit.frontends.iter().find(|frontend| {
            frontend.address == target.address.ip()
                && frontend.port.get() == target.address.port()
                && frontend.protocol == target.protocol
        })?;
        Some(Wanted {
            key,
            unit,
            frontend,
        })
    })
}

fn present(looked_at: String, found: &Found<'_>) -> Step {
    let named = [
        (FRONTEND_NODE_PORT, "an address of this node"),
        (FRONTEND_LOOPBACK, "loopback"),
        (FRONTEND_EXTERNAL, "known outside of the cluster"),
        (FRONTEND_DIRECT_RETURN, "direct return"),
    ];
    let marks: String = named
        .iter()
        .filter(|(flag, _)| found.has(*flag))
        .map(|(_, name)| format!(", {name}"))
        .collect();
    let what = format!("service {}{marks}", found.value.service);
    match found.wanted {
        Some(wanted) => Step::new(
            Topic::Frontend,
            looked_at,
            what,
            format!(
                "it is the {} of this object",
                wanted.frontend.scope.as_str()
            ),
        )
        .because_of(Some(wanted.key)),
        None => Step::new(
            Topic::Frontend,
            looked_at,
            what,
            "no object asks for this address: the agent removes it when it reads the tables back",
        )
        .differing(),
    }
}

fn missing(looked_at: String, wanted: &Wanted<'_>, facts: &Facts<'_>) -> Step {
    let mut failures = facts.failures.iter();
    let failure = failures.find(|failure| failure.key == *wanted.key);
    let why = failure.map_or("it has not been applied yet", |failure| &failure.reason);
    Step::new(
        Topic::Frontend,
        looked_at,
        "nothing, though it is wanted",
        format!("packets pass untouched until it is there: {why}"),
    )
    .because_of(Some(wanted.key))
    .differing()
}

/// Where the kernel's flags are not those of the wanted frontend.
fn differing(found: &Found<'_>) -> Option<Step> {
    let wanted = found.wanted?;
    let expected = [
        (FRONTEND_LOCAL_INSIDE, wanted.frontend.inside == Pool::Local),
        (
            FRONTEND_LOCAL_OUTSIDE,
            wanted.frontend.outside == Pool::Local,
        ),
        (FRONTEND_DIRECT_RETURN, wanted.frontend.direct_return),
    ];
    let differs = expected.iter().any(|(flag, on)| found.has(*flag) != *on);
    differs.then(|| {
        Step::new(
            Topic::Tables,
            format!("FRONTENDS_V2[{}]", wanted.frontend),
            format!("flags {:#x}", found.value.flags),
            "traffic policies or direct return are not as wanted: the kernel's are explained",
        )
        .because_of(Some(wanted.key))
        .differing()
    })
}

/// What may have been meant.
fn near(target: &Target, facts: &Facts<'_>, steps: &mut Vec<Step>) {
    let ip = target.address.ip();
    let units = facts.desired.services.iter();
    let others: Vec<String> = units
        .flat_map(|(key, unit)| unit.frontends.iter().map(move |frontend| (key, frontend)))
        .filter(|(_, frontend)| frontend.address == ip)
        .map(|(key, frontend)| format!("{}/{} ({key})", frontend.port, frontend.protocol))
        .collect();
    if !others.is_empty() {
        steps.push(Step::new(
            Topic::Frontend,
            format!("what else is wanted at {ip}"),
            some_of(&others),
            "another port or protocol may have been meant",
        ));
    }
    let claiming = facts
        .cluster
        .services()
        .filter(|(_, service)| has(service, ip));
    for (key, service) in claiming {
        let object = format!("Service {key}");
        let problem = facts.problems.iter().find(|problem| {
            problem.kind == Kind::Service
                && problem.key == *key
                && problem.message.contains(&ip.to_string())
        });
        let why = match (&service.proxy_name, without_address(service), problem) {
            (Some(name), _, _) if !matches!(&**name, "kube-router" | "fairlead") => {
                format!("its label gives it to another proxy, {name}")
            }
            (_, Some(why), _) => format!("it {why}"),
            (_, None, Some(problem)) => format!("{}: {}", problem.message, problem.effect),
            (_, None, None) => {
                let ports = service.ports.iter();
                let ports: Vec<String> = ports
                    .map(|port| format!("{}/{}", port.port, port.protocol))
                    .collect();
                format!("its ports are {}", some_of(&ports))
            }
        };
        let step = Step::new(Topic::Service, format!("who claims {ip}"), &object, why);
        steps.push(step.because_of(Some(object)));
    }
}

fn has(service: &Service, ip: IpAddr) -> bool {
    let cluster_ips = match &service.cluster_ips {
        ClusterIps::Assigned(addresses) => &addresses[..],
        ClusterIps::Headless | ClusterIps::Pending => &[],
    };
    cluster_ips.contains(&ip)
        || service.external_ips.contains(&ip)
        || service.load_balancer_ips.contains(&ip)
}
