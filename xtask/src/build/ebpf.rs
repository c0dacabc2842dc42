//! Builds `agent-ebpf` for the BPF target into target/bpf/fairlead.bpf.o.
//!
//! The target has no precompiled `core`, so cargo builds it from the sources of a toolchain that
//! has them; `build-std` is unstable, hence a nightly or `RUSTC_BOOTSTRAP`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Variant, replace};
use crate::{place, run};

const TARGET: &str = "bpfel-unknown-none";
/// The compiler of Debian's package rustc-web, whose sources are rust-web-src.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler with the sources of `core`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// A toolchain of rustup, by its name.
    Rustup(String),
    /// A compiler outside rustup, by its path.
    Path(PathBuf),
}

impl Compiler {
    /// The compiler the eBPF programs are built with; `None` where none has the sources.
    pub(crate) fn find() -> Option<Self> {
        let debian = Self::Path(DEBIAN_RUSTC.into());
        rustup_toolchains()
            .into_iter()
            .map(Self::Rustup)
            .chain(Path::new(DEBIAN_RUSTC).exists().then_some(debian))
            .find(Self::has_sources)
    }

    fn has_sources(&self) -> bool {
        run::output(self.rustc().args(["--print", "sysroot"])).is_ok_and(|sysroot| {
            Path::new(sysroot.trim())
                .join("lib/rustlib/src/rust/library/core/Cargo.toml")
                .exists()
        })
    }

    fn rustc(&self) -> Command {
        match self {
            Self::Rustup(toolchain) => {
                let mut command = run::command("rustup");
                command.args(["run", toolchain, "rustc"]);
                command
            }
            Self::Path(path) => run::command(path),
        }
    }

    /// The major version of its LLVM, which bpf-linker has to understand.
    pub(crate) fn llvm(&self) -> Option<u32> {
        let version = run::output(self.rustc().arg("-vV")).ok()?;
        llvm_of(&version)
    }

    /// What to look at first where the linker is the one that gave up.
    fn hint(&self) -> String {
        let compiler = run::shown(&self.rustc());
        let llvm = self
            .llvm()
            .map_or_else(|| "of that version".to_owned(), |llvm| llvm.to_string());
        format!("built with {compiler}, so bpf-linker has to read the bitcode of LLVM {llvm}")
    }

    fn cargo(&self) -> Command {
        let mut command = run::cargo();
        for name in [
            "RUSTUP_TOOLCHAIN",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            command.env_remove(name);
        }
        match self {
            Self::Rustup(toolchain) => command.env("RUSTUP_TOOLCHAIN", toolchain),
            Self::Path(path) => command.env("RUSTC", path),
        };
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// The toolchains of rustup, nightlies first; none without rustup.
fn rustup_toolchains() -> Vec<String> {
    // Without rustup there is nothing to prefer, and Debian's compiler is asked next.
    let list = run::output(run::command("rustup").args(["toolchain", "list"])).unwrap_or_default();
    preferred(&list)
}

fn preferred(list: &str) -> Vec<String> {
    let mut names: Vec<String> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    names.sort_by_key(|name| !name.starts_with("nightly"));
    names
}

fn llvm_of(version: &str) -> Option<u32> {
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.parse().ok()
}

/// Builds the programs of a variant; the object is written only where it differs, since the agent is
/// rebuilt with it.
pub(crate) fn build(variant: Variant) -> Result<()> {
    let compiler = Compiler::find()
        .context("no compiler has the sources of `core`; `cargo xtask setup` gets one")?;
    let built = place::target().join("bpf-build");
    run::run(
        compiler
            .cargo()
            .args([
                "build",
                "--release",
                "-Z",
                "build-std=core",
                "-p",
                "agent-ebpf",
            ])
            .args(["--target", TARGET])
            .args(variant.features())
            .env("CARGO_TARGET_DIR", &built)
            // An encoded value of the caller would take precedence.
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env(
                "RUSTFLAGS",
                "-Clinker=bpf-linker -Clink-arg=--btf -Clink-arg=--disable-expand-memcpy-in-order -Cdebuginfo=2",
            ),
    )
    .with_context(|| compiler.hint())?;
    let directory = place::target().join("bpf");
    fs::create_dir_all(&directory)
        .with_context(|| format!("{}: cannot be created", directory.display()))?;
    let object = directory.join(format!("fairlead{}.bpf.o", variant.suffix()));
    if replace(&built.join(TARGET).join("release/fairlead"), &object)? {
        anstream::println!("wrote {}", object.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{llvm_of, preferred};

    #[test]
    fn a_nightly_is_preferred() {
        let list = "stable-x86_64-unknown-linux-gnu (default)\nnightly-x86_64-unknown-linux-gnu\n";
        assert_eq!(
            preferred(list),
            [
                "nightly-x86_64-unknown-linux-gnu",
                "stable-x86_64-unknown-linux-gnu"
            ]
        );
        assert_eq!(preferred(""), [""; 0]);
    }

    #[test]
    fn the_major_version_of_llvm_is_read() {
        for (version, expected) in [
            (
                "rustc 1.96.0 (ac68faa20 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8\n",
                Some(22),
            ),
            ("LLVM version: 22\n", Some(22)),
            ("rustc 1.96.0\n", None),
        ] {
            assert_eq!(llvm_of(version), expected, "{version}");
        }
    }
}
