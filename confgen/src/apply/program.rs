//! Runs other programs: bounded in time and in what they say.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// What a program says is kept up to this; findings end up in Events and status.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whether its status was 0.
    pub(crate) is_success: bool,
    /// What it said on both outputs, the standard error last; cut at [`MAX_OUTPUT_BYTES`] each.
    pub(crate) output: String,
}

/// A program that did not come to an end by itself.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there, or may not be run.
    #[error("{program} cannot be run: {source}")]
    Start {
        /// As it was asked for.
        program: String,
        source: std::io::Error,
    },
    /// It was killed.
    #[error("{program} did not end within {timeout:?} and was killed")]
    TimedOut {
        /// As it was asked for.
        program: String,
        /// How long it had.
        timeout: Duration,
    },
    /// There is nothing to run.
    #[error("the command is empty")]
    Empty,
}

/// Runs `words`, the first of which is the program. No shell is involved.
pub(crate) async fn run(words: &[String], timeout: Duration) -> Result<Ended, ProgramError> {
    let (program, arguments) = words.split_first().ok_or(ProgramError::Empty)?;
    let start = |source| ProgramError::Start {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("LC_ALL", "C")
        // What it starts itself ends with it, a shell's children above all.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let group = child.id();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let whole = async {
        let ended = child.wait();
        let (status, out, err) = tokio::join!(ended, bounded(stdout), bounded(stderr));
        (status, out, err)
    };
    match tokio::time::timeout(timeout, whole).await {
        Ok((status, out, err)) => Ok(Ended {
            is_success: status.map_err(start)?.success(),
            output: [out, err].join("\n").trim().to_owned(),
        }),
        Err(_elapsed) => {
            kill_group(group);
            Err(ProgramError::TimedOut {
                program: program.clone(),
                timeout,
            })
        }
    }
}

fn kill_group(leader: Option<u32>) {
    let leader = leader
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(leader) = leader {
        // It may have ended meanwhile.
        let _killed = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
    }
}

/// Reads to the end, but keeps a bounded part: a program must not block on a full pipe.
async fn bounded(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    if let Some(mut pipe) = pipe {
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            let room = MAX_OUTPUT_BYTES.saturating_sub(kept.len()).min(count);
            kept.extend(buffer.iter().take(room));
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A command as operators write it: words between blanks; quotes mean nothing.
pub(crate) fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MAX_OUTPUT_BYTES, ProgramError, run, words};

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn outputs_and_statuses_are_told() {
        let ended = run(&words("/bin/echo a  ; b"), LONG).await.unwrap();
        assert!(ended.is_success);
        assert_eq!(ended.output, "a ; b");
        let ended = run(&words("/bin/false"), LONG).await.unwrap();
        assert!(!ended.is_success);
        let missing = run(&words("/nowhere/haproxy -c"), LONG).await;
        assert!(matches!(missing, Err(ProgramError::Start { .. })));
    }

    #[tokio::test]
    async fn a_program_that_hangs_ends_with_its_children() {
        let shell = ["/bin/sh", "-c", "sleep 71 & sleep 71"].map(str::to_owned);
        let start = Instant::now();
        let ended = run(&shell, Duration::from_millis(100)).await;
        assert!(matches!(ended, Err(ProgramError::TimedOut { .. })));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn what_a_program_says_is_bounded() {
        let shell = ["/bin/sh", "-c", "yes | head -c 1000000"].map(str::to_owned);
        let ended = run(&shell, LONG).await.unwrap();
        assert!(ended.is_success);
        assert!(ended.output.len() <= MAX_OUTPUT_BYTES);
    }
}
