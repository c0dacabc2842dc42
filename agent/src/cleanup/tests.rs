use super::*;
use crate::bootstrap;

#[test]
fn only_what_is_recorded_or_in_its_place_is_planned() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in [
        "bpf/links/a",
        "bpf/maps/b",
        "bpf/somebody-else/c",
        "state/foreign",
    ] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "").unwrap();
    }
    let paths = Paths {
        state_dir: at("state"),
        bpf_root: at("bpf"),
        cgroup_root: None,
        socket: at("socket"),
    };
    let before = Sysctl {
        name: "net.ipv4.ip_forward".into(),
        before: "0".into(),
    };
    let mut ownership = Ownership::load(&paths.state_dir).unwrap();
    ownership
        .remember(|record| record.sysctls.push(before.clone()))
        .unwrap();
    let (items, _lock) = plan(&paths, &["eth0".into()], Vec::new()).unwrap();
    assert_eq!(
        items,
        [
            Item::Pin(at("bpf/links/a")),
            Item::Directory(at("bpf/links")),
            Item::Pin(at("bpf/maps/b")),
            Item::Directory(at("bpf/maps")),
            Item::Sysctl(before),
            Item::File(at("state/ownership.json")),
        ]
    );
    drop(_lock);
    for item in items.iter().filter(|item| !matches!(item, Item::Sysctl(_))) {
        take_back(item).unwrap();
        take_back(item).unwrap();
    }
    assert_eq!(plan(&paths, &[], Vec::new()).unwrap().0, []);
    assert!(at("bpf/somebody-else/c").exists() && at("state/foreign").exists());
}

#[test]
fn directories_go_after_what_is_in_them_and_the_record_after_all_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["sys/bpf/fairlead", "state", "run"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("run/agent.sock"), "").unwrap();
    fs::write(at("state/api-servers.json"), "").unwrap();
    let paths = Paths {
        state_dir: at("state"),
        bpf_root: at("sys/bpf/fairlead"),
        cgroup_root: None,
        socket: at("run/agent.sock"),
    };
    let mut ownership = Ownership::load(&paths.state_dir).unwrap();
    ownership
        .remember(|record| {
            record.mounts = [at("sys/bpf")].into();
            record.directories = ["sys/bpf/fairlead", "sys/bpf", "state", "run", "gone"]
                .map(at)
                .into();
            record.sockets = [at("run/agent.sock"), at("run/older.sock")].into();
            record.files = bootstrap::files(&bootstrap::place(&at("state"))).into();
            record.qdiscs = ["eth0".into(), "gone".into()].into();
        })
        .unwrap();
    let (items, _lock) = plan(&paths, &["eth0".into(), "eth1".into()], Vec::new()).unwrap();
    assert_eq!(
        items,
        [
            Item::Qdisc {
                interface: "eth0".into()
            },
            Item::File(at("run/agent.sock")),
            Item::File(at("state/api-servers.json")),
            Item::Directory(at("sys/bpf/fairlead")),
            Item::Mount(at("sys/bpf")),
            Item::Directory(at("sys/bpf")),
            Item::Directory(at("run")),
            Item::File(at("state/ownership.json")),
            Item::Directory(at("state")),
        ]
    );
}

#[test]
fn what_somebody_else_uses_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("foreign");
    fs::create_dir(&inner).unwrap();
    for item in [
        Item::Directory(directory.path().into()),
        Item::Mount(directory.path().into()),
    ] {
        assert_eq!(take_back(&item).unwrap(), Taken::Kept, "{item}");
    }
    fs::remove_dir(&inner).unwrap();
    // Nothing is mounted there: the machine has been restarted.
    let mount = Item::Mount(directory.path().into());
    assert_eq!(take_back(&mount).unwrap(), Taken::Back);
}

#[test]
fn a_running_agent_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths {
        state_dir: directory.path().into(),
        bpf_root: directory.path().into(),
        cgroup_root: None,
        socket: directory.path().join("socket"),
    };
    let holder = directory.path().join(HOLDER);
    let lock = Lock::take(directory.path(), &holder).unwrap();
    lock.sign(&holder).unwrap();
    let error = plan(&paths, &[], Vec::new()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("pid {}", std::process::id())),
        "{error}"
    );
}
