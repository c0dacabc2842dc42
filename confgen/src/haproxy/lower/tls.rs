//! Listeners for TLS, and ports of bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lowering, Mode};
use crate::edge::value::{HostMatch, Hostname, Id};
use crate::edge::{ClientCertificates, HostTls, Listen, TcpListener, TlsListener};
use crate::haproxy::files::CertificateLine;
use crate::haproxy::view::{Processing, Section, TcpFrontend, Termination, TlsFrontend, View};

/// A name that no host has (RFC 2606 §2). The first certificate of a list is shown to whoever asks for
/// none that is known; without a name of its own it would also stand before hosts that it names, and
/// those may ask for certificates of their clients.
pub(in crate::haproxy) const NOBODY: &str = "fairlead.invalid";

/// Names on one line of a list, together. A command with its payload fits into `tune.bufsize` (16 KiB),
/// and a line has room for 2,048 words (`MAX_CRT_ARGS`).
const MAX_NAMES_BYTES: usize = 8_192;

impl<'a> Lowering<'a> {
    pub(super) fn tls(&mut self, listen: Listen, listener: &'a TlsListener, view: &mut View<'_>) {
        let termination = self.termination(listen, listener);
        let mut http = self.http(listen, &listener.http, Some(termination));
        if listener.passthrough.is_empty() {
            view.http.push(http);
            return;
        }
        let name = Id::of_listener("tls", listen);
        let socket = format!("{}/{name}.sock", self.options.run_directory);
        let terminate = Id::of_listener("terminate", listen);
        self.answers.insert(
            terminate.clone(),
            Section {
                is_tcp: true,
                rules: Vec::new(),
                loopback: vec![socket.clone()],
                ..Section::answering(&terminate, Processing::default())
            },
        );
        http.loopback = Some(socket);
        let accepts_proxy = http.accepts_proxy;
        view.http.push(http);
        let frontend = self.sni(listen, listener, name, terminate);
        view.tls.push(TlsFrontend {
            accepts_proxy,
            ..frontend
        });
    }

    fn sni(
        &mut self,
        listen: Listen,
        listener: &'a TlsListener,
        name: String,
        terminate: String,
    ) -> TlsFrontend {
        let maps = format!("maps/{name}");
        let mut targets = BTreeSet::new();
        let mut hosts = Vec::new();
        for (host, route) in listener.hosts() {
            let target = match route {
                Some(route) => {
                    let target = self.forward(&route.forward, Mode::Tcp, &Processing::default());
                    targets.insert(target.clone());
                    target
                }
                None => terminate.clone(),
            };
            hosts.push((host, target));
        }
        let wildcard_labels = self.add_host_maps(&maps, &hosts);
        let any = hosts.iter().find(|(host, _)| **host == HostMatch::Any);
        TlsFrontend {
            name,
            address: listen.to_string(),
            is_v6_only: listen.address.is_ipv6(),
            accepts_proxy: false,
            maps,
            wildcard_labels,
            // A name that nobody has: the frontend within refuses it.
            default: Some(any.map_or(terminate, |(_, target)| target.clone())),
            splits: self.splits_among(&targets),
        }
    }

    fn termination(&mut self, listen: Listen, listener: &'a TlsListener) -> Termination {
        let mut names: BTreeMap<Served<'a>, Vec<Option<String>>> = BTreeMap::new();
        let (mut first, mut of_any) = (None, None);
        let mut checks_sni = false;
        for (host, site) in &listener.http.hosts {
            let Some(tls) = &site.tls else {
                continue;
            };
            checks_sni |= tls.clients.is_some();
            let Some(served) = self.served(tls) else {
                continue;
            };
            if *host == HostMatch::Any {
                of_any = Some(served);
            } else {
                first.get_or_insert(served.certificate);
                names.entry(served).or_default().push(filter(host));
            }
        }
        let mut lines: Vec<CertificateLine> = names
            .into_iter()
            .flat_map(|(served, names)| self.lines_of(served, names))
            .collect();
        let shown = of_any.or(listener.unknown_host.as_ref().map(Served::to_anybody));
        let shown = shown.and_then(|served| self.first_line(listen, served));
        let is_strict = shown.is_none();
        let hidden = first.filter(|_| is_strict).map(Served::to_anybody);
        let hidden = hidden.and_then(|served| self.first_line(listen, served));
        lines.splice(..0, shown.or(hidden));
        let list = format!("certificates/{}.list", Id::of_listener("https", listen));
        self.files.add_certificate_list(&list, &lines);
        Termination {
            list,
            is_strict,
            checks_sni,
        }
    }

    /// A list's first line, which HAProxy neither adds nor takes away while it runs. So one that is no
    /// host's has a file of its own name, and another certificate is another content of it. Unless
    /// unknown hosts are shown a certificate, nobody sees it.
    fn first_line(&mut self, listen: Listen, served: Served<'a>) -> Option<CertificateLine> {
        let certificate = self.plan.certificates.get(served.certificate)?;
        let name = Id::of(&["first", &listen.to_string()]);
        let file = self.files.add_pem(&name, certificate);
        self.line(served, file, vec![NOBODY.to_owned()])
    }

    /// The lines of one certificate, a file each. Commands tell lines apart by their files, so a file is
    /// named by its content and by all that its line says: whatever becomes of a line is another file,
    /// which is added before this one goes.
    fn lines_of(&mut self, served: Served<'a>, names: Vec<Option<String>>) -> Vec<CertificateLine> {
        let Some(certificate) = self.plan.certificates.get(served.certificate) else {
            return Vec::new();
        };
        let lines = parts(names).into_iter().filter_map(|names| {
            let file = self.files.add_pem(&served.file(&names), certificate);
            self.line(served, file, names)
        });
        lines.collect()
    }

    fn line(
        &mut self,
        served: Served<'a>,
        file: String,
        filters: Vec<String>,
    ) -> Option<CertificateLine> {
        let authorities = match served.clients {
            None => None,
            Some(ClientCertificates {
                authorities: id, ..
            }) => {
                let found = self.plan.certificates.get(id)?;
                Some(self.files.add_authorities(id, found))
            }
        };
        Some(CertificateLine {
            file,
            authorities,
            is_required: served.clients.is_some_and(|it| it.is_required),
            filters,
        })
    }

    /// What a host is served with, if all of it is there.
    fn served(&mut self, tls: &'a HostTls) -> Option<Served<'a>> {
        let missing = "TLS connections for the host are refused";
        let plan = self.plan;
        let has = |id: &Id| plan.certificates.contains_key(id);
        if !has(&tls.certificate) {
            self.problem(&tls.origin, "the host's certificate is missing", missing);
            return None;
        }
        let clients = tls.clients.as_ref();
        if clients.is_some_and(|clients| !has(&clients.authorities)) {
            let message = "the authorities of its clients' certificates are missing";
            self.problem(&tls.origin, message, missing);
            return None;
        }
        Some(Served {
            certificate: &tls.certificate,
            clients,
        })
    }

    pub(super) fn tcp(&mut self, listen: Listen, listener: &'a TcpListener) -> TcpFrontend {
        let target = self.forward(&listener.forward, Mode::Tcp, &Processing::default());
        let splits = self.splits_among(&BTreeSet::from([target.clone()]));
        TcpFrontend {
            name: Id::of_listener("tcp", listen),
            address: listen.to_string(),
            is_v6_only: listen.address.is_ipv6(),
            accepts_proxy: listener.accepts_proxy_protocol,
            // The last part of a split takes every roll that is left.
            default: match splits.first() {
                Some(split) => split.parts.last().map(|part| part.section.clone()),
                None => Some(target),
            },
            splits,
        }
    }
}

/// A certificate, and what is asked of the clients that are shown it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Served<'a> {
    certificate: &'a Id,
    clients: Option<&'a ClientCertificates>,
}

impl<'a> Served<'a> {
    fn to_anybody(certificate: &'a Id) -> Self {
        Self {
            certificate,
            clients: None,
        }
    }

    /// The name of the file for a line of these names.
    fn file(self, names: &[String]) -> Id {
        let clients = self.clients.map_or("", |it| it.authorities.as_str());
        let is_required = self.clients.is_some_and(|it| it.is_required);
        let mut parts = vec![
            self.certificate.as_str().as_bytes(),
            clients.as_bytes(),
            if is_required { b"required" } else { b"" },
        ];
        parts.extend(names.iter().map(String::as_bytes));
        Id::of_content(self.certificate.as_str(), &parts)
    }
}

/// Names as lines have them; those of the certificate itself are a line of none.
fn parts(names: Vec<Option<String>>) -> Vec<Vec<String>> {
    let has_own = names.iter().any(Option::is_none);
    let (mut parts, mut bytes): (Vec<Vec<String>>, _) = (Vec::new(), 0);
    for name in names.into_iter().flatten() {
        bytes += name.len() + 1;
        match parts.last_mut() {
            Some(part) if bytes <= MAX_NAMES_BYTES => part.push(name),
            _ => {
                bytes = name.len() + 1;
                parts.push(vec![name]);
            }
        }
    }
    parts.extend(has_own.then(Vec::new));
    parts
}

/// The name in SNI; without one the certificate's own names count. Addresses are never in SNI
/// (RFC 6066 §3), and expressions are no filters.
fn filter(host: &HostMatch) -> Option<String> {
    let is_address = |name: &Hostname| name.as_str().parse::<std::net::IpAddr>().is_ok();
    match host {
        HostMatch::Exact(name) if !is_address(name) => Some(name.to_string()),
        HostMatch::Wildcard(suffix) => Some(format!("*.{suffix}")),
        HostMatch::Exact(_) | HostMatch::Regex(_) | HostMatch::Any => None,
    }
}
