//! The largest packet of pods, as the flags say it.

use serde_json::{Value, json};
use tests::harness::{Sandbox, eventually, ip};

use super::{Families, Network, OVERLAY};

impl Network {
    /// What the installed configuration says, once it is so.
    #[track_caller]
    fn await_configured(&self, mtu: &Value) {
        let path = self.cni("node1", "net.d/10-fairlead.conflist");
        eventually("the configuration is current", || {
            let list: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
            let found = &list["plugins"][0]["mtu"];
            anyhow::ensure!(found == mtu, "{found}, not {mtu}");
            Ok(Some(()))
        })
        .unwrap();
    }

    /// The MTU of both ends of a fresh pod, as the plugin makes it.
    #[track_caller]
    fn mtu_of_pod(&self, name: &str) -> [u32; 2] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "lab"},
            "spec": {"nodeName": "node1", "containers": [{"name": "c"}]}, "status": {"phase": "Pending"}});
        let manifests = self.lab.manifests();
        manifests.write(&format!("{name}.yaml"), &[pod]).unwrap();
        self.lab.await_plugin("node1").unwrap();
        let sandbox = Sandbox::new("node1", "lab", name);
        let place = self.lab.create_sandbox(&sandbox).unwrap();
        let added = self.lab.invoke_plugin("ADD", &sandbox).unwrap();
        let answer = added.result().unwrap();
        let host = answer["interfaces"][0]["name"].as_str().unwrap();
        let of = |text: &str| {
            let rest = text.split_once(" mtu ").unwrap().1;
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        let inside = of(&ip(&place.namespace, &["link", "show", "eth0"]).unwrap());
        let outside = of(&self.show("node1", &["link", "show", host]));
        let deleted = self.lab.invoke_plugin("DEL", &sandbox).unwrap();
        assert_eq!(deleted.code, Some(0), "{deleted:?}");
        self.lab.end_sandbox(&sandbox).unwrap();
        [inside, outside]
    }

    /// Starts the first node's agent anew with these flags.
    #[track_caller]
    fn restart_with(&mut self, flags: &[&str]) {
        self.kill_agent("node1");
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.start_ready("node1");
    }
}

#[test]
fn pods_and_the_overlay_have_the_mtu_that_the_flags_say() {
    let mut network = Network::build(Families::Both, 1500, &["--mtu=1400"]);
    network.start_ready("node1");
    network.await_routes("node1", 4);
    let overlay = |network: &Network| network.show("node1", &["link", "show", OVERLAY]);
    for (flags, uplink, pods) in [
        (&["--mtu=1400"][..], 1400, 1350),
        // What the interfaces say is less.
        (&["--mtu=9000"], 1500, 1450),
        (&["--mtu=1400", "--enable-overlay=false"], 1400, 1400),
        (&["--mtu=1400", "--overlay-encap=ipip"], 1400, 1380),
        (&[], 1500, 1450),
    ] {
        network.restart_with(flags);
        network.await_configured(&json!(pods));
        assert_eq!(network.mtu_of_pod("fresh"), [pods; 2], "{flags:?}");
        assert_eq!(network.routing("node1")["pod_mtu"], pods, "{flags:?}");
        if uplink - pods == 50 {
            eventually("the overlay follows", || {
                Ok(overlay(&network)
                    .contains(&format!("mtu {pods} "))
                    .then_some(()))
            })
            .unwrap();
        }
    }
}

#[test]
fn without_auto_mtu_the_configuration_says_none_and_pods_have_what_the_uplink_takes() {
    let mut network = Network::build(Families::Both, 1500, &["--auto-mtu=false"]);
    network.start_ready("node1");
    network.await_configured(&Value::Null);
    assert_eq!(network.mtu_of_pod("plain"), [1500; 2]);
    // What the overlay itself takes is no matter of pods' interfaces.
    assert_eq!(network.routing("node1")["pod_mtu"], 1450);
    // What an operator writes there is kept.
    network.restart_with(&[]);
    network.await_configured(&json!(1450));
    assert_eq!(network.mtu_of_pod("computed"), [1450; 2]);
}
