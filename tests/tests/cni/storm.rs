//! Many at once, and plugins that are killed anywhere.

use std::collections::BTreeSet;
use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::{CniNode, Dice, cni_program, remains};

use crate::reach::{addresses, tcp};

/// Invocations under way at once.
const PARALLEL: usize = 16;
/// How many containers a storm has, where `FAIRLEAD_CNI_STORM` does not say.
const CONTAINERS: usize = 100;
/// A plugin that has not ended within a random time up to this is killed. Alone it takes 4 ms, among
/// sixteen on two processors a hundred.
const KILLED_WITHIN_MICROSECONDS: u64 = 200_000;

/// A wide range, so that it is not what limits.
fn config(node: &CniNode) -> Value {
    node.config(&json!({"ranges": ["10.244.0.0/20", "fd00::/64"]}))
        .unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("c{n}")).collect()
}

/// Does `work` for each name, many at once.
fn each(names: &[String], work: impl Fn(&str) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(name);
                }
            });
        }
    });
}

#[test]
fn a_hundred_additions_at_once_have_addresses_of_their_own() {
    let node = CniNode::new().unwrap();
    let (config, names) = (config(&node), names(100));
    node.create(&names).unwrap();
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .map(|name| {
                scope.spawn(|| node.invoke("ADD", name, &config).unwrap().result().unwrap())
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let given: BTreeSet<_> = results.iter().flat_map(addresses).collect();
    assert_eq!(given.len(), 200);
    let (first, last) = (node.container("c0"), node.container("c99"));
    tcp(&first, &last, addresses(&results[99])[1]).unwrap();
    each(&names, |name| {
        assert_eq!(node.invoke("DEL", name, &config).unwrap().code, Some(0))
    });
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
}

/// Starts a command and kills it after a while; whether it had ended well before.
fn killed(node: &CniNode, command: &'static str, name: &str, config: &Value, dice: &Dice) -> bool {
    let program = cni_program().unwrap();
    let mut child = node
        .start(&program, &node.call(command, name), config)
        .unwrap();
    thread::sleep(Duration::from_micros(dice.roll(KILLED_WITHIN_MICROSECONDS)));
    child.kill().unwrap();
    child.wait().unwrap().success()
}

#[test]
fn plugins_that_are_killed_leave_nothing_that_a_deletion_or_a_collection_does_not_take() {
    let count = env::var("FAIRLEAD_CNI_STORM").map_or(CONTAINERS, |count| count.parse().unwrap());
    let seed = u64::from(std::process::id());
    eprintln!("{count} containers, seed {seed}");
    let dice = Dice::new(seed);
    let node = CniNode::new().unwrap();
    let (config, names) = (config(&node), names(count));
    node.create(&names).unwrap();
    let (cut, whole) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // A fifth stays, a fifth is left to GC, the others get a DEL, which may be killed too.
    let fate = |name: &str| name[1..].parse::<usize>().unwrap() % 5;
    each(&names, |name| match fate(name) {
        0 => {
            node.invoke("ADD", name, &config).unwrap().result().unwrap();
        }
        fate => {
            let ended = killed(&node, "ADD", name, &config, &dice);
            [&cut, &whole][usize::from(ended)].fetch_add(1, Ordering::Relaxed);
            if fate >= 2 {
                if dice.roll(3) == 0 {
                    node.end(&[name.to_owned()]).unwrap();
                }
                killed(&node, "DEL", name, &config, &dice);
                if fate >= 3 {
                    let outcome = node.invoke("DEL", name, &config).unwrap();
                    assert_eq!(outcome.code, Some(0), "{outcome:?}");
                }
            }
        }
    });
    let (cut, whole) = (cut.into_inner(), whole.into_inner());
    eprintln!("{cut} additions cut short, {whole} whole");
    assert!(
        cut > 0 && whole > 0,
        "the storm has to hit some and miss some"
    );
    let survivors: Vec<&String> = names.iter().filter(|name| fate(name) == 0).collect();
    let valid: Vec<Value> = survivors
        .iter()
        .map(|name| json!({"containerID": name, "ifname": "eth0"}))
        .collect();
    let mut collect = config.clone();
    collect["cni.dev/valid-attachments"] = json!(valid);
    let outcome = node.invoke("GC", "", &collect).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    // For each an interface, a lease, two routes and two neighbours.
    let left = node.inventory().unwrap();
    assert_eq!(left.len(), survivors.len() * 6, "{left:#?}");
    let own = |name: &str| {
        let shown =
            tests::harness::ip(&node.container(name), &["-j", "addr", "show", "eth0"]).unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let address = shown[0]["addr_info"][0]["local"].as_str().unwrap();
        address.parse().unwrap()
    };
    for pair in survivors.windows(2) {
        tcp(
            &node.container(pair[0]),
            &node.container(pair[1]),
            own(pair[1]),
        )
        .unwrap();
    }
    each(&names, |name| {
        let outcome = node.invoke("DEL", name, &config).unwrap();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    });
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
    let name = node.name().to_owned();
    drop(node);
    assert_eq!(remains(&name).unwrap(), Vec::<String>::new());
}
