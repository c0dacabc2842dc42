//! Makes the node this agent's: its directories, the lock, the addresses it serves, and the settings
//! it needs. What it changes is recorded before, so that `--cleanup-config` finds it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use model_watch::Source;
use tokio::net::{TcpListener, UnixListener};

use crate::bootstrap;
use crate::cleanup::HOLDER;
use crate::config::{Config, Paths};
use crate::control::{health, server};
use crate::lb::ebpf::attach::Mode;
use crate::ownership::Ownership;
use crate::settings;
use crate::sys::{bpffs, lock::Lock};

/// A node that is this agent's.
pub(super) struct Claim {
    /// Held until the process ends.
    pub(super) lock: Lock,
    pub(super) ownership: Ownership,
    pub(super) socket: UnixListener,
    pub(super) health: Option<TcpListener>,
    /// Where the API servers' addresses are kept.
    pub(super) learned: PathBuf,
}

impl Claim {
    /// Makes it so, or fails with nothing changed that another agent needs. The source learns the
    /// addresses that are kept.
    pub(super) async fn make(config: &mut Config, mode: Mode) -> Result<Self> {
        let paths = &config.paths;
        let mut ownership = prepare(paths)?;
        let lock = Lock::take(&paths.bpf_root, &paths.state_dir.join(HOLDER))?;
        // First, so that an address in use changes nothing else.
        let socket = server::listen(&paths.socket)?;
        // After, since what is there already may be another agent's.
        ownership.remember(|record| _ = record.sockets.insert(paths.socket.clone()))?;
        let learned = bootstrap::place(&paths.state_dir);
        if let Source::Kube(options) = &mut config.source {
            options.learned = bootstrap::read(&learned);
            ownership.remember(|record| record.files.extend(bootstrap::files(&learned)))?;
        }
        let health = match config.health_addr {
            Some(address) => Some(health::listen(address).await?),
            None => None,
        };
        lock.sign(&paths.state_dir.join(HOLDER))
            .context("the agent's process id cannot be recorded; check --state-dir")?;
        ownership.remember(|record| record.clsact |= mode == Mode::Clsact)?;
        settings::enable_all(&mut ownership)?;
        let router = config.router.as_mut();
        if let Some(places) = router.and_then(|router| router.cni.as_mut()) {
            let recorded = ownership.record().cni_configs.iter();
            let others = recorded.filter(|path| **path != places.config);
            places.earlier = others.cloned().collect();
            let parents = [&places.config, &places.plugin].map(|path| path.parent());
            let fresh = parents.into_iter().flatten().flat_map(missing);
            ownership.remember(|record| {
                record.directories.extend(fresh);
                record.cni_configs.insert(places.config.clone());
                record.cni_plugins.insert(places.plugin.clone());
            })?;
        }
        Ok(Self {
            lock,
            ownership,
            socket,
            health,
            learned,
        })
    }
}

/// Makes the directories, and a bpffs where there is none; each is recorded before, but for the
/// directory of the record.
fn prepare(paths: &Paths) -> Result<Ownership> {
    let Paths {
        state_dir,
        bpf_root,
        socket,
        cgroup_root: _,
    } = paths;
    let mut fresh = missing(state_dir);
    std::fs::create_dir_all(state_dir)
        .with_context(|| format!("{}: cannot be made; check --state-dir", state_dir.display()))?;
    let mut ownership = Ownership::load(state_dir)?;
    let no_bpf = || {
        format!(
            "{}: cannot be on a bpffs, so nothing could outlive the agent; check --bpf-root, and that the agent may mount",
            bpf_root.display()
        )
    };
    let mount = bpffs::missing_mount(bpf_root).with_context(no_bpf)?;
    fresh.extend(missing(bpf_root));
    fresh.extend(socket.parent().into_iter().flat_map(missing));
    ownership.remember(|record| {
        record.directories.extend(fresh);
        record.mounts.extend(mount.clone());
    })?;
    if let Some(mount) = mount {
        bpffs::mount_on(&mount).with_context(no_bpf)?;
    }
    std::fs::create_dir_all(bpf_root).with_context(no_bpf)?;
    Ok(ownership)
}

/// Those of a directory and the ones above it that are not there.
fn missing(directory: &Path) -> Vec<PathBuf> {
    directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .map(Path::to_owned)
        .collect()
}
