//! Which records are wanted.

use clap::Args;
use model::ObjectKey;
use serde::{Deserialize, Serialize};

use super::record::{End, Flow, Verdict};

/// Which records are wanted: those that every given condition holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// From or to this pod: NAMESPACE/POD
    #[arg(long, value_name = "POD", value_parser = named)]
    pub pod: Option<String>,
    /// From, to, or by a Service or policy of this namespace
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Through this Service: NAMESPACE/SERVICE
    #[arg(long, value_name = "SERVICE", value_parser = named)]
    pub service: Option<String>,
    /// Decided by this policy: NAMESPACE/POLICY, or the name of a ClusterNetworkPolicy
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// With this verdict
    #[arg(long, value_enum)]
    pub verdict: Option<Verdict>,
    /// For this reason: a drop counter's name, such as policy_ingress or source_range
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Of this protocol: tcp, udp, sctp, icmp
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// From or to this port
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

impl Filter {
    /// Whether a record is wanted.
    pub fn wants(&self, flow: &Flow) -> bool {
        let Self {
            pod,
            namespace,
            service,
            policy,
            verdict,
            reason,
            protocol,
            port,
        } = self;
        let ends = || {
            [&flow.source, &flow.destination]
                .into_iter()
                .chain(&flow.peer)
        };
        let name_of = |name: &String| -> bool {
            let of = |name: &str, namespace: &str| {
                name.split_once('/').is_some_and(|(n, _)| n == namespace)
            };
            let pods = ends().filter_map(|end| end.pod.as_deref());
            let service = flow.service.iter().map(|service| service.name.as_str());
            let policy = flow.policy.iter().map(|policy| policy.name.as_str());
            pods.chain(service)
                .chain(policy)
                .any(|found| of(found, name))
        };
        let any_end = |holds: &dyn Fn(&End) -> bool| ends().any(holds);
        pod.as_ref()
            .is_none_or(|pod| any_end(&|end| end.pod.as_ref() == Some(pod)))
            && namespace.as_ref().is_none_or(name_of)
            && service.as_ref().is_none_or(|name| {
                flow.service
                    .as_ref()
                    .is_some_and(|found| found.name == *name)
            })
            && policy.as_ref().is_none_or(|name| {
                flow.policy
                    .as_ref()
                    .is_some_and(|found| found.name == *name)
            })
            && verdict.is_none_or(|verdict| flow.verdict == verdict)
            && reason.as_ref().is_none_or(|reason| flow.reason == *reason)
            && protocol
                .as_ref()
                .is_none_or(|protocol| flow.protocol.eq_ignore_ascii_case(protocol))
            && port.is_none_or(|port| any_end(&|end| end.port == Some(port)))
    }

    /// Whether it may want connections that pass.
    pub fn wants_allowed(&self) -> bool {
        self.verdict
            .is_none_or(|verdict| verdict == Verdict::Allowed)
    }
}

/// A name with its namespace; `default` where none is given.
fn named(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [name] if !name.is_empty() => Ok(ObjectKey::new("default", name).to_string()),
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectKey::new(namespace, name).to_string())
        }
        _ => Err(format!("`{text}` is not of the form NAMESPACE/NAME")),
    }
}
