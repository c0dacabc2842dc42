//! Full tables: what the agent reads of them, and who is driven out.

use agent::sys::map::{evicts, lru_usage};
use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV3, OPENING_MAP, TupleV1};

use crate::lab::{At, Lab};

/// Entries of `CONNECTIONS_V3`; of `OPENING_V3`, a quarter.
const SIZE: u32 = 2048;
const OPENING: u32 = SIZE / 4;
/// A connection has two; of one that nobody has answered yet, there is one.
const ENTRIES: u32 = 2;
const ENTRIES_UNANSWERED: u32 = 1;

fn lab() -> Lab {
    let mut lab = Lab::sized(SIZE);
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    lab
}

/// Client number `number`, of the clients of `network`.
fn client(network: u8, number: u32) -> String {
    let [.., c, d] = number.to_be_bytes();
    format!("10.{network}.{c}.{d}:4000")
}

/// The client's packet and the backend's, up to where the connection stands; the answer says
/// whether all were translated.
fn send(lab: &mut Lab, client: &str, packets: &[&str]) -> bool {
    packets.iter().all(|flags| match *flags {
        "SA" => {
            lab.run(At::Uplink, &format!("tcp 10.244.2.7:80 > {client} SA"))
                == format!("redirect tcp 10.96.0.10:80 > {client} SA")
        }
        flags => {
            lab.run(At::Pod, &format!("tcp {client} > 10.96.0.10:80 {flags}"))
                == format!("redirect tcp {client} > 10.244.2.7:80 {flags}")
        }
    })
}

const SYN_ONLY: &[&str] = &["S"];
const ESTABLISHED: &[&str] = &["S", "SA", "A"];

/// Entries that the kernel may keep free in a full table (`evicts`). With two CPUs and 4096 entries 160
/// were seen to be free.
fn slack(size: u32) -> u32 {
    let cpus = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    (128 * cpus).min(size / 2)
}

#[test]
fn the_usage_of_a_table_is_what_is_in_it() {
    for (name, size, packets, each) in [
        (OPENING_MAP, OPENING, SYN_ONLY, ENTRIES_UNANSWERED),
        (CONNECTIONS_MAP, SIZE, ESTABLISHED, ENTRIES),
    ] {
        let mut lab = lab();
        let mut begun = 0;
        for percent in [0, 50, 100, 200] {
            let entries = size * percent / 100;
            while begun * each < entries {
                let client = client(50, begun);
                assert!(send(&mut lab, &client, packets), "{client}");
                begun += 1;
            }
            let (used, max) = lru_usage::<TupleV1, ConnectionV3>(&lab.pins, name).unwrap();
            let expected = entries.min(size - slack(size))..=entries.min(size);
            assert_eq!(max, size);
            // Of a table so small that CPUs may keep half of it, half is no less than all.
            if percent != 50 || slack(size) < size / 2 {
                assert_eq!(evicts(used, max), percent >= 100, "{name}: {used}");
            }
            assert!(
                expected.contains(&used),
                "{name}, {percent} %: {used} of {size}"
            );
        }
    }
}

#[test]
fn a_flood_of_half_open_connections_drives_out_none_that_works() {
    let mut lab = lab();
    // Half of what fits: as many as the table is sure to hold, see above.
    let established: Vec<String> = (0..SIZE / ENTRIES / 2)
        .map(|number| client(50, number))
        .collect();
    for client in &established {
        assert!(send(&mut lab, client, ESTABLISHED), "{client}");
    }
    lab.service("tcp", "10.96.0.11:80", "10.244.2.8:80");
    for number in 0..10 * OPENING {
        let client = client(60, number);
        let got = lab.run(At::Pod, &format!("tcp {client} > 10.96.0.11:80 S"));
        assert_eq!(got, format!("redirect tcp {client} > 10.244.2.8:80 S"));
    }
    for client in &established {
        assert!(send(&mut lab, client, &["A", "SA"]), "{client}");
    }
}
