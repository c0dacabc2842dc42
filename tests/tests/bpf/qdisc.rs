//! The clsact qdiscs that filters need, and their end.

use agent::lb::ebpf::attach::{Attachments, Mode, Side, Target};
use agent::lb::ebpf::clsact;
use agent::sys::qdisc;

use tests::harness::eventually;

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
    let errors = attachments.follow(lab.programs(), &[target]);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(qdisc::is_there("pod").unwrap());
    assert!(!qdisc::delete_if_empty("pod").unwrap(), "ours are in it");
    tc("filter add dev pod egress pref 7 protocol ip u32 match u32 0 0 flowid 1:1");
    clsact::remove("pod");
    assert!(!qdisc::delete_if_empty("pod").unwrap(), "a stranger is");
    assert_eq!(qdisc::with_filters().unwrap(), [lab.pod].into());
    tc("filter del dev pod egress pref 7");
    assert!(qdisc::with_filters().unwrap().is_empty());
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
    assert!(attachments.forget_lost(true).unwrap().is_empty());
    tc("qdisc del dev pod clsact");
    follow(&mut attachments);
    assert!(!qdisc::is_there("pod").unwrap(), "nothing was heard of it");
    assert_eq!(attachments.forget_lost(false).unwrap(), ["pod"]);
    follow(&mut attachments);
    assert!(!qdisc::delete_if_empty("pod").unwrap(), "ours are in it");
    assert!(attachments.forget_lost(true).unwrap().is_empty());
    // With the qdisc still there, it takes a closer look.
    for direction in ["ingress", "egress"] {
        tc(&format!("filter del dev pod {direction} pref 61"));
        assert!(attachments.forget_lost(false).unwrap().is_empty());
        assert_eq!(
            attachments.forget_lost(true).unwrap(),
            ["pod"],
            "{direction}"
        );
        follow(&mut attachments);
        assert!(attachments.forget_lost(true).unwrap().is_empty());
    }
}

#[test]
fn who_goes_from_links_to_filters_or_back_leaves_one_of_them() {
    let mut lab = Lab::new();
    let target = Target {
        index: lab.pod,
        name: "pod".into(),
        side: Side::Workload,
    };
    let links = lab.directory("links");
    let mut attach = |mode| {
        let mut attachments = Attachments::new(links.clone(), mode).unwrap();
        // The kernel lets go of a link some time after its pin.
        eventually("attached", || {
            let errors = attachments.follow(lab.programs(), std::slice::from_ref(&target));
            anyhow::ensure!(errors.is_empty(), "{errors:?}");
            Ok(Some(()))
        })
        .unwrap();
        std::fs::read_dir(&links).unwrap().count()
    };
    assert_eq!(attach(Mode::Tcx), 2);
    assert_eq!(attach(Mode::Clsact), 0);
    assert!(!qdisc::delete_if_empty("pod").unwrap(), "ours are in it");
    // The filters are `devices`' to remove, which knows of interfaces that get no link.
    assert_eq!(attach(Mode::Tcx), 2);
}

#[track_caller]
fn tc(arguments: &str) {
    let status = std::process::Command::new("tc")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "tc {arguments}");
}
