//! The log of the programs: there where it is asked for, and nothing of it elsewhere.

use aya::maps::MapInfo;

use crate::lab::{At, Lab};

const PROGRAMS: [&str; 5] = [
    "uplink_ingress",
    "workload_ingress",
    "egress",
    "policed_ingress",
    "policed_egress",
];

/// Whether a loaded program has a way to log; and its instructions.
#[track_caller]
fn inspected(lab: &mut Lab, name: &'static str) -> (bool, u32) {
    let info = lab.programs().classifier(name).unwrap().info().unwrap();
    let maps = info.map_ids().unwrap().unwrap();
    let names = maps.iter().map(|id| {
        MapInfo::from_id(*id)
            .unwrap()
            .name_as_str()
            .unwrap()
            .to_owned()
    });
    let mut names = names.collect::<Vec<_>>().into_iter();
    let logs = names.any(|name| name.starts_with("AYA_LOG") || name.contains("rodata"));
    (logs, info.size_translated().unwrap())
}

#[test]
fn the_usual_programs_have_nothing_of_the_log_and_the_others_load_with_it() {
    let mut usual = Lab::policed();
    let usual = PROGRAMS.map(|name| inspected(&mut usual, name));
    let mut debugged = Lab::debugged();
    let debugged_ones = PROGRAMS.map(|name| inspected(&mut debugged, name));
    for ((usual, debugged), name) in usual.iter().zip(&debugged_ones).zip(PROGRAMS) {
        assert!(!usual.0 && debugged.0, "{name}: {usual:?} {debugged:?}");
        assert!(usual.1 < debugged.1, "{name}: {usual:?} {debugged:?}");
    }
    let answer = debugged.run(At::Pod, "tcp 10.244.1.5:4000 > 10.244.2.7:80 S");
    assert!(answer.starts_with("pass"), "{answer}");
}
