//! Frames that are longer than the kernel's test run takes, by real devices: bridges lead from the other
//! ends of the node's interfaces to TAP devices, which the test reads and writes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use agent::lb::ebpf::attach::{Attachments, Mode, Side, Target};
use agent_abi::counters::Counter;
use tests::harness::Tun;

use super::{LONGEST, lab, seed_of};
use crate::lab::{Lab, index, network};
use crate::wire::junk::{self, hex, setting};
use crate::wire::{LINK, Xorshift, ethernet, is_valid, udp};

const ROUNDS: u32 = 1500;
/// What a link of 9000 bytes carries.
const JUMBO: usize = LINK + 9000;
/// The node's interface, its other end, and the TAP device that leads there.
const WAYS: [[&str; 3]; 3] = [
    ["uplink", "switch", "wire"],
    ["pod", "inner", "yard"],
    ["other", "within", "next"],
];
const PATIENCE: Duration = Duration::from_secs(5);

/// The fuzzed node with its programs attached.
struct Node {
    lab: Lab,
    _attachments: Attachments,
    taps: [Tun; 3],
    /// How many frames have told that what was sent before them is done with.
    told: u64,
}

impl Node {
    fn new(policed: bool) -> Self {
        let mut lab = lab(policed);
        let taps = WAYS.map(|[here, there, tap]| {
            let device = Tun::with_frames(tap).unwrap();
            network(&format!(
                "link add at-{tap} type bridge mcast_snooping 0\n\
                 link set {tap} master at-{tap}\nlink set {there} master at-{tap}\n\
                 link set {tap} type bridge_slave learning off\n\
                 link set {there} type bridge_slave learning off\n"
            ));
            for name in [here, there, tap, &format!("at-{tap}")] {
                network(&format!("link set {name} mtu 9000\nlink set {name} up\n"));
            }
            device
        });
        // A device that gets another address forgets its neighbours.
        for (name, neighbours) in [
            ("uplink", ["172.31.0.254", "fd00::fe"]),
            ("pod", ["10.244.1.5", "fd00:10::5"]),
            ("other", ["10.244.1.6", "fd00:10::6"]),
        ] {
            for neighbour in neighbours {
                network(&format!(
                    "neigh replace {neighbour} lladdr 02:00:00:00:00:09 dev {name}\n"
                ));
            }
        }
        let target = |name: &str, side| Target {
            index: index(name),
            name: name.into(),
            side,
        };
        let targets = [
            target("uplink", Side::Uplink),
            target("pod", Side::Workload),
            target("other", Side::Workload),
        ];
        let mut attachments =
            Attachments::new(lab.directory("links"), Mode::of_this_kernel()).unwrap();
        let errors = attachments.follow(lab.programs(), &targets);
        assert!(errors.is_empty(), "{errors:?}");
        Self {
            lab,
            _attachments: attachments,
            taps,
            told: 0,
        }
    }

    /// Sends a frame to the node; the answer is what comes out of it, of more than a test run's length.
    #[track_caller]
    fn send(&mut self, way: usize, frame: &[u8]) -> Vec<Vec<u8>> {
        self.told += 1;
        let last = last(way, self.told);
        self.taps[way].send(frame).unwrap();
        self.taps[way].send(&last).unwrap();
        let out = 1 - way;
        let mut got = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut is_done = false;
            for (number, tap) in self.taps.iter_mut().enumerate() {
                while let Some(frame) = tap.try_next().unwrap() {
                    if number == out && frame.ends_with(&last[LINK + 28..]) {
                        is_done = true;
                    } else if frame.len() > LONGEST {
                        got.push(frame);
                    }
                }
            }
            if is_done {
                return got;
            }
            assert!(
                Instant::now() < deadline,
                "{}: the node forwards no more",
                WAYS[way][0]
            );
        }
    }
}

/// A frame that the node forwards: from the wire to the pod, or from the pod to another node's.
fn last(way: usize, number: u64) -> Vec<u8> {
    let [outside, pod, away] = ["172.31.9.9:9", "10.244.1.5:80", "10.244.2.7:80"]
        .map(|text: &str| text.parse::<SocketAddr>().unwrap());
    let mut payload = vec![0x5b; 4000];
    payload.extend(number.to_be_bytes());
    let packet = match way {
        0 => udp(outside, pod, &payload),
        _ => udp("10.244.1.5:9".parse().unwrap(), away, &payload),
    };
    ethernet(&packet)
}

/// What waits for its first fragment comes out with that of another frame.
fn is_fragment(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame[20] & 0x3f != 0 || frame[21] != 0,
        _ => frame[20] == 44,
    }
}

fn send_junk(policed: bool) {
    let seed_of_run = setting("FAIRLEAD_FUZZ_SEED", 1);
    let mut random = Xorshift::new(seed_of_run.into());
    let mut node = Node::new(policed);
    let mut came_out = 0;
    for round in 0..setting("FAIRLEAD_FUZZ_ROUNDS", ROUNDS) {
        let valid = |random: &mut Xorshift| {
            let longest = [4000, 8000, 8900][random.below(3)];
            let mut frame = seed_of(random, longest);
            frame.truncate(JUMBO);
            frame
        };
        let mut sent = valid(&mut random);
        junk::mutate(&mut random, &mut sent, LINK + 40..=JUMBO, valid);
        let way = random.below(2_usize);
        for got in node.send(way, &sent) {
            came_out += 1;
            assert!(
                !is_valid(&sent) || is_valid(&got) || is_fragment(&got),
                "FAIRLEAD_FUZZ_SEED={seed_of_run}, round {round}: {}\n{}\n{}",
                WAYS[way][0],
                hex(&sent),
                hex(&got)
            );
        }
    }
    assert!(came_out > ROUNDS / 20, "{came_out} of {ROUNDS} came out");
    for counter in [Counter::PacketConnections, Counter::PacketsTranslated] {
        assert!(node.lab.counter(counter) > 0, "{counter:?}");
    }
}

#[test]
fn no_jumbo_frame_stops_the_node_or_comes_out_worse_than_it_went_in() {
    send_junk(false);
}

#[test]
fn no_jumbo_frame_stops_a_node_with_policy_or_comes_out_worse_than_it_went_in() {
    send_junk(true);
}
