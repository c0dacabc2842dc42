//! The cgroup v2 hierarchy.

use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use model::PodUid;

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const MAGIC: i128 = 0x6367_7270;

/// Where cgroup v2 is mounted; `None` where it is not. On a hybrid system that is not
/// /sys/fs/cgroup.
///
/// # Errors
/// Where /proc cannot be read.
pub fn mount_point() -> io::Result<Option<PathBuf>> {
    Ok(find(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// Whether a directory is in a cgroup v2 hierarchy.
pub fn is_cgroup2(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|found| i128::from(found.f_type) == MAGIC)
}

/// The pod whose container is in the cgroup of a number, below `root`; `None` where it is no pod's, or gone.
/// Reads the names of all cgroups, some thousand on a full node.
pub fn pod(root: &Path, number: u64) -> Option<PodUid> {
    pod_of(&with_number(root, number)?)
}

fn with_number(directory: &Path, number: u64) -> Option<PathBuf> {
    // What is removed meanwhile has no more processes.
    let entries = fs::read_dir(directory).ok()?.flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| match entry.ino() == number {
            true => Some(entry.path()),
            false => with_number(&entry.path(), number),
        })
}

/// The pod of a cgroup, as kubelets name them: `kubepods/burstable/pod<uid>/<container>`, or with systemd
/// `kubepods-burstable-pod<uid>.slice/cri-containerd-<container>.scope`.
fn pod_of(cgroup: &Path) -> Option<PodUid> {
    cgroup.ancestors().find_map(|directory| {
        let name = directory.file_name()?.to_str()?;
        let (_, uid) = name.trim_end_matches(".slice").rsplit_once("pod")?;
        PodUid::parse(uid)
    })
}

/// Finds the mount in the text of mountinfo (proc_pid_mountinfo(5)).
fn find(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_cgroup2 = kind.split(' ').next()? == "cgroup2";
        is_cgroup2
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_of_a_container_tells_its_pod_with_either_driver() {
        let uid = PodUid::parse("1cd0d3d5-8f5f-4d4e-a3a7-5a0f2f3b9c11");
        assert!(uid.is_some());
        for cgroup in [
            "/sys/fs/cgroup/kubepods/burstable/pod1cd0d3d5-8f5f-4d4e-a3a7-5a0f2f3b9c11/0f8e",
            "/sys/fs/cgroup/kubepods.slice/kubepods-pod1cd0d3d5_8f5f_4d4e_a3a7_5a0f2f3b9c11.slice/cri-containerd-0f8e.scope",
            "/kubelet/kubepods/pod1cd0d3d58f5f4d4ea3a75a0f2f3b9c11",
        ] {
            assert_eq!(pod_of(Path::new(cgroup)), uid, "{cgroup}");
        }
        for cgroup in ["/system.slice/podman.service", "/kubepods/besteffort", "/"] {
            assert_eq!(pod_of(Path::new(cgroup)), None, "{cgroup}");
        }
    }

    #[test]
    fn cgroup2_is_found_on_unified_and_hybrid_systems_and_missed_on_others() {
        let unified = "25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let hybrid = "30 25 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(find(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(find(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
