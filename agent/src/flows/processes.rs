//! Whose a process is, by its cgroup.

use std::collections::HashMap;
use std::path::Path;

use model::{Cluster, ObjectKey, PodUid};

use crate::sys::cgroup;

/// Some containers come and go.
const CGROUPS_KEPT: usize = 4096;

/// Whose the cgroups are that were asked about. A number is used once, and a pod keeps its containers.
#[derive(Debug, Default)]
pub(super) struct Processes {
    uids: HashMap<u64, Option<PodUid>>,
    pods: HashMap<u64, ObjectKey>,
}

impl Processes {
    /// Looks for the pod of a cgroup below `root`.
    pub(super) fn look_for(&mut self, number: u64, root: &Path, cluster: &Cluster) {
        if number == 0 || self.pods.contains_key(&number) {
            return;
        }
        if self.uids.len() >= CGROUPS_KEPT {
            *self = Self::default();
        }
        let uid = self.uids.entry(number);
        let Some(uid) = *uid.or_insert_with(|| {
            cgroup::with_number(root, number)
                .as_deref()
                .and_then(pod_of)
        }) else {
            return;
        };
        let pod = cluster.pods().find(|(_, pod)| pod.uid == Some(uid));
        self.pods.extend(pod.map(|(key, _)| (number, key.clone())));
    }

    /// The pod that was found.
    pub(super) fn pod(&self, number: u64) -> Option<ObjectKey> {
        self.pods.get(&number).cloned()
    }
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
}
