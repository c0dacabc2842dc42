//! `cargo xtask build`: the eBPF programs first, since the agent embeds them, then every binary,
//! gathered in target/dist.

pub(crate) mod ebpf;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{place, run};

/// The binaries of target/dist: the package and its binary.
const BINARIES: [(&str, &str); 6] = [
    ("agent", "fairlead-agent"),
    ("confgen", "fairlead-confgen"),
    ("fairlead-cni", "fairlead-cni"),
    ("tests", "fairlead-demo"),
    ("tests", "fairlead-bench"),
    ("tests", "fairlead-traffic"),
];

/// How the binaries are built. The eBPF programs are always optimised: the verifier would refuse
/// them otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    pub(crate) fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Dev }
    }

    /// Cargo's name of the directory below target.
    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Which tables a build has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Those of this version.
    This,
    /// The same, with programs that say what they do.
    Debug,
    /// Others, as a later version may have: what the tests upgrade to, and come back from.
    Next,
}

impl Variant {
    fn features(self) -> &'static [&'static str] {
        match self {
            Self::This => &[],
            Self::Debug => &["--features", "debug"],
            Self::Next => &["--features", "next-layout"],
        }
    }

    /// What the names of its files have more.
    fn suffix(self) -> &'static str {
        match self {
            Self::This => "",
            Self::Debug => "-debug",
            Self::Next => "-next",
        }
    }
}

/// Where [`build_next`] puts its agent.
pub(crate) fn next_agent() -> PathBuf {
    place::dist().join("fairlead-agent-next")
}

/// Builds the agent with other tables. Cargo puts it where the usual one belongs, so [`build`] comes
/// after.
pub(crate) fn build_next() -> Result<()> {
    run::phase("eBPF programs with other tables", || {
        ebpf::build(Variant::Next).context("the eBPF programs")
    })?;
    run::phase("agent with other tables", || {
        let mut cargo = run::cargo();
        cargo.args(["build", "-p", "agent", "--bin", "fairlead-agent"]);
        run::run(cargo.args(Variant::Next.features()))?;
        let dist = place::dist();
        fs::create_dir_all(&dist)
            .with_context(|| format!("{}: cannot be created", dist.display()))?;
        let built = place::target().join("debug/fairlead-agent");
        replace(&built, &next_agent()).map(drop)
    })
}

/// Builds everything.
pub(crate) fn build(profile: Profile) -> Result<()> {
    run::phase("eBPF programs", || {
        ebpf::build(Variant::This)
            .and_then(|()| ebpf::build(Variant::Debug))
            .context("the eBPF programs")
    })?;
    let mut cargo = run::cargo();
    cargo.args(["build", "--bins"]);
    for (index, (package, _)) in BINARIES.iter().enumerate() {
        if !BINARIES[..index]
            .iter()
            .any(|(earlier, _)| earlier == package)
        {
            cargo.args(["-p", package]);
        }
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    run::phase("binaries", || {
        run::run(&mut cargo)?;
        gather(profile)
    })
}

fn gather(profile: Profile) -> Result<()> {
    let dist = place::dist();
    fs::create_dir_all(&dist).with_context(|| format!("{}: cannot be created", dist.display()))?;
    for (package, name) in BINARIES {
        let built = place::target().join(profile.directory()).join(name);
        replace(&built, &dist.join(name))
            .with_context(|| format!("package {package} has to have a binary {name}"))?;
    }
    anstream::println!("gathered {} binaries in target/dist", BINARIES.len());
    Ok(())
}

/// Copies a file where the destination differs; whether it did.
fn replace(from: &Path, to: &Path) -> Result<bool> {
    let new = fs::read(from).with_context(|| format!("{}: cannot be read", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    // By rename, since a running program cannot be written to and must not see half of a file.
    let whole = to.with_extension("new");
    fs::copy(from, &whole)
        .and_then(|_| fs::rename(&whole, to))
        .with_context(|| format!("{}: cannot be written", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::replace;
    use crate::place;

    #[test]
    fn an_equal_file_keeps_its_modification_time() {
        let directory = place::target().join(format!("tmp/xtask-replace-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (from, to) = (directory.join("from"), directory.join("to"));
        fs::write(&from, "one").unwrap();
        assert!(replace(&from, &to).unwrap());
        assert!(!replace(&from, &to).unwrap());
        fs::write(&from, "two").unwrap();
        assert!(replace(&from, &to).unwrap());
        assert_eq!(fs::read_to_string(&to).unwrap(), "two");
        fs::remove_dir_all(&directory).unwrap();
    }
}
