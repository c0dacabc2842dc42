//! The clsact qdiscs that filters need, and their end.

use agent::lb::ebpf::attach::{Attachments, Mode, Side, Target, remove_filters};
use agent::sys::qdisc;

use crate::lab::{Lab, network};

#[test]
fn a_qdisc_goes_once_no_filter_is_left_in_it() {
    let mut lab = Lab::new();
    assert!(!qdisc::is_there("pod").unwrap());
    assert!(!qdisc::delete_if_empty("pod").unwrap());
    let target = Target {
        index: lab.pod,
        name: "pod".into(),
        side: Side::Workload,
    };
    let mut attachments = Attachments::new(lab.directory("links"), Mode::Clsact).unwrap();
    assert!(attachments.follow(lab.programs(), &[target]).is_empty());
    assert!(qdisc::is_there("pod").unwrap());
    assert!(!qdisc::delete_if_empty("pod").unwrap(), "ours are in it");
    tc("filter add dev pod egress pref 7 protocol ip u32 match u32 0 0 flowid 1:1");
    remove_filters("pod");
    assert!(!qdisc::delete_if_empty("pod").unwrap(), "a stranger is");
    tc("filter del dev pod egress pref 7");
    assert!(qdisc::delete_if_empty("pod").unwrap());
    assert!(!qdisc::is_there("pod").unwrap());
    network("link del pod");
    assert!(qdisc::is_there("pod").is_err());
}

#[test]
fn filters_come_back_with_a_qdisc_that_somebody_deleted() {
    let mut lab = Lab::new();
    let target = Target {
        index: lab.pod,
        name: "pod".into(),
        side: Side::Workload,
    };
    let mut attachments = Attachments::new(lab.directory("links"), Mode::Clsact).unwrap();
    let mut follow = |attachments: &mut Attachments| {
        let errors = attachments.follow(lab.programs(), std::slice::from_ref(&target));
        assert!(errors.is_empty(), "{errors:?}");
    };
    follow(&mut attachments);
    assert!(attachments.forget_lost().unwrap().is_empty());
    tc("qdisc del dev pod clsact");
    follow(&mut attachments);
    assert!(!qdisc::is_there("pod").unwrap(), "nothing was heard of it");
    assert_eq!(attachments.forget_lost().unwrap(), ["pod"]);
    follow(&mut attachments);
    assert!(!qdisc::delete_if_empty("pod").unwrap(), "ours are in it");
}

#[track_caller]
fn tc(arguments: &str) {
    let status = std::process::Command::new("tc")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "tc {arguments}");
}
