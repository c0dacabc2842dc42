//! Commands of the runtime socket, as values and as the text they are sent as.

use std::fmt;

use super::line::{Expects, Line, Unsafe, line, with_payload};
use crate::edge::value::Pem;
use crate::render::sha256_hex;

/// A server of a backend, by the names in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerRef {
    /// Name of the backend.
    pub backend: String,
    /// Name of the server in it.
    pub server: String,
}

impl fmt::Display for ServerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.server)
    }
}

/// What an operator may want of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// It gets connections.
    Ready,
    /// It gets those alone that must come to it.
    Drain,
    /// It gets none, and is not asked whether it is well.
    Maintenance,
}

/// One change of a running HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A server that was not there, with its options; it gets connections at once.
    AddServer {
        /// Which.
        server: ServerRef,
        /// `address:port`.
        address: String,
        /// The words behind the address.
        options: Vec<String>,
    },
    /// Another address of a server.
    SetAddress {
        /// Which.
        server: ServerRef,
        /// Address, an IPv6 one without brackets.
        address: String,
        /// Port.
        port: String,
    },
    /// Another weight of a server, 0 to 256.
    SetWeight {
        /// Which.
        server: ServerRef,
        /// Weight.
        weight: String,
    },
    /// Whether a server gets connections.
    SetStatus {
        /// Which.
        server: ServerRef,
        /// What is wanted of it.
        status: ServerStatus,
    },
    /// Ends what a server still has.
    ShutdownSessions(ServerRef),
    /// Forgets a server, which must have no connections. It is tried again when it still has.
    DeleteServer(ServerRef),
    /// A new key of a map.
    AddEntry {
        /// File of the map, as the configuration names it.
        map: String,
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
    /// Another value of a key.
    SetEntry {
        /// File of the map.
        map: String,
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
    /// No such key any more.
    DeleteEntry {
        /// File of the map.
        map: String,
        /// Key.
        key: String,
    },
    /// All of a map at once.
    ReplaceMap {
        /// File of the map.
        map: String,
        /// Keys and values, in order.
        entries: Vec<(String, String)>,
    },
    /// A certificate and key that were not there; nothing uses them yet.
    NewCertificate {
        /// File, as the configuration names it.
        name: String,
        /// Chain and key.
        pem: Pem,
    },
    /// Another content of a certificate; handshakes use it at once.
    SetCertificate {
        /// File.
        name: String,
        /// Chain and key.
        pem: Pem,
    },
    /// Serves a certificate.
    AddToList {
        /// File of the list.
        list: String,
        /// The line: certificate, options, names.
        line: String,
    },
    /// Serves a certificate no longer.
    RemoveFromList {
        /// File of the list.
        list: String,
        /// File of the certificate.
        certificate: String,
    },
    /// Forgets a certificate that nothing uses.
    DeleteCertificate(String),
}

impl Command {
    /// Whether a refusal harms nobody: what it would have removed is not used.
    pub fn is_cleanup(&self) -> bool {
        matches!(
            self,
            Self::DeleteServer(_) | Self::DeleteCertificate(_) | Self::ShutdownSessions(_)
        )
    }

    /// The lines that say it, for people: of a certificate, in place of its content, the hash.
    pub fn shown(&self) -> Vec<String> {
        let digest = |pem: &Pem| {
            let hash = sha256_hex(pem.reveal());
            format!("<< (sha256 {})", hash.get(..16).unwrap_or_default())
        };
        match self {
            Self::NewCertificate { name, pem } => vec![
                format!("new ssl cert {name}"),
                format!("set ssl cert {name} {}", digest(pem)),
                format!("commit ssl cert {name}"),
            ],
            Self::SetCertificate { name, pem } => vec![
                format!("set ssl cert {name} {}", digest(pem)),
                format!("commit ssl cert {name}"),
            ],
            Self::ReplaceMap { map, entries } => {
                vec![format!("replace map {map} ({} entries)", entries.len())]
            }
            Self::AddServer { .. }
            | Self::SetAddress { .. }
            | Self::SetWeight { .. }
            | Self::SetStatus { .. }
            | Self::ShutdownSessions(_)
            | Self::DeleteServer(_)
            | Self::AddEntry { .. }
            | Self::SetEntry { .. }
            | Self::DeleteEntry { .. }
            | Self::AddToList { .. }
            | Self::RemoveFromList { .. }
            | Self::DeleteCertificate(_) => match self.lines() {
                Ok(lines) => lines.iter().flat_map(Line::shown).collect(),
                Err(error) => vec![error.to_string()],
            },
        }
    }

    /// The lines that say it. [`Self::ReplaceMap`] has none: its version is asked for first.
    pub(super) fn lines(&self) -> Result<Vec<Line>, Unsafe> {
        const CHANGED: &[&str] = &["changed", "no need to change"];
        let one = |words: &[&str], expects| Ok(vec![line(words, expects)?]);
        match self {
            Self::AddServer {
                server,
                address,
                options,
            } => {
                let name = server.to_string();
                let mut words = vec!["add", "server", &name, address];
                words.extend(options.iter().map(String::as_str));
                let mut lines = vec![line(&words, Expects::Any(&["New server registered"]))?];
                // A new server is in maintenance, and its checks are off.
                if options.iter().any(|option| option == "check") {
                    lines.push(line(&["enable", "health", &name], Expects::Silence)?);
                }
                if !options.iter().any(|option| option == "disabled") {
                    let words = ["set", "server", &name, "state", "ready"];
                    lines.push(line(&words, Expects::Silence)?);
                }
                Ok(lines)
            }
            Self::SetAddress {
                server,
                address,
                port,
            } => {
                let name = server.to_string();
                let words = ["set", "server", &name, "addr", address, "port", port];
                one(&words, Expects::Any(CHANGED))
            }
            Self::SetWeight { server, weight } => {
                let name = server.to_string();
                one(
                    &["set", "server", &name, "weight", weight],
                    Expects::Silence,
                )
            }
            Self::SetStatus { server, status } => {
                let status = match status {
                    ServerStatus::Ready => "ready",
                    ServerStatus::Drain => "drain",
                    ServerStatus::Maintenance => "maint",
                };
                let name = server.to_string();
                one(&["set", "server", &name, "state", status], Expects::Silence)
            }
            Self::ShutdownSessions(server) => {
                let name = server.to_string();
                one(&["shutdown", "sessions", "server", &name], Expects::Silence)
            }
            Self::DeleteServer(server) => {
                let name = server.to_string();
                one(&["del", "server", &name], Expects::Any(&["Server deleted"]))
            }
            // The value may have blanks, which only a payload carries.
            Self::AddEntry { map, key, value } => Ok(vec![entries_line(
                None,
                map,
                &[(key.clone(), value.clone())],
            )?]),
            Self::SetEntry { map, key, value } => {
                one(&["set", "map", map, key, value], Expects::Silence)
            }
            Self::DeleteEntry { map, key } => one(&["del", "map", map, key], Expects::Silence),
            Self::ReplaceMap { .. } => Ok(Vec::new()),
            Self::NewCertificate { name, pem } => {
                let new = &["new", "ssl", "cert", name];
                let mut lines = vec![line(new, Expects::Any(&["New empty certificate"]))?];
                lines.extend(certificate_lines(name, pem)?);
                Ok(lines)
            }
            Self::SetCertificate { name, pem } => certificate_lines(name, pem),
            Self::AddToList { list, line } => Ok(vec![with_payload(
                &["add", "ssl", "crt-list", list],
                line.as_bytes(),
                Expects::Any(&["Success!"]),
            )?]),
            Self::RemoveFromList { list, certificate } => one(
                &["del", "ssl", "crt-list", list, certificate],
                Expects::Any(&["deleted in crtlist"]),
            ),
            Self::DeleteCertificate(name) => {
                one(&["del", "ssl", "cert", name], Expects::Any(&["deleted!"]))
            }
        }
    }
}

fn certificate_lines(name: &str, pem: &Pem) -> Result<Vec<Line>, Unsafe> {
    let set = ["set", "ssl", "cert", name];
    let done = Expects::Any(&["Transaction created", "Transaction updated"]);
    Ok(vec![
        with_payload(&set, pem.reveal(), done)?,
        line(
            &["commit", "ssl", "cert", name],
            Expects::Any(&["Success!"]),
        )?,
    ])
}

/// Adds entries to a map, or to a version of it that is not visible yet.
pub(super) fn entries_line(
    version: Option<&str>,
    map: &str,
    entries: &[(String, String)],
) -> Result<Line, Unsafe> {
    let mut words = vec!["add", "map"];
    let version = version.map(|version| format!("@{version}"));
    words.extend(version.as_deref());
    words.push(map);
    let payload: String = entries
        .iter()
        .map(|(key, value)| format!("{key} {value}\n"))
        .collect();
    with_payload(&words, payload.as_bytes(), Expects::Silence)
}

#[cfg(test)]
mod tests {
    use super::{Command, Expects, ServerRef, line};
    use crate::edge::value::Pem;

    fn server() -> ServerRef {
        ServerRef {
            backend: "b".to_owned(),
            server: "s".to_owned(),
        }
    }

    #[track_caller]
    fn check(command: Command, expected: &str) {
        let lines = command.lines().unwrap();
        let text: Vec<u8> = lines.into_iter().flat_map(|line| line.text).collect();
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn commands_are_said_as_haproxy_reads_them() {
        check(
            Command::AddServer {
                server: server(),
                address: "[::1]:80".to_owned(),
                options: ["weight", "3", "check"].map(str::to_owned).to_vec(),
            },
            "add server b/s [::1]:80 weight 3 check\nenable health b/s\n\
             set server b/s state ready\n",
        );
        let (map, key) = ("hosts.map".to_owned(), "a.example".to_owned());
        let value = "b1 and b2".to_owned();
        check(
            Command::AddEntry { map, key, value },
            "add map hosts.map <<\na.example b1 and b2\n\n",
        );
        check(
            Command::SetCertificate {
                name: "a.pem".to_owned(),
                pem: Pem::new(b"one\r\n\n\ntwo\n".as_slice().into()),
            },
            "set ssl cert a.pem <<\none\ntwo\n\ncommit ssl cert a.pem\n",
        );
    }

    #[test]
    fn people_are_shown_no_certificate() {
        let pem = || Pem::new(b"-----BEGIN PRIVATE KEY-----\nMIIB\n".as_slice().into());
        let name = || "tls/a.pem".to_owned();
        let set = [
            "set ssl cert tls/a.pem << (sha256 3954cc4fef71e1f0)",
            "commit ssl cert tls/a.pem",
        ];
        let (new, changed) = (
            Command::NewCertificate {
                name: name(),
                pem: pem(),
            },
            Command::SetCertificate {
                name: name(),
                pem: pem(),
            },
        );
        assert_eq!(changed.shown(), set);
        assert_eq!(new.shown(), ["new ssl cert tls/a.pem", set[0], set[1]]);
        let (map, key, value) = ("hosts.map".to_owned(), "a".to_owned(), "b c".to_owned());
        let entry = Command::AddEntry { map, key, value };
        assert_eq!(entry.shown(), ["add map hosts.map <<", "a b c"]);
        let down = Command::SetStatus {
            server: server(),
            status: super::ServerStatus::Maintenance,
        };
        assert_eq!(down.shown(), ["set server b/s state maint"]);
    }

    #[test]
    fn no_word_becomes_another_command() {
        let said = |word: &str| line(&["del", "map", "m", word], Expects::Silence);
        let text = said("a; shutdown\\").unwrap().text;
        assert_eq!(text, b"del map m a\\;\\ shutdown\\\\\n");
        for bad in ["a\nshutdown sessions", "a\r", "a\0", "", "<<", "a\tb"] {
            assert!(said(bad).is_err(), "{bad:?}");
        }
    }
}
