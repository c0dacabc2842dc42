//! Proxies, servers behind them, clients in front of them, and the applier under test.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use confgen::apply::applier::{Applier, Input, Settings, Sources};
use confgen::apply::check::Check;
use confgen::apply::files::{Ownership, Place, Store};
use confgen::apply::guard::{GuardLimits, Seen};
use confgen::apply::pace::{BudgetLimits, Debounce};
use confgen::apply::reload::{Haproxy, Nginx, Proxy, StatusSocket};
use confgen::apply::state::Pace;
use confgen::apply::status::Status;
use confgen::haproxy::runtime::Socket;
use tempfile::TempDir;
use tests::harness::{Process, poll};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::shop::Shop;

/// Long enough for two busy cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A server that tells its name after a moment, so that requests are under way when things change.
pub(crate) fn server(name: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || answer(stream, &name));
        }
    });
    port
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut buffer = [0; 2048];
    // A client that went away is no concern of the server.
    if stream.read(&mut buffer).is_ok_and(|count| count > 0) {
        std::thread::sleep(Duration::from_millis(3));
        let length = name.len();
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}"
        );
        let _sent = stream.write_all(text.as_bytes());
    }
}

/// One request over a connection of its own: status and body.
pub(crate) fn request(port: u16, host: &str) -> Result<(u16, String)> {
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.trim().to_owned()))
}

/// Clients that ask until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(port: u16, host: &str, clients: usize) -> Self {
        let (stop, good) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |_| {
            let (stop, good, host) = (Arc::clone(&stop), Arc::clone(&good), host.to_owned());
            std::thread::spawn(move || {
                let mut bad = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match request(port, &host) {
                        Ok((200, _)) => {
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        other => bad.push(format!("{other:?}")),
                    }
                }
                bad
            })
        };
        let clients = (0..clients).map(client).collect();
        Self {
            stop,
            good,
            clients,
        }
    }

    /// Requests that were answered, and what came of the others.
    pub(crate) fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self
            .clients
            .into_iter()
            .map(|client| client.join().unwrap());
        let bad = ended.flatten().collect();
        (self.good.load(Ordering::Relaxed), bad)
    }
}

/// Which proxy is in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Haproxy,
    Nginx,
}

/// One proxy and its files.
pub(crate) struct Lab {
    pub(crate) directory: TempDir,
    pub(crate) kind: Kind,
    /// Where the proxy listens.
    pub(crate) port: u16,
    pub(crate) process: Option<Process>,
    pub(crate) shop: Shop,
}

impl Lab {
    /// A lab whose proxy runs the files of an empty shop.
    pub(crate) fn new(kind: Kind) -> Self {
        let directory = TempDir::new().unwrap();
        let port = free_port();
        let shop = Shop::new(kind, directory.path(), port);
        let mut lab = Self {
            directory,
            kind,
            port,
            process: None,
            shop,
        };
        let store = lab.store();
        let output = lab.shop.output(&BTreeSet::new());
        let candidate = store.write(&output.rendered, None).unwrap();
        store.switch(&candidate).unwrap();
        store.confirm(&candidate.manifest).unwrap();
        lab.start_proxy();
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path("files"), Place::Directory, Ownership::default()).unwrap()
    }

    pub(crate) fn start_proxy(&mut self) {
        let path = |name: &str| self.path(name).display().to_string();
        let mut command = match self.kind {
            Kind::Haproxy => {
                let mut command = Command::new("haproxy");
                let master = format!("{},mode,600,level,admin", path("master.sock"));
                command.args(["-W", "-S", &master, "-p", &path("pid")]);
                command.args(["-f", &path("files/current/main.cfg")]);
                command
            }
            Kind::Nginx => {
                let mut command = Command::new("nginx");
                command.args([
                    "-c",
                    &path("files/current/main.cfg"),
                    "-e",
                    &path("error.log"),
                ]);
                command
            }
        };
        let log = std::fs::File::create(self.path("log")).unwrap();
        let (out, err) = (log.try_clone().unwrap(), log);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let name = format!("{:?}", self.kind);
        self.process = Some(Process::start(&name, &mut command).unwrap());
        let is_up = poll(PATIENCE, || request(self.port, "nobody").ok());
        assert!(is_up.is_some(), "{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        read("log") + &read("error.log")
    }

    /// Ends the proxy and waits until it is gone.
    pub(crate) fn stop_proxy(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate().unwrap();
            process.wait(PATIENCE).unwrap();
        }
    }

    pub(crate) fn socket(&self) -> Socket {
        Socket::new(&self.path("run.sock"), Duration::from_secs(10))
    }

    pub(crate) fn proxy(&self) -> Proxy {
        let pid_file = self.path("pid");
        match self.kind {
            Kind::Haproxy => Proxy::Haproxy(Haproxy {
                runtime: self.socket(),
                master: Some(Socket::new(
                    &self.path("master.sock"),
                    Duration::from_secs(10),
                )),
                pid_file: Some(pid_file),
                notifier: None,
            }),
            Kind::Nginx => Proxy::Nginx(Nginx {
                pid_file,
                status: Some(StatusSocket {
                    path: self.path("run.sock"),
                    url_path: "/generation".to_owned(),
                }),
                notifier: None,
            }),
        }
    }

    /// Settings that wait for nothing, so that tests are quick.
    pub(crate) fn settings(&self) -> Settings {
        let mut pace = Pace::new(1);
        pace.debounce = Debounce::new(Duration::from_millis(1), Duration::from_millis(10));
        pace.budget = BudgetLimits {
            min_gap: Duration::ZERO,
            per_hour: 1000,
            max_old_processes: 8,
        };
        let program = |name: &str| name.to_owned();
        Settings {
            store: self.store(),
            check: match self.kind {
                Kind::Haproxy => Check::Haproxy {
                    program: program("haproxy"),
                },
                Kind::Nginx => Check::Nginx {
                    program: program("nginx"),
                },
            },
            check_timeout: PATIENCE,
            max_checks: 200,
            proxy: self.proxy(),
            pace,
            guard: GuardLimits::default(),
            drain: Duration::from_secs(2),
            drift: None,
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // A proxy's workers end with their master, if it is told and not killed.
            let _told = process.terminate();
            let _ended = process.wait(Duration::from_secs(10));
        }
    }
}

/// A running applier.
pub(crate) struct Edge {
    inputs: watch::Sender<Option<Input<Shop>>>,
    status: watch::Receiver<Status>,
    cancelled: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    number: u64,
}

impl Edge {
    pub(crate) fn start(settings: Settings) -> Self {
        let sources = Sources {
            compile: Box::new(|shop: &Shop, without| Ok(shop.output(without))),
            // The shop's configuration is its own, of which nothing renders a part.
            update: Box::new(|_, _| None),
            partly: Box::new(|shop: &Shop, live, without| shop.partly(&live.plan, without)),
            version: Box::new(|shop: &Shop, suspect| shop.version(suspect)),
            seen: Box::new(|shop: &Shop, _| Seen {
                deletions: shop.deletions,
                ..Seen::default()
            }),
        };
        let applier = Applier::start(settings, sources).unwrap();
        let (inputs, receiver) = watch::channel(None);
        let (sender, status) = watch::channel(Status::default());
        let cancelled = CancellationToken::new();
        let task = tokio::spawn(applier.run(receiver, sender, cancelled.clone()));
        Self {
            inputs,
            status,
            cancelled,
            task,
            number: 0,
        }
    }

    /// Hands in a state of the cluster.
    pub(crate) fn offer(&mut self, shop: &Shop) {
        self.offer_as(shop, true);
    }

    pub(crate) fn offer_as(&mut self, shop: &Shop, is_synced: bool) {
        self.number += 1;
        let input = Input {
            number: self.number,
            is_synced,
            cluster: Arc::new(shop.clone()),
        };
        self.inputs.send(Some(input)).unwrap();
    }

    /// Waits until the state handed in last is live.
    pub(crate) async fn live(&mut self) -> Result<Status> {
        let number = self.number;
        self.until(move |status| status.live >= number).await
    }

    pub(crate) async fn until(&mut self, is_met: impl Fn(&Status) -> bool) -> Result<Status> {
        let met = self.status.wait_for(|status| is_met(status));
        let met = tokio::time::timeout(PATIENCE, met)
            .await
            .map(|met| met.map(|it| it.clone()));
        match met {
            Ok(status) => Ok(status?),
            Err(_elapsed) => bail!("not in time: {:#?}", *self.status.borrow()),
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) async fn stop(self) -> Status {
        self.cancelled.cancel();
        self.task.await.unwrap();
        self.status.borrow().clone()
    }
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
