//! How servers became others, line by line.

use std::collections::BTreeMap;

use super::{Cause, origin_of};
use crate::edge::EdgePlan;
use crate::haproxy::runtime::command::{Command, ServerRef, ServerStatus};
use crate::haproxy::runtime::config::{Config, ServerLine};
use crate::haproxy::runtime::leaving::Leaving;

/// Words of a `server` line that HAProxy 2.6 refuses at runtime. Its refusal of any other one is
/// answered by a reload as well; these are known before anything was changed.
const KEYWORDS_THAT_NEED_A_START: [&str; 7] = [
    "cookie",
    "init-addr",
    "observe",
    "redir",
    "resolvers",
    "slowstart",
    "track",
];

/// How the servers of one configuration became those of another.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) additions: Vec<Command>,
    /// What comes after all that adds.
    pub(super) removals: Vec<Command>,
    /// What commands cannot do.
    pub(super) causes: Vec<Cause>,
}

pub(super) fn servers(
    was: &Config<'_>,
    is: &Config<'_>,
    plan: &EdgePlan,
    leaving: &Leaving,
) -> Servers {
    let mut found = Servers::default();
    let before: BTreeMap<ServerRef, &ServerLine<'_>> = was.servers().collect();
    let after: BTreeMap<ServerRef, &ServerLine<'_>> = is.servers().collect();
    for (server, line) in &after {
        let change = match before.get(server) {
            Some(was) if was == line => continue,
            Some(was) => changed(server, was, line),
            None => match leaving.servers.get(server) {
                Some(left) if left.options == options(line) => returning(server, line),
                Some(_) => Err("is still leaving with other options"),
                None => added(server, line),
            },
        };
        match change {
            Ok(commands) => {
                // Who takes over has to be there first.
                let (last, first): (Vec<_>, Vec<_>) = commands.into_iter().partition(takes_away);
                found.additions.extend(first);
                found.removals.extend(last);
            }
            Err(why) => {
                let what = format!("backend {}: a server {why}", server.backend);
                let origin = origin_of(plan, &server.backend);
                found.causes.push(Cause::by(what, origin));
            }
        }
    }
    let gone = before.keys().filter(|server| !after.contains_key(*server));
    found.removals.extend(gone.map(|server| Command::SetStatus {
        server: server.clone(),
        status: ServerStatus::Maintenance,
    }));
    found
}

/// Whether a server gets nothing new from here on.
fn takes_away(command: &Command) -> bool {
    matches!(command, Command::SetWeight { weight, .. } if weight == "0")
        || matches!(command, Command::SetStatus { status, .. } if *status != ServerStatus::Ready)
}

fn options(line: &ServerLine<'_>) -> Vec<String> {
    line.options.iter().map(|word| (*word).to_owned()).collect()
}

/// What a server that leaves is remembered by.
pub(crate) fn options_of(text: &str) -> BTreeMap<ServerRef, Vec<String>> {
    let config = Config::parse(text);
    config
        .servers()
        .map(|(server, line)| (server, options(line)))
        .collect()
}

type Commands = Result<Vec<Command>, &'static str>;

fn added(server: &ServerRef, line: &ServerLine<'_>) -> Commands {
    if line.socket().is_none() {
        return Err("is added at a name, which only a start resolves");
    }
    let needs_start = |word: &&str| KEYWORDS_THAT_NEED_A_START.contains(word);
    if line.options.iter().any(needs_start) {
        return Err("is added with an option that only a start takes");
    }
    Ok(vec![Command::AddServer {
        server: server.clone(),
        address: line.address.to_owned(),
        options: line.words(),
    }])
}

fn returning(server: &ServerRef, line: &ServerLine<'_>) -> Commands {
    let (address, port) = line.socket().ok_or("comes back at a name")?;
    let server = || server.clone();
    Ok(vec![
        Command::SetAddress {
            server: server(),
            address: address.to_string(),
            port: port.to_owned(),
        },
        Command::SetWeight {
            server: server(),
            weight: line.weight.to_owned(),
        },
        Command::SetStatus {
            server: server(),
            status: ServerStatus::Ready,
        },
    ])
}

fn changed(server: &ServerRef, was: &ServerLine<'_>, is: &ServerLine<'_>) -> Commands {
    let without = |line: &ServerLine<'_>| -> Vec<String> {
        let words = options(line).into_iter();
        words.filter(|word| word != "disabled").collect()
    };
    if without(was) != without(is) {
        return Err("has other options");
    }
    let mut commands = Vec::new();
    if was.address != is.address {
        let (address, port) = is.socket().ok_or("moves to a name")?;
        was.socket().ok_or("moves from a name")?;
        commands.push(Command::SetAddress {
            server: server.clone(),
            address: address.to_string(),
            port: port.to_owned(),
        });
    }
    if was.weight != is.weight {
        commands.push(Command::SetWeight {
            server: server.clone(),
            weight: is.weight.to_owned(),
        });
    }
    let is_disabled = |line: &ServerLine<'_>| line.options.contains(&"disabled");
    if is_disabled(was) != is_disabled(is) {
        let status = if is_disabled(is) {
            ServerStatus::Maintenance
        } else {
            ServerStatus::Ready
        };
        commands.push(Command::SetStatus {
            server: server.clone(),
            status,
        });
    }
    Ok(commands)
}
