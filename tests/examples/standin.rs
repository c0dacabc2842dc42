#![allow(warnings, clippy::all)]
use agent::lb::ebpf::{attach::*, maps::*, programs::*};
use agent_abi::service::*;
use agent_abi::settings::*;
use serde::Deserialize;
use serde_json::Value;
use std::collections::*;
use std::io::{Read, Write};
use std::net::*;
use std::path::*;

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}
fn docs(dir: &str) -> Vec<Value> {
    let mut out = vec![];
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    for f in files {
        if f.extension().map_or(true, |e| e != "yaml") {
            continue;
        }
        let Ok(t) = std::fs::read_to_string(&f) else {
            continue;
        };
        for d in serde_norway::Deserializer::from_str(&t) {
            match Value::deserialize(d) {
                Ok(v) => out.push(v),
                Err(_) => break,
            }
        }
    }
    out
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let get = |n: &str| {
        args.iter()
            .position(|a| a == n)
            .map(|i| args[i + 1].clone())
    };
    let dir = get("--manifests").unwrap();
    let node = get("--hostname-override").unwrap();
    let bpf = PathBuf::from(get("--bpf-root").unwrap());
    let cg = get("--cgroup-root").unwrap();
    let masq = args.iter().any(|a| a == "--masquerade-all");
    let pins = bpf.join("maps");
    let mut programs = Programs::load(
        agent::lb::ebpf::OBJECT.expect("object"),
        &pins,
        Limits {
            services: 1000,
            backends: 4000,
            connections: 65536,
        },
    )
    .unwrap();
    let mut maps = Maps::open(&pins).unwrap();
    std::fs::write("/proc/sys/net/ipv4/conf/lo/accept_local", "1").unwrap();
    std::fs::write("/proc/sys/net/ipv4/conf/lo/rp_filter", "0").unwrap();
    let d = docs(&dir);
    let mut nodeips: Vec<IpAddr> = vec![];
    for n in d
        .iter()
        .filter(|d| d["kind"] == "Node" && d["metadata"]["name"] == node.as_str())
    {
        for a in n["status"]["addresses"].as_array().unwrap() {
            if a["type"] == "InternalIP" {
                nodeips.push(a["address"].as_str().unwrap().parse().unwrap());
            }
        }
    }
    let mut s = SettingsV1 {
        node_v4: [0; 16],
        node_v6: [0; 16],
        cluster_v4: [0; 16],
        cluster_v6: [0; 16],
        cluster_v4_bits: 0,
        cluster_v6_bits: 0,
        flags: 0,
        _pad: 0,
    };
    for ip in &nodeips {
        if ip.is_ipv4() {
            s.node_v4 = mapped(*ip)
        } else {
            s.node_v6 = mapped(*ip)
        }
    }
    if masq {
        s.flags |= SETTING_MASQUERADE_ALL;
    }
    configure(&pins, s).unwrap();
    let mut att = Attachments::new(bpf.join("links"), Mode::of_this_kernel()).unwrap();
    let out = std::process::Command::new("ip")
        .args(["-j", "link"])
        .output()
        .unwrap();
    let links: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    let targets: Vec<Target> = links
        .iter()
        .filter_map(|l| {
            let name = l["ifname"].as_str().unwrap();
            Some(Target {
                index: l["ifindex"].as_u64().unwrap() as u32,
                name: name.into(),
                side: if name == "eth0" || name == "lo" {
                    Side::Uplink
                } else {
                    Side::Workload
                },
            })
        })
        .collect();
    for e in att.follow(&mut programs, &targets) {
        panic!("{e:?}");
    }
    att.attach_connect(&mut programs, Path::new(&cg)).unwrap();
    let mut ids: BTreeMap<String, u32> = BTreeMap::new();
    let mut bids: BTreeMap<String, u32> = BTreeMap::new();
    let mut fronts: BTreeMap<FrontendKeyV1, ()> = BTreeMap::new();
    let mut next = 1u32;
    let mut nextb = 1u32;
    let mut first = true;
    let mut last = vec![];
    let mut slotcount: BTreeMap<u32, u32> = BTreeMap::new();
    loop {
        std::fs::write("/proc/sys/net/ipv4/conf/lo/accept_local", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/lo/rp_filter", "0").unwrap();
        let d = docs(&dir);
        if d != last {
            last = d.clone();
            let mut newfronts = BTreeMap::new();
            let mut newb: BTreeMap<String, u32> = BTreeMap::new();
            for sv in d.iter().filter(|d| d["kind"] == "Service") {
                if !sv["spec"]["clusterIPs"].is_array() {
                    continue;
                }
                for ip in sv["spec"]["clusterIPs"].as_array().unwrap() {
                    let ip: IpAddr = ip.as_str().unwrap().parse().unwrap();
                    for p in sv["spec"]["ports"].as_array().unwrap() {
                        let proto = if p["protocol"] == "UDP" { 17u8 } else { 6 };
                        let key = format!("{} {} {}", sv["metadata"]["name"], p["name"], ip);
                        let id = *ids.entry(key.clone()).or_insert_with(|| {
                            next += 1;
                            next
                        });
                        let mut eps: Vec<(IpAddr, u16, bool, Value)> = vec![];
                        for sl in d.iter().filter(|x| {
                            x["kind"] == "EndpointSlice"
                                && x["metadata"]["labels"]["kubernetes.io/service-name"]
                                    == sv["metadata"]["name"]
                        }) {
                            if (sl["addressType"] == "IPv6") != ip.is_ipv6() {
                                continue;
                            }
                            let Some(port) = sl["ports"]
                                .as_array()
                                .unwrap()
                                .iter()
                                .find(|x| x["name"] == p["name"])
                            else {
                                continue;
                            };
                            for e in sl["endpoints"].as_array().unwrap() {
                                eps.push((
                                    e["addresses"][0].as_str().unwrap().parse().unwrap(),
                                    port["port"].as_u64().unwrap() as u16,
                                    e["nodeName"] == node.as_str(),
                                    e["conditions"].clone(),
                                ));
                            }
                        }
                        let ready: Vec<_> = eps
                            .iter()
                            .filter(|e| e.3["ready"] == true)
                            .cloned()
                            .collect();
                        let term: Vec<_> = eps
                            .iter()
                            .filter(|e| {
                                e.3["ready"] != true
                                    && e.3["serving"] == true
                                    && e.3["terminating"] == true
                            })
                            .cloned()
                            .collect();
                        let all_keep: Vec<_> = eps
                            .iter()
                            .filter(|e| e.3["ready"] == true || e.3["serving"] == true)
                            .cloned()
                            .collect();
                        let chosen = if ready.is_empty() { term } else { ready };
                        for e in &all_keep {
                            let bk = format!("{key} {} {}", e.0, e.1);
                            let b = *bids.entry(bk.clone()).or_insert_with(|| {
                                nextb += 1;
                                nextb
                            });
                            newb.insert(bk, b);
                            maps.backends
                                .put(
                                    b,
                                    BackendV1 {
                                        address: mapped(e.0),
                                        port: e.1.to_be_bytes(),
                                        flags: if e.2 { BACKEND_LOCAL } else { 0 },
                                        service: id,
                                    },
                                )
                                .unwrap();
                        }
                        for (i, e) in chosen.iter().enumerate() {
                            let b = newb[&format!("{key} {} {}", e.0, e.1)];
                            maps.slots
                                .put(
                                    SlotKeyV1 {
                                        service: id,
                                        slot: i as u32,
                                    },
                                    b,
                                )
                                .unwrap();
                        }
                        maps.services
                            .put(
                                id,
                                ServiceV1 {
                                    slots: chosen.len() as u32,
                                },
                            )
                            .unwrap();
                        let old = slotcount.insert(id, chosen.len() as u32).unwrap_or(0);
                        for i in chosen.len() as u32..old {
                            maps.slots
                                .delete(SlotKeyV1 {
                                    service: id,
                                    slot: i,
                                })
                                .unwrap();
                        }
                        let mut f = vec![(ip, p["port"].as_u64().unwrap() as u16, 0u32)];
                        if let Some(np) = p["nodePort"].as_u64() {
                            for n in &nodeips {
                                if n.is_ipv6() == ip.is_ipv6() {
                                    f.push((*n, np as u16, FRONTEND_NODE_PORT));
                                }
                            }
                        }
                        for (a, po, fl) in f {
                            let k = FrontendKeyV1 {
                                address: mapped(a),
                                port: po.to_be_bytes(),
                                protocol: proto,
                                _pad: 0,
                            };
                            maps.frontends
                                .put(
                                    k,
                                    FrontendV1 {
                                        service: id,
                                        flags: fl,
                                    },
                                )
                                .unwrap();
                            newfronts.insert(k, ());
                        }
                    }
                }
            }
            for k in fronts.keys() {
                if !newfronts.contains_key(k) {
                    maps.frontends.delete(*k).unwrap();
                }
            }
            fronts = newfronts;
            bids.retain(|k, b| {
                if newb.contains_key(k) {
                    true
                } else {
                    maps.backends.delete(*b).unwrap();
                    false
                }
            });
        }
        if first {
            first = false;
            let health = get("--health-addr").unwrap();
            std::thread::spawn(move || {
                let l = TcpListener::bind(health).unwrap();
                for s in l.incoming().flatten() {
                    let mut s = s;
                    let mut b = [0; 1024];
                    let _ = s.read(&mut b);
                    let _ = s.write_all(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                    );
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
