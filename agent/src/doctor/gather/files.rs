//! What files say.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{seen, what};
use crate::cni::conflist;
use crate::doctor::facts::{Configuration, Networkd, Seen, Unseen};

/// State of a TCP socket that listens, as /proc/net/tcp has it.
pub(super) const LISTENS: &str = "0A";
/// Endings of CNI configurations (libcni).
const CONFIGURATIONS: [&str; 3] = ["conf", "conflist", "json"];
/// Where settings of programs are, each place over those before it.
const PLACES: [&str; 3] = ["usr/lib", "run", "etc"];

/// The file system of the node.
#[derive(Debug)]
pub(super) struct Files<'a> {
    pub(super) root: &'a Path,
}

impl Files<'_> {
    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What systemd-networkd is told, where it runs.
    pub(super) fn networkd(&self) -> Seen<Option<Networkd>> {
        if !self.at(Path::new("/run/systemd/netif/state")).exists() {
            return Ok(None);
        }
        let mut told = Networkd {
            routes: true,
            rules: true,
        };
        for (name, value) in self.settings("systemd", "networkd.conf", "networkd.conf.d")? {
            let on = matches!(&*value.to_lowercase(), "yes" | "true" | "on" | "1");
            match &*name {
                "ManageForeignRoutes" => told.routes = on,
                "ManageForeignRoutingPolicyRules" => told.rules = on,
                _ => {}
            }
        }
        Ok(Some(told))
    }

    /// What NetworkManager leaves alone, where it runs.
    pub(super) fn network_manager(&self) -> Seen<Option<Vec<String>>> {
        if !self.at(Path::new("/run/NetworkManager/devices")).exists() {
            return Ok(None);
        }
        let mut unmanaged = Vec::new();
        for (name, value) in self.settings("NetworkManager", "NetworkManager.conf", "conf.d")? {
            match &*name {
                "unmanaged-devices" => unmanaged = specifications(&value),
                "unmanaged-devices+" => unmanaged.extend(specifications(&value)),
                _ => {}
            }
        }
        Ok(Some(unmanaged))
    }

    /// Settings of a program in their order: of its file, then of the files beside it by name. A
    /// file hides those of its name in places before.
    fn settings(&self, program: &str, file: &str, directory: &str) -> Seen<Vec<(String, String)>> {
        let mut beside: Vec<(String, PathBuf)> = Vec::new();
        let mut settings = Vec::new();
        for place in PLACES {
            let home = self.root.join(place).join(program);
            for name in names(&home.join(directory))? {
                beside.retain(|(known, _)| *known != name);
                let path = home.join(directory).join(&name);
                beside.push((name, path));
            }
            settings.extend(assignments(&read(&home.join(file))?));
        }
        beside.sort();
        for (_, path) in beside.iter().filter(|(name, _)| name.ends_with(".conf")) {
            settings.extend(assignments(&read(path)?));
        }
        Ok(settings)
    }

    /// CNI configurations, as runtimes sort them.
    pub(super) fn configurations(&self, directory: &Path) -> Seen<Vec<Configuration>> {
        let directory = self.at(directory);
        let is_one = |name: &String| {
            let ending = Path::new(name).extension().unwrap_or_default();
            CONFIGURATIONS.iter().any(|known| ending == *known)
        };
        let mut found = Vec::new();
        for name in names(&directory)?.into_iter().filter(is_one) {
            let own = conflist::is_own(&read(&directory.join(&name))?);
            found.push(Configuration { name, own });
        }
        Ok(found)
    }
}

/// `NAME=VALUE` of an INI file.
fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

fn specifications(value: &str) -> Vec<String> {
    let parts = value.split([';', ',']).map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Names in a directory, sorted; none where it is not there.
fn names(directory: &Path) -> Seen<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        other => what(other, directory.display())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = what(entry, directory.display())?.file_name();
        names.extend(name.into_string());
    }
    names.sort();
    Ok(names)
}

/// Text of a file; none where it is not there.
fn read(path: &Path) -> Seen<String> {
    match fs::read_to_string(path) {
        Err(error) if is_absent(&error) => Ok(String::new()),
        other => what(other, path.display()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Local ports of /proc/net files, of sockets in a state.
pub(super) fn ports(names: [&str; 2], state: Option<&str>) -> Seen<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for name in names {
        ports.extend(ports_of(&read(&Path::new("/proc/net").join(name))?, state));
    }
    Ok(ports)
}

/// Each line has, after its number, the local address as `ADDRESS:PORT`, the remote one, the state.
fn ports_of(text: &str, state: Option<&str>) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (_, port) = words.next()?.rsplit_once(':')?;
        let found = words.nth(1)?;
        let is_wanted = state.is_none_or(|state| state == found);
        is_wanted
            .then(|| u16::from_str_radix(port, 16).ok())
            .flatten()
    };
    text.lines().skip(1).filter_map(port).collect()
}

/// Virtual servers of IPVS: lines that begin with a protocol, or with FWM.
pub(super) fn ipvs() -> Seen<usize> {
    let text = read(Path::new("/proc/net/ip_vs"))?;
    let kinds = ["TCP", "UDP", "SCTP", "FWM"];
    let is_server = |line: &&str| kinds.iter().any(|kind| line.starts_with(kind));
    Ok(text.lines().filter(is_server).count())
}

/// Version of the kernel.
pub(super) fn kernel() -> Seen<(u32, u32)> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|number| number.parse().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => seen(Err::<_, io::Error>(io::Error::other(release)))
            .map_err(|Unseen(release)| Unseen(format!("`{release}` is no version of a kernel"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_later_places_and_names_win() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let files = Files { root: root.path() };
        assert_eq!(files.networkd(), Ok(None));
        write("run/systemd/netif/state", "");
        let told = |routes, rules| Ok(Some(Networkd { routes, rules }));
        assert_eq!(files.networkd(), told(true, true));
        write(
            "etc/systemd/networkd.conf",
            "[Network]\n#ManageForeignRoutes=yes\nManageForeignRoutes=no\n",
        );
        assert_eq!(files.networkd(), told(false, true));
        write(
            "usr/lib/systemd/networkd.conf.d/10-vendor.conf",
            "[Network]\nManageForeignRoutingPolicyRules = no\nManageForeignRoutes=true\n",
        );
        assert_eq!(files.networkd(), told(true, false));
        write("etc/systemd/networkd.conf.d/10-vendor.conf", "");
        assert_eq!(files.networkd(), told(false, true));
    }

    #[test]
    fn what_network_manager_leaves_alone_adds_up() {
        let root = tempfile::tempdir().unwrap();
        let files = Files { root: root.path() };
        assert_eq!(files.network_manager(), Ok(None));
        fs::create_dir_all(root.path().join("run/NetworkManager/devices")).unwrap();
        let home = root.path().join("etc/NetworkManager/conf.d");
        fs::create_dir_all(&home).unwrap();
        fs::write(
            home.join("a.conf"),
            "[keyfile]\nunmanaged-devices=mac:1;interface-name:fl*\n",
        )
        .unwrap();
        fs::write(
            home.join("b.conf"),
            "unmanaged-devices+=interface-name:fairlead-*\n",
        )
        .unwrap();
        let expected = ["mac:1", "interface-name:fl*", "interface-name:fairlead-*"];
        assert_eq!(files.network_manager().unwrap().unwrap(), expected);
    }

    #[test]
    fn ports_are_read_with_their_state() {
        let text = "  sl  local_address rem_address   st tx_queue\n\
                    0: 0100007F:4F14 00000000:0000 0A 0\n\
                    1: 0100007F:12B5 0100007F:1234 01 0\n";
        assert_eq!(ports_of(text, Some(LISTENS)), [20244].into());
        assert_eq!(ports_of(text, None), [4789, 20244].into());
    }

    #[test]
    fn configurations_are_sorted_and_the_agents_is_known() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("etc/cni/net.d");
        let files = Files { root: root.path() };
        let directory = Path::new("/etc/cni/net.d");
        assert_eq!(files.configurations(directory), Ok(Vec::new()));
        fs::create_dir_all(&home).unwrap();
        fs::write(
            home.join("10-fairlead.conflist"),
            conflist::own(&[], None, directory, directory, false),
        )
        .unwrap();
        fs::write(home.join("05-other.conf"), "{}").unwrap();
        fs::write(home.join("00-note.txt"), "").unwrap();
        let of = |name: &str, own| Configuration {
            name: name.to_owned(),
            own,
        };
        let expected = vec![of("05-other.conf", false), of("10-fairlead.conflist", true)];
        assert_eq!(files.configurations(directory), Ok(expected));
    }
}
