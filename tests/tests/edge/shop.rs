//! A small cluster, and its configurations written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use confgen::apply::applier::{Output, Successor};
use confgen::apply::bisect::Suspect;
use confgen::edge::value::Id;
use confgen::edge::{
    Backend, BackendProtocol, Balance, EdgePlan, Origin, Server, ServerState, Timeouts,
};
use confgen::output::{File, Grammar, Rendered};
use model::ObjectKey;

use crate::lab::Kind;

/// Services, each with a host and servers.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    kind: Kind,
    directory: PathBuf,
    port: u16,
    /// By name; the host is `<name>.example`.
    pub(crate) services: BTreeMap<String, Service>,
    /// Listens here as well: a change of structure that may not come to be.
    pub(crate) also: Option<u16>,
    /// Deletions that were seen as events.
    pub(crate) deletions: usize,
    /// Files beside the main one.
    pub(crate) certificates: BTreeMap<String, String>,
    /// Lines of a list of certificates, and the port that they are served on.
    pub(crate) tls: Option<(u16, Vec<String>)>,
}

/// One Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    /// Name, port and weight.
    pub(crate) servers: Vec<(String, u16, u16)>,
    /// Text of the tenant that reached the configuration raw.
    pub(crate) raw: String,
}

impl Shop {
    pub(crate) fn new(kind: Kind, directory: &Path, port: u16) -> Self {
        Self {
            kind,
            directory: directory.to_owned(),
            port,
            services: BTreeMap::new(),
            also: None,
            deletions: 0,
            certificates: BTreeMap::new(),
            tls: None,
        }
    }

    pub(crate) fn serve(&mut self, service: &str, servers: &[(&str, u16)]) {
        let servers = servers
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port, 1))
            .collect();
        self.services.entry(service.to_owned()).or_default().servers = servers;
    }

    pub(crate) fn version(&self, (_, key): &Suspect) -> Option<Arc<str>> {
        let service = self.services.get(&*key.name)?;
        Some(format!("{service:?}").into())
    }

    /// The Services that a plan has, with the servers of now.
    pub(crate) fn partly(&self, live: &EdgePlan, without: &BTreeSet<Suspect>) -> Option<Successor> {
        let mut shop = self.clone();
        shop.services
            .retain(|name, _| live.backends.contains_key(&id(name)));
        Some(Successor::whole(shop.output(without)))
    }

    pub(crate) fn output(&self, without: &BTreeSet<Suspect>) -> Output {
        let is_in = |name: &str| !without.contains(&suspect(name));
        let services: BTreeMap<&String, &Service> = self
            .services
            .iter()
            .filter(|(name, _)| is_in(name))
            .collect();
        let mut files = BTreeMap::new();
        let mut add = |name: &str, grammar, content: String, is_private| {
            let content = content.into_bytes();
            let file = File {
                content,
                grammar,
                is_private,
            };
            files.insert(name.to_owned(), Arc::new(file));
        };
        for (name, pem) in &self.certificates {
            add(name, Grammar::Pem, pem.clone(), true);
        }
        if let Some((_, lines)) = &self.tls {
            // HAProxy refuses a list whose last line does not end.
            add("certs.list", Grammar::Map, lines.join("\n") + "\n", false);
        }
        let (structure, text) = match self.kind {
            Kind::Haproxy => {
                let hosts: String = services
                    .keys()
                    .map(|name| format!("{name}.example {}\n", id(name)))
                    .collect();
                add("hosts.map", Grammar::Map, hosts, false);
                self.haproxy(&services)
            }
            Kind::Nginx => self.nginx(&services),
        };
        let generation = Id::of(&["generation", &structure]);
        let main = text.replace("GENERATION", generation.as_str());
        let grammar = match self.kind {
            Kind::Haproxy => Grammar::Haproxy,
            Kind::Nginx => Grammar::Nginx,
        };
        add("main.cfg", grammar, main, false);
        Output {
            plan: plan(&services),
            rendered: Rendered {
                files,
                main: "main.cfg".to_owned(),
                generation: Some(generation),
            },
        }
    }

    /// What needs a reload, and all of it.
    fn haproxy(&self, services: &BTreeMap<&String, &Service>) -> (String, String) {
        let socket = self.directory.join("run.sock");
        let mut head = format!(
            "global\n default-path config\n description GENERATION\n \
             stats socket {} mode 600 level admin expose-fd listeners\n\
             defaults\n mode http\n timeout connect 2s\n timeout client 20s\n timeout server 20s\n \
             option redispatch\nfrontend f\n bind 127.0.0.1:{}\n",
            socket.display(),
            self.port
        );
        if let Some(port) = self.also {
            writeln!(head, " bind 127.0.0.1:{port}").unwrap();
        }
        if let Some((port, _)) = &self.tls {
            writeln!(head, " bind 127.0.0.1:{port} ssl crt-list certs.list").unwrap();
        }
        head.push_str(
            // HAProxy resolves the expression of `use_backend` after it has left the directory
            // that `default-path` names, so the map is used in a rule before it.
            " http-request set-var(txn.to) req.hdr(host),lower,map_str(hosts.map,none)\n \
             use_backend %[var(txn.to)]\n\
             backend none\n http-request return status 404\n",
        );
        let (mut structure, mut text) = (head.clone(), head);
        for (name, service) in services {
            let section = format!(
                "backend {}\n balance roundrobin\n{}\n",
                id(name),
                service.raw
            );
            structure.push_str(&section);
            text.push_str(&section);
            for (server, port, weight) in &service.servers {
                writeln!(text, " server {server} 127.0.0.1:{port} weight {weight}").unwrap();
            }
        }
        (structure, text)
    }

    fn nginx(&self, services: &BTreeMap<&String, &Service>) -> (String, String) {
        let path = |name: &str| self.directory.join(name).display().to_string();
        let also = self.also.map(|port| format!("listen 127.0.0.1:{port};"));
        let mut text = format!(
            "daemon off; pid {}; error_log {}; worker_processes 2;\n\
             events {{ worker_connections 512; }}\nhttp {{ access_log off;\n\
             client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp}; \
             uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n\
             server {{ listen unix:{}; location = /generation {{ return 200 GENERATION; }} }}\n\
             server {{ listen 127.0.0.1:{} default_server; {} return 404; }}\n",
            path("pid"),
            path("error.log"),
            path("run.sock"),
            self.port,
            also.unwrap_or_default(),
            tmp = path("tmp"),
        );
        for (name, service) in services {
            let id = id(name);
            let servers: String = service
                .servers
                .iter()
                .map(|(_, port, weight)| format!("server 127.0.0.1:{port} weight={weight}; "))
                .collect();
            writeln!(
                text,
                "upstream {id} {{ {servers} }}\nserver {{ listen 127.0.0.1:{}; server_name \
                 {name}.example; {} location / {{ proxy_pass http://{id}; }} }}",
                self.port, service.raw
            )
            .unwrap();
        }
        text.push_str("}\n");
        (text.clone(), text)
    }
}

pub(crate) fn id(service: &str) -> Id {
    Id::of(&[service])
}

pub(crate) fn suspect(service: &str) -> Suspect {
    (model::Kind::Service, ObjectKey::new("shop", service))
}

fn plan(services: &BTreeMap<&String, &Service>) -> EdgePlan {
    let backend = |(name, service): (&&String, &&Service)| {
        let (kind, key) = suspect(name);
        let server = |(name, port, weight): &(String, u16, u16)| Server {
            name: Id::of(&[name]),
            address: [127, 0, 0, 1].into(),
            port: (*port).try_into().unwrap(),
            weight: *weight,
            state: ServerState::Active,
            target: None,
        };
        let backend = Backend {
            id: id(name),
            protocol: BackendProtocol::Http,
            balance: Balance::RoundRobin,
            servers: service.servers.iter().map(server).collect(),
            health: None,
            timeouts: Timeouts::default(),
            sticky: None,
            sends_proxy_protocol: false,
            origin: Origin {
                created_unix_seconds: 0,
                key,
                kind,
                field: "spec".into(),
            },
        };
        (id(name), Arc::new(backend))
    };
    EdgePlan {
        backends: services.iter().map(backend).collect(),
        ..EdgePlan::default()
    }
}
