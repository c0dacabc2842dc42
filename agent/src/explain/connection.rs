//! A connection that is there already.

use std::net::SocketAddr;

use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_CLOSING, CONNECTION_FORWARD, CONNECTION_TUNNEL,
    CONNECTION_UNTRANSLATED, CONNECTIONS_MAP, ConnectionV3, OPENING_MAP,
};
use agent_abi::egress::{DIRECT_SERVICE, EGRESS_SERVICE, has_backends};
use agent_abi::settings::SettingsV2;
use model::Protocol;

use super::{ExplainError, Explanation, Facts, Packet, Step, Topic, Verdict, ip, socket};

const SECOND: u64 = 1_000_000_000;

/// An entry in force.
pub(super) struct Existing {
    entry: ConnectionV3,
    backend: Option<SocketAddr>,
}

impl Existing {
    pub(super) fn explanation(&self, packet: &Packet, steps: Vec<Step>) -> Explanation {
        let result = format!("{packet} becomes {}", rewritten(&self.entry));
        Explanation {
            backends: self.backend.iter().map(ToString::to_string).collect(),
            ..Explanation::new(steps, self.verdict(), result)
        }
    }

    fn verdict(&self) -> Verdict {
        match self.entry.service {
            EGRESS_SERVICE => Verdict::Masqueraded,
            DIRECT_SERVICE => Verdict::Untouched,
            _ => Verdict::Balanced,
        }
    }
}

/// The entry of a packet whose source port is known, where it is in force for the next packet.
pub(super) fn find(
    packet: &Packet,
    facts: &Facts<'_>,
    steps: &mut Vec<Step>,
) -> Result<Option<Existing>, ExplainError> {
    if packet.client.port.is_none() {
        return Ok(None);
    }
    let key = packet.tuple();
    let looked_at = |map: &str| format!("{map}[{packet}]");
    let (entry, map) = match facts.lookups.connection(key)? {
        Some(entry) => (entry, CONNECTIONS_MAP),
        None => match facts.lookups.opening(key)? {
            Some(entry) => (entry, OPENING_MAP),
            None => {
                steps.push(Step::new(
                    Topic::Connection,
                    looked_at(&format!("{CONNECTIONS_MAP} and {OPENING_MAP}")),
                    "nothing",
                    "the next packet opens a connection",
                ));
                return Ok(None);
            }
        },
    };
    if entry.flags & CONNECTION_UNTRANSLATED != 0 {
        steps.push(Step::new(
            Topic::Connection,
            looked_at(map),
            "policy's verdict alone",
            "no connection of its is translated; the next packet may open one that is",
        ));
        return Ok(None);
    }
    let idle = facts.lookups.now().saturating_sub(entry.last_seen) / SECOND;
    let backend = facts.lookups.backend(entry.backend)?;
    let limit = lifetime(packet.target.protocol, &entry, &facts.lookups.settings()?);
    let ended = if entry.flags & CONNECTION_FORWARD == 0 {
        None
    } else if entry.flags & CONNECTION_CLOSING != 0 {
        Some("it is closing".to_owned())
    } else if idle > u64::from(limit) {
        Some(format!("it has been silent for longer than {limit} s"))
    } else {
        let is_gone = has_backends(entry.service) && backend.is_none();
        is_gone.then(|| "its backend is gone".to_owned())
    };
    let follows = match (&ended, packet.target.protocol) {
        (None, _) => "its packets become what the entry says; nothing is chosen".to_owned(),
        (Some(why), Protocol::Tcp) => {
            format!("{why}: what is on its way still follows the entry, a SYN opens anew")
        }
        (Some(why), Protocol::Udp | Protocol::Sctp) => format!("{why}: the next packet opens anew"),
    };
    let found = format!(
        "{}; {}, {}, silent for {idle} s",
        rewritten(&entry),
        towards(&entry),
        flags(&entry),
    );
    steps.push(Step::new(Topic::Connection, looked_at(map), found, follows));
    Ok(ended.is_none().then(|| Existing {
        entry,
        backend: backend.map(|backend| socket(&backend.address, backend.port)),
    }))
}

/// Seconds of silence after which an entry is forgotten.
fn lifetime(protocol: Protocol, entry: &ConnectionV3, settings: &SettingsV2) -> u32 {
    match protocol {
        Protocol::Udp => settings.udp_seconds,
        Protocol::Tcp | Protocol::Sctp if entry.flags & CONNECTION_CLOSING != 0 => {
            settings.tcp_closing_seconds
        }
        Protocol::Tcp | Protocol::Sctp => settings.tcp_seconds,
    }
}

fn towards(entry: &ConnectionV3) -> String {
    match entry.service {
        EGRESS_SERVICE => "out of the cluster".to_owned(),
        DIRECT_SERVICE => "from outside to the pod's own address".to_owned(),
        service => format!("backend {}, service {service}", entry.backend),
    }
}

fn rewritten(entry: &ConnectionV3) -> String {
    let to = &entry.rewrite;
    if entry.flags & CONNECTION_TUNNEL != 0 {
        return format!("the same, in a tunnel to {}", ip(&to.destination));
    }
    format!(
        "{} -> {}",
        socket(&to.source, to.source_port),
        socket(&to.destination, to.destination_port)
    )
}

fn flags(entry: &ConnectionV3) -> String {
    let direction = if entry.flags & CONNECTION_FORWARD != 0 {
        "from client to Service"
    } else {
        "replies of another connection"
    };
    let named = [
        (CONNECTION_CLOSING, ", closing"),
        (CONNECTION_TUNNEL, ", in a tunnel"),
        (CONNECTION_ANSWERED, ", answered"),
    ];
    let set = named.iter().filter(|(flag, _)| entry.flags & flag != 0);
    set.fold(direction.to_owned(), |text, (_, name)| text + name)
}
