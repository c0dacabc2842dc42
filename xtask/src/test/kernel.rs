//! `cargo xtask kernel`: tests under another kernel, in an emulated machine.
//!
//! The guest has the host's files, so the binaries are those built here. The image is one of a
//! distribution, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::{Stream, stream};
use crate::build::{self, Profile};
use crate::{place, run, setup};

/// What the guest runs.
const GUEST: &str = include_str!("guest.sh");
/// Seconds that a condition may take to come true: without KVM, an agent beside traffic has been seen to
/// need more than 240 to attach its programs.
const PATIENCE: &str = "900";
/// What an image's name begins with, before its version.
const IMAGE: &str = "vmlinuz-";
/// Memory of the guest. The agents' tables are reserved by what it has.
const MEMORY: &str = "3G";

/// Runs the tests of `suite` whose names contain one of `filters` under the kernel unpacked in `directory`.
pub(crate) fn kernel(directory: &Path, suite: &str, filters: &[String]) -> Result<ExitCode> {
    let directory = fs::canonicalize(directory)
        .with_context(|| format!("{}: no such directory", directory.display()))?;
    let (image, version) = image(&directory)?;
    for tool in ["vng", "script", "qemu-system-x86_64", "busybox"] {
        run::output(run::command("which").arg(tool)).with_context(|| {
            format!("{tool} is missing; on Debian: apt-get install qemu-system-x86 busybox-static kmod udev bsdutils, and virtme-ng from PyPI")
        })?;
    }
    setup::setup()?;
    build::build_next()?;
    build::build(Profile::Dev)?;
    run::run(
        run::command("depmod")
            .arg("-b")
            .arg(&directory)
            .arg(&version),
    )?;
    let guest = place::target().join("guest.sh");
    fs::write(&guest, GUEST).with_context(|| format!("{}: cannot be written", guest.display()))?;
    let dist = place::dist();
    let variables = [
        ("KERNEL", directory.clone()),
        ("TESTS", tests(suite)?),
        ("FAIRLEAD_AGENT", dist.join("fairlead-agent")),
        ("FAIRLEAD_AGENT_NEXT", build::next_agent()),
        ("FAIRLEAD_CNI", dist.join("fairlead-cni")),
        ("FAIRLEAD_TEST_PATIENCE", PATIENCE.into()),
    ];
    let variables = variables.map(|(name, value)| format!("{name}={}", value.display()));
    // vng wants a terminal, which `script` is.
    let inside = format!(
        "vng --run {} --disable-kvm --memory {MEMORY} --cpus 2 -- env {} bash {} {}",
        image.display(),
        variables.join(" "),
        guest.display(),
        filters.join(" ")
    );
    let mut command = run::command("script");
    command
        .args(["-qec", &inside, "/dev/null"])
        .current_dir(place::root().join("tests"));
    let (results, ended) = stream(command, Stream::Stdout);
    ended?;
    let sum = results.sum;
    ensure!(sum.passed + sum.failed > 0, "no test ran");
    anstream::println!("{} passed, {} failed", sum.passed, sum.failed);
    Ok(if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The image of the kernel, and its version.
fn image(directory: &Path) -> Result<(PathBuf, String)> {
    let boot = directory.join("boot");
    let entries = fs::read_dir(&boot).with_context(|| {
        format!("{}: cannot be read; unpack a kernel's package into {} (apt-get download linux-image-VERSION, dpkg -x)", boot.display(), directory.display())
    })?;
    let mut images = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(version) = name.to_str().and_then(|name| name.strip_prefix(IMAGE)) {
            images.push((entry.path(), version.to_owned()));
        }
    }
    let [image] = images.as_slice() else {
        anyhow::bail!(
            "{}: one vmlinuz-VERSION is needed there, and there are {}",
            boot.display(),
            images.len()
        );
    };
    Ok(image.clone())
}

/// The binary with the tests of a suite.
fn tests(suite: &str) -> Result<PathBuf> {
    let mut cargo = run::cargo();
    cargo.args([
        "test",
        "-p",
        "tests",
        "--test",
        suite,
        "--no-run",
        "--message-format=json",
    ]);
    let output = run::output(&mut cargo)?;
    let of_line = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == suite;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    output
        .lines()
        .find_map(of_line)
        .with_context(|| format!("cargo names no binary of the tests of {suite}"))
}
