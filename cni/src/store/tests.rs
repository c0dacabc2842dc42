//! The store on a real directory.

use std::thread;

use super::*;

fn place(directory: &Path) -> Place {
    Place {
        network: "pods".to_owned(),
        state_dir: directory.to_owned(),
    }
}

fn holder(container: &str) -> Holder {
    Holder {
        attachment: Attachment {
            container: container.to_owned(),
            ifname: "eth0".to_owned(),
        },
        pod: Some(Pod {
            namespace: "shop".to_owned(),
            name: format!("{container}-0"),
            uid: None,
        }),
    }
}

fn ranges(text: &str) -> Vec<Range> {
    let ranges = text.split_whitespace().map(|text| text.parse().unwrap());
    ranges.map(|network| Range::new(network).unwrap()).collect()
}

fn lease(directory: &Path, container: &str, of: &str, wanted: &str) -> Result<Lease, CniError> {
    let wanted: Vec<IpAddr> = wanted
        .split_whitespace()
        .map(|a| a.parse().unwrap())
        .collect();
    Store::open(&place(directory))?.lease(&holder(container), &ranges(of), &wanted)
}

fn release(directory: &Path, container: &str) {
    let store = Store::open(&place(directory)).unwrap();
    store
        .release(&HostInterface::of(&holder(container).attachment))
        .unwrap();
}

fn shown(lease: &Lease) -> String {
    let addresses: Vec<_> = lease.addresses.iter().map(ToString::to_string).collect();
    addresses.join(" ")
}

const BOTH: &str = "10.0.0.0/29 fd00::/64";

#[test]
fn a_lease_has_all_addresses_until_it_is_released() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let first = lease(path, "a", BOTH, "").unwrap();
    assert_eq!(shown(&first), "10.0.0.2 fd00::2");
    assert_eq!(
        shown(&lease(path, "b", BOTH, "").unwrap()),
        "10.0.0.3 fd00::3"
    );
    let store = Store::open(&place(path)).unwrap();
    assert_eq!(store.find(&first.interface).unwrap(), Some(first.clone()));
    assert_eq!(store.holder(&first).unwrap(), holder("a"));
    drop(store);
    for _ in 0..2 {
        release(path, "a");
        assert_eq!(
            Store::open(&place(path)).unwrap().leases().unwrap().len(),
            1
        );
    }
    assert_eq!(
        shown(&lease(path, "c", BOTH, "").unwrap()),
        "10.0.0.4 fd00::4"
    );
}

#[test]
fn errors_name_the_range_the_holders_and_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for container in ["a", "b", "c", "d"] {
        lease(path, container, BOTH, "").unwrap();
    }
    let twice = lease(path, "a", BOTH, "").unwrap_err();
    assert_eq!(twice.code, Code::AlreadyAttached);
    assert!(twice.details.contains("10.0.0.2 and fd00::2"), "{twice}");
    let held = lease(path, "x", BOTH, "10.0.0.3").unwrap_err();
    assert_eq!(held.code, Code::AddressInUse);
    assert!(
        held.details.contains("Pod shop/b-0, eth0 of container b"),
        "{held}"
    );
    lease(path, "e", BOTH, "10.0.0.6").unwrap();
    let full = lease(path, "x", BOTH, "").unwrap_err();
    assert_eq!(full.code, Code::Exhausted);
    assert_eq!(full.msg, "no address of 10.0.0.0/29 is free");
    assert!(
        full.details.contains("all 5 are leased: 5 by shop;"),
        "{full}"
    );
    assert_eq!(
        Store::open(&place(path)).unwrap().leases().unwrap().len(),
        5
    );
}

#[test]
fn what_a_crash_leaves_is_neither_counted_nor_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let interface = HostInterface::of(&holder("a").attachment);
    drop(Store::open(&place(path)).unwrap());
    let unfinished = path.join(format!("pods/leases/{UNFINISHED}{interface}"));
    fs::write(&unfinished, "{\"conta").unwrap();
    assert_eq!(Store::open(&place(path)).unwrap().leases().unwrap(), []);
    release(path, "a");
    assert!(!unfinished.exists());
    fs::write(&unfinished, "{\"conta").unwrap();
    Store::open(&place(path)).unwrap().sweep().unwrap();
    assert!(!unfinished.exists());
    fs::write(&unfinished, "{\"conta").unwrap();
    fs::write(path.join("pods/last"), "10.0.0.4\ngarbage").unwrap();
    assert_eq!(
        shown(&lease(path, "a", BOTH, "").unwrap()),
        "10.0.0.5 fd00::2"
    );
}

#[test]
fn a_file_that_is_no_lease_is_an_error_and_not_a_free_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    drop(Store::open(&place(path)).unwrap());
    for name in ["README", "fl0000000000000", "fl0000000000000,ten"] {
        let file = path.join("pods/leases").join(name);
        fs::write(&file, "").unwrap();
        let error = lease(path, "a", BOTH, "").unwrap_err();
        assert_eq!(error.code, Code::Io);
        assert!(error.msg.contains(name), "{error}");
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn nothing_is_made_where_nothing_is() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Store::existing(&place(directory.path())).unwrap().is_none());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    fs::write(directory.path().join("pods"), "a file in the way").unwrap();
    let error = Store::open(&place(directory.path())).unwrap_err();
    assert_eq!(error.code, Code::Io);
}

#[test]
fn no_address_is_given_twice_when_many_ask_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let given: Vec<Lease> = thread::scope(|scope| {
        let threads: Vec<_> = (0..60)
            .map(|n| {
                let path = directory.path();
                scope.spawn(move || {
                    lease(path, &format!("c{n}"), "10.0.0.0/26 fd00::/64", "").unwrap()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let distinct: BTreeSet<IpAddr> = given
        .iter()
        .flat_map(|lease| lease.addresses.clone())
        .collect();
    assert_eq!(distinct.len(), 120);
}
