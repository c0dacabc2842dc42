//! What is installed, and what is left.

use super::*;

struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        fs::write(node.0.path().join("source"), b"\x7fELF fairlead-cni 1").unwrap();
        node
    }

    fn places(&self) -> Places {
        let at = |name: &str| self.0.path().join(name);
        Places {
            config: at("net.d/10-fairlead.conflist"),
            earlier: Vec::new(),
            plugin: at("bin/fairlead-cni"),
            source: Some(at("source")),
            socket: "/run/a.sock".into(),
            state_dir: "/run/cni".into(),
            auto_mtu: true,
            hurries: true,
        }
    }

    #[track_caller]
    fn install(&self, ranges: &[&str], mtu: u32) -> Installed {
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        install(&self.places(), &ranges, Some(mtu))
    }

    fn config(&self) -> String {
        fs::read_to_string(self.places().config).unwrap_or_default()
    }

    fn times(&self) -> Vec<std::time::SystemTime> {
        let places = self.places();
        let files = [places.config, places.plugin];
        files
            .iter()
            .map(|path| fs::metadata(path).unwrap().modified().unwrap())
            .collect()
    }
}

#[test]
fn the_configuration_comes_with_the_networks_and_follows_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    assert!(node.install(&[], 1500).state.contains("waiting"));
    assert!(!node.places().config.exists() && !node.places().plugin.exists());
    assert_eq!(node.install(&["10.244.1.0/24"], 1450).error, None);
    assert!(node.config().contains("10.244.1.0/24") && node.config().contains("1450"));
    let mode = fs::metadata(node.places().plugin)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let times = node.times();
    assert_eq!(node.install(&["10.244.1.0/24"], 1450).error, None);
    assert_eq!(node.times(), times, "nothing is written that is there");
    node.install(&["10.244.7.0/24", "fd00::/64"], 1450);
    assert!(node.config().contains("10.244.7.0/24") && node.config().contains("fd00::/64"));
    node.install(&["10.244.7.0/24"], 8950);
    assert!(node.config().contains("8950"));
    fs::write(node.0.path().join("source"), "fairlead-cni 2").unwrap();
    node.install(&["10.244.7.0/24"], 8950);
    assert_eq!(fs::read(node.places().plugin).unwrap(), b"fairlead-cni 2");
    let left: Vec<_> = fs::read_dir(node.0.path().join("net.d")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_node_that_loses_its_networks_gives_no_addresses_and_keeps_what_deletions_need() {
    let node = Node::new();
    node.install(&["10.244.1.0/24"], 1450);
    let installed = node.install(&[], 1450);
    assert_eq!(installed.error, None);
    assert!(
        installed.state.contains("gives no addresses"),
        "{installed:?}"
    );
    let list: serde_json::Value = serde_json::from_str(&node.config()).unwrap();
    assert_eq!(list["plugins"][0]["ranges"], serde_json::json!([]));
    assert!(conflist::is_own(&node.config()));
    let times = node.times();
    node.install(&[], 1450);
    assert_eq!(node.times(), times, "nothing is written that is there");
    node.install(&["10.244.2.0/24"], 1450);
    assert!(node.config().contains("10.244.2.0/24"));
    // Of others, nothing is touched.
    let theirs = node.places().config.with_file_name("10-kuberouter.conf");
    let text = r#"{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}}"#;
    fs::write(&theirs, text).unwrap();
    let installed = node.install(&[], 1450);
    assert!(
        installed.state.contains("10-kuberouter.conf"),
        "{installed:?}"
    );
    assert_eq!(fs::read_to_string(&theirs).unwrap(), text);
    fs::remove_file(&theirs).unwrap();
    let config = node.places().config;
    fs::write(&config, "somebody else's").unwrap();
    assert!(node.install(&[], 1450).state.contains("waiting"));
    assert_eq!(node.config(), "somebody else's");
}

#[test]
fn without_auto_mtu_no_configuration_says_one() {
    let node = Node::new();
    let places = Places {
        auto_mtu: false,
        ..node.places()
    };
    let ranges = ["10.244.1.0/24".parse().unwrap()];
    assert_eq!(install(&places, &ranges, Some(1450)).error, None);
    assert!(!node.config().contains("mtu"), "{}", node.config());
}

#[test]
fn a_configuration_under_the_name_of_before_goes_when_the_other_is_there() {
    let node = Node::new();
    node.install(&["10.244.1.0/24"], 1450);
    let before = node.places().config;
    let theirs = before.with_file_name("20-theirs.conflist");
    fs::write(&theirs, "somebody else's").unwrap();
    let places = Places {
        config: before.with_file_name("05-pods.conflist"),
        earlier: vec![before.clone(), theirs.clone()],
        ..node.places()
    };
    let ranges = ["10.244.1.0/24".parse().unwrap()];
    assert_eq!(install(&places, &ranges, None).error, None);
    assert!(places.config.exists() && !before.exists() && theirs.exists());
}

#[test]
fn files_of_others_are_left_and_named() {
    let node = Node::new();
    let Places { config, plugin, .. } = node.places();
    for path in [&config, &plugin] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "somebody else's").unwrap();
        let error = node.install(&["10.244.1.0/24"], 1450).error.unwrap();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert_eq!(fs::read_to_string(path).unwrap(), "somebody else's");
        fs::remove_file(path).unwrap();
    }
    assert_eq!(node.install(&["10.244.1.0/24"], 1450).error, None);
}

#[test]
fn a_directory_that_cannot_be_written_is_named_with_what_to_do() {
    let node = Node::new();
    // Root may write where permissions forbid it, but not below a file.
    fs::write(node.0.path().join("net.d"), "").unwrap();
    let installed = node.install(&["10.244.1.0/24"], 1450);
    let error = installed.error.unwrap();
    assert!(error.contains("10-fairlead.conflist"), "{error}");
    fs::remove_file(node.0.path().join("net.d")).unwrap();
    assert_eq!(node.install(&["10.244.1.0/24"], 1450).error, None);
}

#[test]
fn kube_routers_configuration_wins_and_its_subnet_is_kept_current() {
    let node = Node::new();
    node.install(&["10.244.1.0/24"], 1450);
    let theirs = node.places().config.with_file_name("10-kuberouter.conf");
    fs::write(
        &theirs,
        r#"{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}}"#,
    )
    .unwrap();
    let installed = node.install(&["10.244.1.0/24"], 1450);
    assert!(
        installed.state.contains("10-kuberouter.conf"),
        "{installed:?}"
    );
    assert!(
        fs::read_to_string(&theirs)
            .unwrap()
            .contains("10.244.1.0/24")
    );
    let text = fs::read_to_string(&theirs).unwrap();
    assert!(text.contains("\"mtu\": 1450"), "{text}");
    assert!(!node.places().config.exists());
    fs::write(&theirs, r#"{"type": "ptp"}"#).unwrap();
    let error = node.install(&["10.244.1.0/24"], 1450).error.unwrap();
    assert!(error.contains("bridge"), "{error}");
}
