//! Processes of proxies, as `/proc` tells of them.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::ReloadError;

/// A signal by its name, with or without `SIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName(Signal);

impl SignalName {
    const KNOWN: [(&'static str, Signal); 8] = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("KILL", Signal::KILL),
        ("QUIT", Signal::QUIT),
        ("TERM", Signal::TERM),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("WINCH", Signal::WINCH),
    ];

    pub(super) const HUP: Self = Self(Signal::HUP);
    pub(super) const USR2: Self = Self(Signal::USR2);

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let known = Self::KNOWN.iter().find(|(known, _)| *known == name);
        known.map(|(_, signal)| Self(*signal))
    }
}

pub(super) fn signal(pid: u32, signal: SignalName) -> Result<(), ReloadError> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = match process {
        Some(process) => kill_process(process, signal.0),
        None => Err(rustix::io::Errno::SRCH),
    };
    sent.map_err(|source| ReloadError::Signal { pid, source })
}

/// The process id in a file.
pub(super) fn pid_of(file: &Path) -> Result<u32, ReloadError> {
    let invalid = |why: String| ReloadError::PidFile {
        path: file.to_owned(),
        why,
    };
    let text = fs::read_to_string(file).map_err(|error| invalid(error.to_string()))?;
    // HAProxy without a master writes one process a line.
    let first = text.split_whitespace().next().unwrap_or_default();
    match first.parse() {
        // 0 and 1 would be our whole group, and init.
        Ok(pid) if pid > 1 => Ok(pid),
        _ => Err(invalid("holds no process id".to_owned())),
    }
}

/// The process id in a file, where that process is still `program`: a file may outlive its process,
/// and its number be another's.
pub(super) fn pid_of_program(file: &Path, program: &str) -> Result<u32, ReloadError> {
    let pid = pid_of(file)?;
    let found = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if found.trim() == program {
        return Ok(pid);
    }
    Err(ReloadError::PidFile {
        path: file.to_owned(),
        why: match found.trim() {
            "" => format!("{program} ({pid}) does not run"),
            other => format!("process {pid} is {other}, not {program}"),
        },
    })
}

/// Children of a process, with their command lines.
pub(super) fn children(parent: u32) -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent))
        .map(|pid: u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets; the state and the parent follow its last bracket.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A zombie is no process that serves.
    fields.next().filter(|state| *state != "Z")?;
    fields.next()?.parse().ok()
}
