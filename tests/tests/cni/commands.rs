//! Each command against the specification.

use serde_json::{Value, json};
use tests::harness::{CniNode, cni_program, ip};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn an_addition_is_what_its_result_says() {
    let node = CniNode::new().unwrap();
    node.create(&names(&["c1"])).unwrap();
    let config = node
        .config(&json!({"mtu": 1420, "dns": {"nameservers": ["10.96.0.10"]},
            "runtimeConfig": {"ips": ["10.244.1.77/24"], "mac": "0a:58:00:00:00:77",
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}))
        .unwrap();
    let result = node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    let host_mac = result["interfaces"][0]["mac"].as_str().unwrap();
    let expected = json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": host, "mac": host_mac, "mtu": 1420},
            {"name": "eth0", "mac": "0a:58:00:00:00:77", "mtu": 1420, "sandbox": node.container("c1").path()},
        ],
        "ips": [
            {"address": "10.244.1.77/32", "gateway": "169.254.1.1", "interface": 1},
            {"address": "fd00:10:244:1::2/128", "gateway": "fe80::1", "interface": 1},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}],
        "dns": {"nameservers": ["10.96.0.10"]},
    });
    assert_eq!(result, expected);
    let shown = node.show(&["-d", "link", "show", host]).unwrap();
    for part in [host_mac, "mtu 1420", "alias shop/c1", ",UP", "veth"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let pod = node.container("c1");
    let shown = ip(&pod, &["addr", "show", "eth0"]).unwrap();
    for part in [
        "0a:58:00:00:00:77",
        "mtu 1420",
        "inet 10.244.1.77/32",
        "fd00:10:244:1::2/128",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("tentative"), "{shown}");
    assert!(ip(&pod, &["link", "show", "lo"]).unwrap().contains(",UP"));
    let routes = node.show(&["route", "show", "proto", "70"]).unwrap();
    assert_eq!(routes.trim(), format!("10.244.1.77 dev {host} scope link"));
}

#[test]
fn results_have_the_version_that_is_asked_for() {
    let node = CniNode::new().unwrap();
    for (index, (version, family, mtu)) in [
        ("0.3.1", json!("4"), Value::Null),
        ("0.4.0", json!("4"), Value::Null),
        ("1.0.0", Value::Null, Value::Null),
        ("1.1.0", Value::Null, json!(1500)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{index}");
        node.create(&names(&[&name])).unwrap();
        let config = node.config(&json!({"cniVersion": version})).unwrap();
        let result = node
            .invoke("ADD", &name, &config)
            .unwrap()
            .result()
            .unwrap();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0]["version"], family);
        assert_eq!(result["interfaces"][1]["mtu"], mtu);
        if version != "0.3.1" {
            node.after("CHECK", &name, std::slice::from_ref(&config), &result)
                .unwrap();
        }
        node.after("DEL", &name, &[config], &result).unwrap();
    }
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
}

#[test]
fn the_mtu_is_that_of_the_way_out_where_none_is_given() {
    let node = CniNode::new().unwrap();
    let uplink = "link add up0 mtu 1380 type veth peer name up1\nlink set up0 up\nlink set up1 up\n\
                  addr add 192.168.7.1/24 dev up0\nroute add default via 192.168.7.2\n";
    node.namespace.ip(uplink).unwrap();
    node.create(&names(&["c1"])).unwrap();
    let config = node.config(&json!({})).unwrap();
    let result = node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
    assert_eq!(result["interfaces"][1]["mtu"], 1380);
}

#[test]
fn a_deletion_works_for_anything_and_any_number_of_times() {
    let node = CniNode::new().unwrap();
    let config = node.config(&json!({})).unwrap();
    let delete = |name: &str, config: &Value| {
        let outcome = node.invoke("DEL", name, config).unwrap();
        assert_eq!((outcome.code, outcome.output), (Some(0), None));
    };
    // Nobody has heard of it, and there is not even a directory.
    delete("unknown", &config);
    assert!(!node.state_dir().exists());
    node.create(&names(&["c1", "c2"])).unwrap();
    for name in ["c1", "c2"] {
        node.invoke("ADD", name, &config).unwrap().result().unwrap();
    }
    // Its namespace is gone, with CNI_NETNS and without.
    node.end(&names(&["c1"])).unwrap();
    delete("c1", &config);
    delete("c1", &config);
    let mut call = node.call("DEL", "c2");
    call.netns = None;
    // The configuration has changed meanwhile into one that no ADD would take.
    let broken = node.config(&json!({"ranges": [], "typo": 1})).unwrap();
    let outcome = node.run(&cni_program().unwrap(), &call, &broken).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
    // The namespace stays usable.
    node.invoke("ADD", "c2", &config).unwrap().result().unwrap();
}

#[test]
fn a_check_names_what_is_missing() {
    let node = CniNode::new().unwrap();
    let config = node.config(&json!({})).unwrap();
    for (name, damage, on_node, expected) in [
        (
            "c1",
            "addr del 10.244.1.2/32 dev eth0",
            false,
            "lost 10.244.1.2",
        ),
        (
            "c2",
            "route del default via fe80::1 dev eth0",
            false,
            "default route by fe80::1",
        ),
        (
            "c3",
            "link set eth0 address 02:00:00:00:00:99",
            false,
            "02:00:00:00:00:99",
        ),
        ("c4", "link set HOST down", true, "is down"),
        ("c5", "route del 10.244.1.6", true, "route to 10.244.1.6"),
        ("c6", "link del HOST", true, "is gone"),
    ] {
        node.create(&names(&[name])).unwrap();
        let result = node.invoke("ADD", name, &config).unwrap().result().unwrap();
        node.after("CHECK", name, std::slice::from_ref(&config), &result)
            .unwrap();
        let host = result["interfaces"][0]["name"].as_str().unwrap();
        let place = match on_node {
            true => node.namespace.clone(),
            false => node.container(name),
        };
        place
            .ip(&format!("{}\n", damage.replace("HOST", host)))
            .unwrap();
        let mut checked = config.clone();
        checked["prevResult"] = result;
        let (code, text) = node
            .invoke("CHECK", name, &checked)
            .unwrap()
            .error()
            .unwrap();
        assert_eq!(code, 104, "{text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let mut never = config.clone();
    never["prevResult"] = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.244.1.99/32"}]});
    node.create(&names(&["c7"])).unwrap();
    let (_, text) = node.invoke("CHECK", "c7", &never).unwrap().error().unwrap();
    assert!(text.contains("10.244.1.99 is not leased"), "{text}");
}

#[test]
fn a_collection_leaves_what_is_valid_and_other_networks() {
    let node = CniNode::new().unwrap();
    let config = node.config(&json!({})).unwrap();
    let other = node
        .config(&json!({"name": "other", "ranges": ["10.9.0.0/24"]}))
        .unwrap();
    let all = names(&["c1", "c2", "c3", "o1"]);
    node.create(&all).unwrap();
    for name in &all[..3] {
        node.invoke("ADD", name, &config).unwrap().result().unwrap();
    }
    node.invoke("ADD", "o1", &other).unwrap().result().unwrap();
    node.end(&names(&["c1"])).unwrap();
    let mut collect = config.clone();
    collect["cni.dev/valid-attachments"] = json!([{"containerID": "c3", "ifname": "eth0"},
        {"containerID": "c2", "ifname": "net1"}]);
    let outcome = node.invoke("GC", "", &collect).unwrap();
    assert_eq!((outcome.code, outcome.output), (Some(0), None));
    let left = node.inventory().unwrap().join("\n");
    for (address, stays) in [
        ("10.244.1.2", false),
        ("10.244.1.3", false),
        ("10.244.1.4", true),
        ("10.9.0.2", true),
    ] {
        assert_eq!(left.contains(address), stays, "{address}: {left}");
    }
    collect["cni.dev/valid-attachments"] = json!([]);
    node.invoke("GC", "", &collect).unwrap();
    let left = node.inventory().unwrap();
    assert!(
        left.iter().all(|line| !line.contains("10.244.")),
        "{left:?}"
    );
    assert!(
        left.iter().any(|line| line.contains("10.9.0.2")),
        "{left:?}"
    );
}

#[test]
fn the_status_is_that_of_the_next_addition() {
    let node = CniNode::new().unwrap();
    let status = |more: &Value| {
        node.invoke("STATUS", "", &node.config(more).unwrap())
            .unwrap()
    };
    let good = status(&json!({}));
    assert_eq!((good.code, good.output), (Some(0), None));
    let (code, text) = status(&json!({"agentSocket": "/nonexistent/a.sock"}))
        .error()
        .unwrap();
    assert_eq!(code, 50);
    assert!(text.contains("/nonexistent/a.sock"), "{text}");
    let (code, text) = status(&json!({"stateDir": "/proc/none"})).error().unwrap();
    assert_eq!(code, 50, "{text}");
    let (code, text) = status(&json!({"ranges": []})).error().unwrap();
    assert_eq!(code, 50);
    assert!(text.contains("pod network"), "{text}");
    let (code, _) = status(&json!({"ranges": ["ten"]})).error().unwrap();
    assert_eq!(code, 7);
}

#[test]
fn versions_are_told() {
    let node = CniNode::new().unwrap();
    let asked = json!({"cniVersion": "1.0.0"});
    let result = node
        .invoke("VERSION", "", &asked)
        .unwrap()
        .result()
        .unwrap();
    let expected =
        json!({"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]});
    assert_eq!(result, expected);
}
