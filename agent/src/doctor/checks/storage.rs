//! File systems, pins and limits.

use crate::doctor::facts::{Facts, Pins, Seen};
use crate::doctor::finding::{Said, failure, fine, not_applicable, warning};

pub(super) fn cgroup2(facts: &Facts) -> Seen<Vec<Said>> {
    let node = facts.node.as_ref().map_err(Clone::clone)?;
    Ok(vec![match &node.cgroup2 {
        Some(path) => fine(format!("mounted on {}", path.display())),
        None => warning(
            "cgroup v2 is not mounted",
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }])
}

pub(super) fn bpffs(facts: &Facts) -> Seen<Vec<Said>> {
    let missing = facts.missing_bpffs.as_ref().map_err(Clone::clone)?;
    Ok(vec![match (missing, &facts.agent) {
        (None, _) => fine("mounted"),
        (Some(path), Ok(_)) => failure(
            format!("none on {}, though an agent runs", path.display()),
            "restart the agent, which mounts one; in a container with mountPropagation Bidirectional",
        ),
        (Some(path), Err(_)) => fine(format!(
            "none yet; the agent mounts one on {} at its start",
            path.display()
        )),
    }])
}

pub(super) fn pins(facts: &Facts) -> Seen<Vec<Said>> {
    Ok(vec![match facts.pins.as_ref().map_err(Clone::clone)? {
        Pins::Ours => fine("none of another build"),
        Pins::Copied => fine("of another build, whose connections are copied at the next start"),
        Pins::Strange(error) => failure(
            error,
            "start that build again, or give up its connections: fairlead-agent --cleanup-config",
        ),
    }])
}

pub(super) fn memlock(facts: &Facts) -> Seen<Vec<Said>> {
    // Since Linux 5.11 maps count as memory of their cgroup.
    if *facts.kernel.as_ref().map_err(Clone::clone)? >= (5, 11) {
        return Ok(vec![not_applicable(
            "this kernel has no such limit for eBPF",
        )]);
    }
    Ok(vec![match facts.memlock {
        None => fine("unlimited"),
        Some(bytes) => failure(
            format!("{bytes} bytes may be locked"),
            "LimitMEMLOCK=infinity in the unit of the agent or of the container runtime",
        ),
    }])
}

pub(super) fn inotify(facts: &Facts) -> Seen<Vec<Said>> {
    let more = *facts.inotify.as_ref().map_err(Clone::clone)?;
    Ok(vec![if more {
        fine("there is room for another instance")
    } else {
        failure(
            "all inotify instances of this user are in use",
            "sysctl -w fs.inotify.max_user_instances=1024",
        )
    }])
}
