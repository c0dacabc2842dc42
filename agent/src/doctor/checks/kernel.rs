//! What the kernel and this process bring along.

use crate::doctor::facts::{Facts, Seen, Unseen};
use crate::doctor::finding::{Said, failure, fine, or_fine, warning};
use crate::lb::ebpf::attach::Mode;
use crate::probe::{Capabilities, Lack};

fn node(facts: &Facts) -> Seen<&Capabilities> {
    facts.node.as_ref().map_err(Clone::clone)
}

pub(super) fn privileges(facts: &Facts) -> Seen<Vec<Said>> {
    Ok(vec![match node(facts)?.suffice() {
        Err(Lack::Privileges(names)) => failure(
            format!("this process lacks {names}"),
            "run the agent, and this command, as root; in a container as a privileged one",
        ),
        Ok(()) | Err(Lack::Bpf) => fine("CAP_BPF or CAP_SYS_ADMIN, and CAP_NET_ADMIN"),
    }])
}

pub(super) fn ebpf(facts: &Facts) -> Seen<Vec<Said>> {
    let node = node(facts)?;
    if !node.bpf {
        return Ok(vec![failure(
            "no `bpf` in /proc/filesystems",
            "use a kernel with CONFIG_BPF_SYSCALL",
        )]);
    }
    let attached = match node.attach {
        Mode::Tcx => "attached by tcx",
        Mode::Clsact => "attached as filters of clsact, before Linux 6.6",
    };
    let btf = if facts.btf {
        "has its type information (BTF)"
    } else {
        "has no type information (BTF), which is not needed"
    };
    Ok(vec![fine(format!(
        "programs are {attached}; the kernel {btf}"
    ))])
}

pub(super) fn interfaces(facts: &Facts) -> Seen<Vec<Said>> {
    let kinds = facts.kinds.as_ref().map_err(Clone::clone)?;
    let mut wrong = Vec::new();
    if !kinds.veth {
        wrong.push(failure(
            "no veth pairs can be made",
            "load the module: modprobe veth",
        ));
    }
    let wants_ipip = match facts.network() {
        Ok(network) => network
            .overlay
            .as_ref()
            .map(|overlay| overlay.vxlan.is_none()),
        Err(Unseen(_)) => None,
    };
    match (kinds.vxlan, wants_ipip) {
        (false, Some(false)) => wrong.push(failure(
            "no VXLAN device can be made, which the overlay is of",
            "load the module: modprobe vxlan",
        )),
        (false, None) => wrong.push(warning(
            "no VXLAN device can be made, which the overlay is of by default",
            "load the module: modprobe vxlan; or have --enable-overlay=false",
        )),
        _ => {}
    }
    if !kinds.ipip && wants_ipip == Some(true) {
        wrong.push(failure(
            "no IPIP device can be made, which the overlay is of",
            "load the module: modprobe ipip; or have --overlay-encap vxlan on every node",
        ));
    }
    let ipip = if kinds.ipip { "and IPIP" } else { "not IPIP" };
    Ok(or_fine(wrong, format!("veth, VXLAN, {ipip}")))
}
