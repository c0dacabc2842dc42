//! Attaching to interfaces, by tcx links and by clsact filters.

use std::process::Command;

use agent::lb::ebpf::attach::{Attachments, Mode, Side, Target};

use crate::lab::{Lab, network};

fn targets(lab: &Lab) -> Vec<Target> {
    vec![
        Target {
            index: lab.uplink,
            name: "uplink".into(),
            side: Side::Uplink,
        },
        Target {
            index: lab.pod,
            name: "pod".into(),
            side: Side::Workload,
        },
    ]
}

/// Names of the programs at an interface's hooks, as `tc` and the kernel show them.
fn filters(interface: &str) -> usize {
    ["ingress", "egress"]
        .iter()
        .map(|direction| {
            let out = Command::new("tc")
                .args(["filter", "show", "dev", interface, direction])
                .output()
                .unwrap();
            String::from_utf8(out.stdout)
                .unwrap()
                .matches("handle 0x464c")
                .count()
        })
        .sum()
}

#[test]
fn tcx_links_are_pinned_adopted_and_released() {
    let mut lab = Lab::new();
    let links = lab.directory("links");
    let pins = |links: &std::path::Path| {
        let mut names: Vec<String> = std::fs::read_dir(links)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let targets = targets(&lab);
    let mut first = Attachments::new(links.clone(), Mode::Tcx).unwrap();
    assert!(first.follow(lab.programs(), &targets).is_empty());
    let pinned = pins(&links);
    assert_eq!(pinned.len(), 4, "{pinned:?}");
    drop(first);

    let mut second = Attachments::new(links.clone(), Mode::Tcx).unwrap();
    assert!(second.follow(lab.programs(), &targets).is_empty());
    assert_eq!(pins(&links), pinned);

    network("link del pod");
    assert!(second.follow(lab.programs(), &targets[..1]).is_empty());
    assert_eq!(pins(&links).len(), 2);
}

#[test]
fn a_pin_whose_interface_was_replaced_is_attached_anew() {
    let mut lab = Lab::new();
    let links = lab.directory("links");
    let mut attachments = Attachments::new(links.clone(), Mode::Tcx).unwrap();
    let targets = targets(&lab);
    assert!(attachments.follow(lab.programs(), &targets).is_empty());
    network(&format!(
        "link del pod\nlink add pod index {} type veth peer name inner",
        lab.pod
    ));
    let mut restarted = Attachments::new(links, Mode::Tcx).unwrap();
    let errors = restarted.follow(lab.programs(), &targets);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(restarted.attached().len(), 2);
}

#[test]
fn clsact_filters_are_made_replaced_and_outlive_the_agent() {
    let mut lab = Lab::new();
    let targets = targets(&lab);
    for round in ["made", "adopted"] {
        let mut attachments = Attachments::new(lab.directory("links"), Mode::Clsact).unwrap();
        let errors = attachments.follow(lab.programs(), &targets);
        assert!(errors.is_empty(), "{round}: {errors:?}");
        drop(attachments);
        assert_eq!((filters("uplink"), filters("pod")), (2, 2), "{round}");
    }
}

#[test]
fn an_interface_that_is_not_there_is_an_error_of_its_own() {
    let mut lab = Lab::new();
    let mut targets = targets(&lab);
    targets.push(Target {
        index: 999,
        name: "missing".into(),
        side: Side::Workload,
    });
    let mut attachments = Attachments::new(lab.directory("links"), Mode::of_this_kernel()).unwrap();
    let errors = attachments.follow(lab.programs(), &targets);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().contains("missing"), "{}", errors[0]);
    assert_eq!(attachments.attached().len(), 2);
}
