//! What this machine has.

use std::path::Path;

use super::plan::{Facts, PACKAGES};
use crate::build::ebpf::Compiler;
use crate::run;

/// Looks at the machine.
pub(super) fn facts() -> Facts {
    let is_debian = Path::new("/etc/debian_version").exists();
    let compiler = Compiler::find();
    Facts {
        is_debian,
        is_root: run::output(run::command("id").arg("-u")).is_ok_and(|id| id.trim() == "0"),
        missing_tools: PACKAGES
            .iter()
            .flat_map(|package| package.tools)
            .filter(|tool| !is_program(tool))
            .copied()
            .collect(),
        has_apt_lists: has_apt_lists(),
        has_rustup: is_program("rustup"),
        offers_rustc_web: is_debian
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

/// Whether the programs search path, or where Debian keeps administrators' programs, has it.
fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(name).is_file())
}

fn has_apt_lists() -> bool {
    std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}
