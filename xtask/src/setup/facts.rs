//! What this machine has.

use super::distribution::Distribution;
use super::packages::PACKAGES;
use crate::build::ebpf::Compiler;
use crate::run;

/// What the machine has, as far as the plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) distribution: Distribution,
    pub(super) is_root: bool,
    /// Tools of [`PACKAGES`] that are not there.
    pub(super) missing_tools: Vec<&'static str>,
    /// Whether apt's lists were updated in this run. Images come without lists, or with old ones,
    /// which offer a compiler that no known linker fits.
    pub(super) has_fresh_lists: bool,
    pub(super) has_rustup: bool,
    /// Whether apt knows rust-web-src, the sources of Debian's newer compiler.
    pub(super) offers_rustc_web: bool,
    /// Whether a compiler has the sources of `core`.
    pub(super) has_core_sources: bool,
    /// Major version of that compiler's LLVM.
    pub(super) llvm: Option<u32>,
    /// What `bpf-linker --version` prints.
    pub(super) bpf_linker: Option<String>,
}

/// Looks at the machine; only the caller knows whether apt's lists are new.
pub(super) fn facts(has_fresh_lists: bool) -> Facts {
    // A machine without the file, or where it cannot be read, is one that is not known.
    let distribution = Distribution::of_os_release(
        &std::fs::read_to_string("/etc/os-release").unwrap_or_default(),
    );
    let compiler = Compiler::find();
    Facts {
        distribution,
        is_root: run::output(run::command("id").arg("-u")).is_ok_and(|id| id.trim() == "0"),
        missing_tools: PACKAGES
            .iter()
            .flat_map(|package| package.tools)
            .filter(|tool| !is_program(tool))
            .copied()
            .collect(),
        has_fresh_lists,
        has_rustup: is_program("rustup"),
        offers_rustc_web: distribution == Distribution::Debian
            && run::output(run::command("apt-cache").args([
                "search",
                "--names-only",
                "^rust-web-src$",
            ]))
            .is_ok_and(|found| !found.trim().is_empty()),
        llvm: compiler.as_ref().and_then(Compiler::llvm),
        has_core_sources: compiler.is_some(),
        bpf_linker: run::output(run::command("bpf-linker").arg("--version"))
            .ok()
            .map(|version| version.trim().to_owned()),
    }
}

/// Where distributions keep programs that are not in everybody's PATH; after administrators'
/// programs, CNI plugins and modules of nginx.
const FURTHER: [&str; 8] = [
    "/usr/sbin",
    "/sbin",
    "/usr/lib/cni",
    "/usr/libexec/cni",
    "/opt/cni/bin",
    "/usr/lib/nginx/modules",
    "/usr/lib64/nginx/modules",
    "/usr/share/nginx/modules",
];

/// Whether the programs search path, or a directory of [`FURTHER`], has it.
fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FURTHER.map(Into::into))
        .any(|directory| directory.join(name).is_file())
}
