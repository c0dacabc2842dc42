//! `fairlead-confgen run` beside HAProxy and nginx, in a namespace: a shop whose pods move.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tests::harness::{Process, enter_network, poll};

const PATIENCE: Duration = Duration::from_secs(30);
const HAPROXY: &str = "192.0.2.1";
const NGINX: &str = "192.0.2.2";
/// Pods that the shop is served by, in turns.
const PODS: [u8; 4] = [11, 12, 13, 14];

/// A namespace with pods' addresses on its loopback interface.
struct Edge {
    name: String,
    directory: TempDir,
    processes: Vec<Process>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        for process in &self.processes {
            let _told = process.terminate();
        }
        for process in &mut self.processes {
            let _ended = process.wait(Duration::from_secs(10));
        }
        let _gone = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .status()
        .is_ok_and(|status| status.success())
}

impl Edge {
    fn new() -> Self {
        let name = format!("fle{}", std::process::id());
        assert!(ip(&["netns", "add", &name]));
        assert!(ip(&["-n", &name, "link", "set", "lo", "up"]));
        let pods = PODS.iter().map(|last| format!("10.0.0.{last}"));
        for address in pods.chain([HAPROXY.to_owned(), NGINX.to_owned()]) {
            assert!(ip(&[
                "-n",
                &name,
                "addr",
                "add",
                &format!("{address}/32"),
                "dev",
                "lo"
            ]));
        }
        Self {
            name,
            directory: TempDir::new().unwrap(),
            processes: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&mut self, program: &str, arguments: &[&str]) {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name, program])
            .args(arguments);
        let name = Path::new(program)
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        self.processes
            .push(Process::start(&name, &mut command).unwrap());
    }

    /// Work on a thread of its own inside the namespace.
    fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = Path::new("/run/netns").join(&self.name);
        thread::spawn(move || {
            enter_network(&path).unwrap();
            work()
        })
    }

    /// The shop is these pods, and a number of hosts more have it too.
    fn shop(&self, pods: &[u8], more_hosts: usize) {
        let endpoints = pods
            .iter()
            .map(|last| format!("{{addresses: [10.0.0.{last}]}}"));
        let endpoints = endpoints.collect::<Vec<_>>().join(", ");
        let mut text = String::new();
        for host in 0..=more_hosts {
            text += &format!(
                "
apiVersion: v1
kind: Service
metadata: {{namespace: shop, name: web{host}, annotations: {{domain: shop{host}.example, proto: http}}}}
spec: {{clusterIP: 10.96.0.{}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: shop, name: web{host}-1, labels: {{kubernetes.io/service-name: web{host}}}}}
addressType: IPv4
ports: [{{name: http, port: 9000}}]
endpoints: [{endpoints}]
---
",
                host + 1
            );
        }
        let beside = self.path("shop.tmp");
        fs::create_dir_all(self.path("shop")).unwrap();
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path("shop").join("shop.yaml")).unwrap();
    }

    /// Follows the shop for one of the proxies.
    fn confgen(&mut self, proxy: &str, address: &str, status: u16) {
        let at = |name: &str| self.path(name).display().to_string();
        fs::create_dir_all(at("temporary")).unwrap();
        let own = match proxy {
            "haproxy" => format!(
                "socket = {:?}\nmaster_socket = {:?}",
                at("ha.sock"),
                at("master.sock")
            ),
            _ => format!(
                "pid_file = {:?}\ntemporary_directory = {:?}\nuser = \"root\"",
                at("nginx.pid"),
                at("temporary")
            ),
        };
        let file = at(&format!("{proxy}.toml"));
        let text = format!(
            "[cluster]\nmanifests = {:?}\n[listen]\nhttp = [\"{address}:80\"]\nhttps = []\n[endpoints]\n[{proxy}]\ndirectory = {:?}\n{own}\n[apply]\nreload_gap = \"200ms\"\n[status]\nlisten = \"127.0.0.1:{status}\"\n",
            at("shop"),
            at(proxy),
        );
        fs::write(&file, text).unwrap();
        let program = env!("CARGO_MANIFEST_DIR").to_owned() + "/../target/debug/fairlead-confgen";
        let program = std::env::var("FAIRLEAD_CONFGEN").unwrap_or(program);
        self.start(&program, &["run", "--config", &file]);
    }

    /// `/status` of a process, once what it says fits.
    fn status(&self, port: u16, fits: impl Fn(&str) -> bool) -> String {
        let mut told = String::new();
        let found = poll(PATIENCE, || {
            let asked =
                self.inside(move || get((Ipv4Addr::LOCALHOST, port).into(), "status", "/status"));
            told = asked.join().unwrap().unwrap_or_default();
            fits(&told).then_some(())
        });
        assert!(found.is_some(), "{told}");
        told
    }
}

/// The body of an answer, if it is 200.
fn get(at: SocketAddr, host: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// Answers every request with the pod's number.
fn serve(listener: &TcpListener, number: u8) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        thread::spawn(move || {
            let mut head = Vec::new();
            let mut byte = [0];
            loop {
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    Ok(_) | Err(_) => return,
                }
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    let body = format!("pod {number}\n");
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

#[test]
fn a_shop_is_served_by_both_proxies_while_its_pods_move() {
    let mut edge = Edge::new();
    for number in PODS {
        drop(edge.inside(move || {
            let listener = TcpListener::bind((Ipv4Addr::new(10, 0, 0, number), 9000)).unwrap();
            serve(&listener, number);
        }));
    }
    edge.shop(&[11, 12], 0);
    edge.confgen("haproxy", HAPROXY, 9101);
    edge.confgen("nginx", NGINX, 9102);
    let main = |proxy: &str, file: &str| edge.path(proxy).join("current").join(file);
    let (haproxy, nginx) = (main("haproxy", "haproxy.cfg"), main("nginx", "nginx.conf"));
    let is_written = || (haproxy.exists() && nginx.exists()).then_some(());
    assert!(poll(PATIENCE, is_written).is_some());
    let master = format!("{},level,admin", edge.path("master.sock").display());
    edge.start(
        "haproxy",
        &["-W", "-S", &master, "-f", &haproxy.display().to_string()],
    );
    edge.start(
        "nginx",
        &["-c", &nginx.display().to_string(), "-g", "daemon off;"],
    );
    let is_live = |told: &str| told.contains("\"gap\":null") && !told.contains("\"live\":0");
    for port in [9101, 9102] {
        edge.status(port, is_live);
    }

    let stop = Arc::new(AtomicBool::new(false));
    let counts = [HAPROXY, NGINX].map(|address| {
        let (good, bad) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = (Arc::clone(&good), Arc::clone(&bad));
        let stop = Arc::clone(&stop);
        let at = SocketAddr::new(address.parse().unwrap(), 80);
        let client = edge.inside(move || {
            while !stop.load(Ordering::Relaxed) {
                let count = match get(at, "shop0.example", "/") {
                    Some(body) if body.starts_with("pod ") => &good,
                    Some(_) | None => &bad,
                };
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        (address, client, counted)
    });
    for round in 0..12 {
        let pods = [PODS[round % 4], PODS[(round + 1) % 4]];
        edge.shop(&pods, round / 4);
        thread::sleep(Duration::from_millis(400));
    }
    for port in [9101, 9102] {
        edge.status(port, is_live);
    }
    stop.store(true, Ordering::Relaxed);
    for (address, client, (good, bad)) in counts {
        client.join().unwrap();
        let (good, bad) = (good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed));
        eprintln!("{address}: {good} good, {bad} bad");
        assert!(good > 100, "{address}: {good}");
        assert_eq!(bad, 0, "{address}: of {good}");
    }
    // Pods that move reach HAProxy without a reload; each of the two new hosts may need one.
    let told = edge.status(9101, is_live);
    let value: serde_json::Value = serde_json::from_str(&told).unwrap();
    let totals = &value["outputs"]["haproxy"]["totals"];
    assert!(totals["runtime_changes"].as_u64() >= Some(6), "{totals}");
    let reloads = totals["reloads"].as_object().unwrap().values();
    assert!(
        reloads.filter_map(serde_json::Value::as_u64).sum::<u64>() <= 4,
        "{totals}"
    );
}
