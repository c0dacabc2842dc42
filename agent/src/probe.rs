//! What this node lets the agent do, as a value.
//!
//! Read once at the start; `runtime` decides with it, tests make their own.

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::thread::{CapabilitySet, capabilities};

use crate::lb::ebpf::attach::Mode;
use crate::sys::cgroup;

/// What this node lets the agent do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Privileges of this process.
    pub privileges: CapabilitySet,
    /// Whether the kernel has eBPF and its file system.
    pub bpf: bool,
    /// How tc programs are attached.
    pub attach: Mode,
    /// Where cgroup v2 is mounted; without it TCP is balanced per packet.
    pub cgroup2: Option<PathBuf>,
}

/// Why the agent cannot run on this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Privileges.
    #[error(
        "the agent lacks {0}, so no eBPF program can be loaded and attached; run it as root, in a container as a privileged one"
    )]
    Privileges(String),
    /// eBPF.
    #[error(
        "this kernel has no eBPF (no `bpf` in /proc/filesystems), so nothing can be balanced; use a kernel with CONFIG_BPF_SYSCALL"
    )]
    Bpf,
}

impl Capabilities {
    /// Looks.
    ///
    /// # Errors
    /// Where /proc cannot be read.
    pub fn of_this_node() -> io::Result<Self> {
        Ok(Self {
            privileges: capabilities(None)?.effective,
            bpf: has_bpf(&fs::read_to_string("/proc/filesystems")?),
            attach: Mode::of_this_kernel(),
            cgroup2: cgroup::mount_point()?,
        })
    }

    /// Whether the agent can run at all.
    ///
    /// # Errors
    /// [`Lack`] for the first thing it cannot do without.
    pub fn suffice(&self) -> Result<(), Lack> {
        // CAP_SYS_ADMIN is what there was before Linux 5.8 gave eBPF its own.
        let needs = [
            ("CAP_BPF", CapabilitySet::BPF | CapabilitySet::SYS_ADMIN),
            ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ];
        let missing: Vec<_> = needs
            .into_iter()
            .filter(|(_, either)| !self.privileges.intersects(*either))
            .map(|(name, _)| name)
            .collect();
        if !missing.is_empty() {
            Err(Lack::Privileges(missing.join(" and ")))
        } else if !self.bpf {
            Err(Lack::Bpf)
        } else {
            Ok(())
        }
    }
}

/// Finds the file system in the text of /proc/filesystems.
fn has_bpf(filesystems: &str) -> bool {
    filesystems
        .lines()
        .any(|line| line.split_ascii_whitespace().last() == Some("bpf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_lacks_is_named() {
        let (bpf, admin, net) = (
            CapabilitySet::BPF,
            CapabilitySet::SYS_ADMIN,
            CapabilitySet::NET_ADMIN,
        );
        let lack = |names: &str| Err(Lack::Privileges(names.to_owned()));
        for (privileges, bpf, expected) in [
            (bpf | net, true, Ok(())),
            (admin | net, true, Ok(())),
            (net, true, lack("CAP_BPF")),
            (bpf, true, lack("CAP_NET_ADMIN")),
            (
                CapabilitySet::empty(),
                true,
                lack("CAP_BPF and CAP_NET_ADMIN"),
            ),
            (bpf | net, false, Err(Lack::Bpf)),
        ] {
            let node = Capabilities {
                privileges,
                bpf,
                attach: Mode::Tcx,
                cgroup2: None,
            };
            assert_eq!(node.suffice(), expected, "{node:?}");
        }
    }

    #[test]
    fn ebpf_is_found_among_the_file_systems() {
        assert!(has_bpf("nodev\tsysfs\nnodev\tbpf\n\text4\n"));
        assert!(!has_bpf("nodev\tsysfs\n\text4\nnodev\tbpf_other\n"));
    }
}
