//! A proxy: what it and its `fairlead-confgen` are told, and what they tell.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::harness::Place;

use crate::shop::Shop;

/// A proxy of the edge node, and the `fairlead-confgen` that writes its configuration.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) title: &'static str,
    pub(super) program: &'static str,
    pub(super) addresses: [IpAddr; 2],
    /// Where its `fairlead-confgen` tells its status, on loopback.
    pub(super) status: SocketAddr,
    pub(super) directory: PathBuf,
}

impl Proxy {
    /// What `fairlead-confgen` is told.
    pub(super) fn config(&self, shop: &Shop) -> String {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let own = if self.program == "haproxy" {
            format!(
                "socket = {:?}\nmaster_socket = {:?}",
                at("stats.sock"),
                at("master.sock")
            )
        } else {
            format!(
                "pid_file = {:?}\ntemporary_directory = {:?}\nuser = \"root\"",
                at("nginx.pid"),
                at("")
            )
        };
        let listen = self
            .addresses
            .map(|address| SocketAddr::new(address, 80).to_string());
        format!(
            "[cluster]
manifests = {manifests:?}
[listen]
http = {listen:?}
https = []
[endpoints]
[ingress]
class = \"edge\"
[{program}]
directory = {output:?}
{own}
[apply]
reload_gap = \"200ms\"
[status]
listen = \"{status}\"
",
            manifests = shop.lab.manifests().directory().display().to_string(),
            program = self.program,
            output = at("output"),
            status = self.status,
        )
    }

    /// The file that it starts with.
    pub(super) fn configuration(&self) -> PathBuf {
        let file = match self.program {
            "haproxy" => "haproxy.cfg",
            _ => "nginx.conf",
        };
        self.directory.join("output/current").join(file)
    }

    pub(super) fn arguments(&self) -> Vec<String> {
        let main = self.configuration().display().to_string();
        if self.program == "haproxy" {
            let socket = self.directory.join("master.sock").display().to_string();
            let master = format!("{socket},level,admin");
            ["-W", "-S", &master, "-f", &main]
                .map(str::to_owned)
                .to_vec()
        } else {
            ["-c", &main, "-g", "daemon off;"]
                .map(str::to_owned)
                .to_vec()
        }
    }

    /// Reloads and runtime changes up to now.
    pub(super) fn totals(&self, node: &Place) -> Result<(u64, u64)> {
        let (_, body) = node.get(self.status, "/status")?;
        let told: Value = serde_json::from_str(&body)?;
        let totals = &told["outputs"][self.program]["totals"];
        let reloads = totals["reloads"]
            .as_object()
            .with_context(|| format!("no totals: {body}"))?;
        Ok((
            reloads.values().filter_map(Value::as_u64).sum(),
            totals["runtime_changes"].as_u64().unwrap_or(0),
        ))
    }

    pub(super) fn log(&self, name: &str) -> String {
        let path = self.directory.join(format!("{name}.log"));
        let text = fs::read_to_string(&path).unwrap_or_default();
        let last = text.lines().last().unwrap_or("empty");
        format!("{}, which ends with: {last}", path.display())
    }
}
