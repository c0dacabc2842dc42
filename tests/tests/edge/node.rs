//! An edge node of its own namespace: HAProxy and nginx, each with a `fairlead-confgen run` beside
//! it, and pods' addresses.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tests::harness::{Process, enter_network, poll};

const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const HAPROXY: &str = "192.0.2.1";
pub(crate) const NGINX: &str = "192.0.2.2";
/// Where the status of each one's `fairlead-confgen` is.
pub(crate) const STATUS: [u16; 2] = [9101, 9102];
/// Last bytes of the pods' addresses.
pub(crate) const PODS: [u8; 4] = [11, 12, 13, 14];

/// A namespace with pods' addresses on its loopback interface.
pub(crate) struct Node {
    name: String,
    directory: TempDir,
    processes: Vec<Process>,
}

impl Drop for Node {
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

impl Node {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fle{}x{count}", std::process::id());
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn start(&mut self, program: &str, arguments: &[&str]) {
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

    pub(crate) fn namespace_path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Work on a thread of its own inside the namespace.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = self.namespace_path();
        thread::spawn(move || {
            enter_network(&path).unwrap();
            work()
        })
    }

    /// Puts text into the cluster, in place of what was there.
    pub(crate) fn publish(&self, text: &str) {
        let beside = self.path("shop.tmp");
        fs::create_dir_all(self.path("shop")).unwrap();
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path("shop").join("shop.yaml")).unwrap();
    }

    /// Follows the shop for one of the proxies.
    pub(crate) fn confgen(&mut self, proxy: &str, status: u16, listeners: &str, conventions: &str) {
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
            "[cluster]\nmanifests = {:?}\n[listen]\n{listeners}\n{conventions}\n[{proxy}]\ndirectory = {:?}\n{own}\n[apply]\nreload_gap = \"200ms\"\n[status]\nlisten = \"127.0.0.1:{status}\"\n",
            at("shop"),
            at(proxy),
        );
        fs::write(&file, text).unwrap();
        self.start_confgen(Path::new(&file));
    }

    pub(crate) fn start_confgen(&mut self, config: &Path) {
        let program = env!("CARGO_MANIFEST_DIR").to_owned() + "/../target/debug/fairlead-confgen";
        let program = std::env::var("FAIRLEAD_CONFGEN").unwrap_or(program);
        self.start(
            &program,
            &["run", "--config", &config.display().to_string()],
        );
    }

    /// Starts both, with the listeners that `listeners` gives for an address.
    pub(crate) fn serve(&mut self, listeners: impl Fn(&str) -> String, conventions: &str) {
        let proxies = [("haproxy", HAPROXY), ("nginx", NGINX)];
        for ((proxy, address), status) in proxies.into_iter().zip(STATUS) {
            self.confgen(proxy, status, &listeners(address), conventions);
        }
        let main = |proxy: &str, file: &str| self.path(proxy).join("current").join(file);
        let (haproxy, nginx) = (main("haproxy", "haproxy.cfg"), main("nginx", "nginx.conf"));
        let is_written = || (haproxy.exists() && nginx.exists()).then_some(());
        assert!(poll(PATIENCE, is_written).is_some());
        let master = format!("{},level,admin", self.path("master.sock").display());
        self.start(
            "haproxy",
            &["-W", "-S", &master, "-f", &haproxy.display().to_string()],
        );
        self.start(
            "nginx",
            &["-c", &nginx.display().to_string(), "-g", "daemon off;"],
        );
        self.live();
    }

    /// Waits until all of it is in force at both.
    pub(crate) fn live(&self) {
        for port in STATUS {
            self.status(port, is_live);
        }
    }

    /// `/status` of a process, once what it says fits.
    pub(crate) fn status(&self, port: u16, fits: impl Fn(&str) -> bool) -> String {
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
pub(crate) fn get(at: SocketAddr, host: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// Whether everything known is in force, by `/status`.
pub(crate) fn is_live(told: &str) -> bool {
    told.contains("\"gap\":null") && !told.contains("\"live\":0")
}
