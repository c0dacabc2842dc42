//! HAProxy's configuration as text, as far as it tells what needs a reload.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::answer::LiveServer;
use super::command::ServerRef;

/// The sections of a configuration, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config<'a> {
    pub(super) sections: Vec<Section<'a>>,
}

/// One section.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section<'a> {
    /// `global`, `defaults`, `frontend`, `backend`, `listen` and so on.
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    /// Every line but those of [`Self::servers`], without indentation and comments.
    pub(super) lines: Vec<&'a str>,
    /// By name.
    pub(super) servers: BTreeMap<&'a str, ServerLine<'a>>,
}

/// A `server` line whose words mean themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerLine<'a> {
    pub(super) address: &'a str,
    /// HAProxy's default is 1.
    pub(super) weight: &'a str,
    /// Every other word behind the address, those of `default-server` first: a server that is
    /// added at runtime takes none from there.
    pub(super) options: Vec<&'a str>,
}

const SECTIONS: [&str; 14] = [
    "backend",
    "cache",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "userlist",
];

impl<'a> Config<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        let mut sections: Vec<Section<'a>> = Vec::new();
        // What `default-server` said in the last `defaults`, and in this section so far.
        let (mut inherited, mut own) = (Vec::new(), Vec::new());
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            if SECTIONS.contains(&first) {
                own = if first == "defaults" {
                    Vec::new()
                } else {
                    inherited.clone()
                };
                let name = words.next().unwrap_or_default();
                sections.push(Section {
                    kind: first,
                    name,
                    // The rest of the line: `from`, and what else there may be.
                    lines: words.collect(),
                    servers: BTreeMap::new(),
                });
                continue;
            }
            let Some(section) = sections.last_mut() else {
                continue;
            };
            if first == "default-server" {
                own.extend(words.clone());
                if section.kind == "defaults" {
                    inherited.clone_from(&own);
                }
            }
            match ServerLine::parse(line, &own) {
                Some((name, server)) if !section.servers.contains_key(name) => {
                    section.servers.insert(name, server);
                }
                _ => section.lines.push(line),
            }
        }
        Self { sections }
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = (ServerRef, &ServerLine<'a>)> {
        self.sections.iter().flat_map(|section| {
            section.servers.iter().map(|(name, line)| {
                let server = ServerRef {
                    backend: section.name.to_owned(),
                    server: (*name).to_owned(),
                };
                (server, line)
            })
        })
    }
}

impl<'a> ServerLine<'a> {
    /// `None` where the line is no server, or its words need HAProxy's own parser.
    fn parse(line: &'a str, defaults: &[&'a str]) -> Option<(&'a str, Self)> {
        if line.contains(['"', '\'', '\\', '#', '$']) {
            return None;
        }
        let mut words = line.split_whitespace();
        if words.next() != Some("server") {
            return None;
        }
        let (name, address) = (words.next()?, words.next()?);
        let mut weight = "1";
        let mut options = Vec::new();
        let mut rest = defaults.iter().copied().chain(words);
        while let Some(word) = rest.next() {
            match word {
                "weight" => weight = rest.next()?,
                word => options.push(word),
            }
        }
        let line = Self {
            address,
            weight,
            options,
        };
        Some((name, line))
    }

    /// Address and port where both are numbers, as `set server addr` takes them.
    pub(super) fn socket(&self) -> Option<(IpAddr, &'a str)> {
        let (address, port) = self.address.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(address);
        Some((bare.parse().ok()?, port))
    }

    /// The words of `add server`.
    pub(super) fn words(&self) -> Vec<String> {
        let weight = ["weight", self.weight];
        let words = weight.into_iter().chain(self.options.iter().copied());
        words.map(str::to_owned).collect()
    }
}

/// The servers that a running HAProxy should have by a configuration's text, for comparing with
/// [`super::servers_of_state`]. Servers at names are left out: HAProxy resolves those.
pub fn expected_servers(text: &str) -> BTreeMap<ServerRef, LiveServer> {
    let config = Config::parse(text);
    config
        .servers()
        .filter_map(|(server, line)| {
            let (address, port) = line.socket()?;
            let live = LiveServer {
                address,
                port: port.parse().ok()?,
                weight: line.weight.parse().ok()?,
                is_maintained: line.options.contains(&"disabled"),
            };
            Some((server, live))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Config, ServerLine};

    #[test]
    fn servers_are_told_from_structure() {
        let config = Config::parse(
            "defaults\n default-server inter 2s\n\nbackend b from x\n  # server no 1.1.1.1:1\n  \
             balance roundrobin\n  default-server check weight 5\n  server s 10.0.0.1:80 maxconn 9\n  \
             server t [::1]:81 weight 0\n  server u 10.0.0.1:80 cookie \"x\"\nbackend c\n server s app:80",
        );
        let [_, b, c] = config.sections.as_slice() else {
            panic!("{config:?}");
        };
        assert_eq!(
            b.lines,
            [
                "from",
                "x",
                "balance roundrobin",
                "default-server check weight 5",
                "server u 10.0.0.1:80 cookie \"x\"",
            ]
        );
        let s = ServerLine {
            address: "10.0.0.1:80",
            weight: "5",
            options: vec!["inter", "2s", "check", "maxconn", "9"],
        };
        assert_eq!(b.servers.get("s"), Some(&s));
        assert_eq!(s.words().join(" "), "weight 5 inter 2s check maxconn 9");
        let t = b.servers.get("t").unwrap();
        assert_eq!(
            (t.weight, t.socket()),
            ("0", Some(("::1".parse().unwrap(), "81")))
        );
        assert_eq!(c.servers.get("s").unwrap().socket(), None);
        assert_eq!(c.servers.get("s").unwrap().options, ["inter", "2s"]);
    }
}
