//! One run on a machine: namespaces and cgroups of the lab have fixed names.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Beside the lab, which a run removes and makes anew, and the same for every `TMPDIR`, as the names
/// of network namespaces are.
const FILE: &str = "/run/fairlead-demo.lock";

/// Held by one run at a time. It goes with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Alone {
    _file: File,
}

impl Alone {
    /// Fails where another run has it, and names that.
    pub(crate) fn take() -> Result<Self> {
        Self::take_file(Path::new(FILE))
    }

    fn take_file(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("{shown}: cannot be opened"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                bail!(
                    "another run (pid {}) holds {shown}; wait for its end, or end it with Ctrl-C, which removes its lab",
                    holder.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{shown}: cannot be locked"));
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::process::id;

    use super::Alone;

    #[test]
    fn a_second_run_is_told_who_the_first_is_and_may_come_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::fs::write(&path, "a number of an earlier run\n").unwrap();
        let first = Alone::take_file(&path).unwrap();
        let error = Alone::take_file(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", id())), "{error}");
        drop(first);
        Alone::take_file(&path).unwrap();
    }
}
