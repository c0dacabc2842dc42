//! Asks a program whether files are good, before they are live.

use std::path::Path;
use std::time::Duration;

use super::program::{self, ProgramError};

/// Which program is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `<program> -c -f FILE`
    Haproxy {
        /// Name or path of HAProxy.
        program: String,
    },
    /// `<program> -t -q -c FILE`
    Nginx {
        /// Name or path of nginx.
        program: String,
    },
    /// A command split at blanks, without a shell. The file is put in place of each word `{}`, or
    /// appended where there is none, as pyconfd does.
    Words(Vec<String>),
    /// Nothing is asked; whatever is rendered is good.
    Unchecked,
}

/// The answer about one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Good; what it said nevertheless: warnings.
    Passed(String),
    /// Not good, and why, as the program puts it.
    Failed(String),
}

impl Check {
    /// A command as operators write it.
    pub fn command(text: &str) -> Self {
        Self::Words(program::words(text))
    }

    fn words(&self, file: &Path) -> Option<Vec<String>> {
        let file = file.to_string_lossy().into_owned();
        let with = |program: &str, options: &[&str]| {
            let words = [program].into_iter().chain(options.iter().copied());
            words.map(str::to_owned).chain([file.clone()]).collect()
        };
        match self {
            Self::Haproxy { program } => Some(with(program, &["-c", "-f"])),
            Self::Nginx { program } => Some(with(program, &["-t", "-q", "-c"])),
            Self::Words(words) if words.iter().any(|word| word == "{}") => Some(
                words
                    .iter()
                    .map(|word| if word == "{}" { &file } else { word }.clone())
                    .collect(),
            ),
            Self::Words(words) => Some(words.iter().cloned().chain([file]).collect()),
            Self::Unchecked => None,
        }
    }

    /// Asks about a candidate's main file.
    ///
    /// # Errors
    /// [`ProgramError`] where there was no answer. That says nothing about the files: no object is
    /// to blame for it.
    pub async fn ask(&self, file: &Path, timeout: Duration) -> Result<Verdict, ProgramError> {
        let Some(words) = self.words(file) else {
            return Ok(Verdict::Passed(String::new()));
        };
        let ended = program::run(&words, timeout).await?;
        Ok(if ended.is_success {
            Verdict::Passed(ended.output)
        } else {
            Verdict::Failed(explained(ended.output))
        })
    }
}

/// With what to do, where the program itself lacks something.
fn explained(output: String) -> String {
    if output.contains("unknown directive \"secure_link\"") {
        return format!(
            "{output}; this nginx is built without http_secure_link_module, by which API keys are \
             compared: install one that has it, or ask for no keys"
        );
    }
    output
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Check, explained};

    #[test]
    fn an_nginx_without_a_module_is_told_from_a_bad_file() {
        let said = "[emerg] unknown directive \"secure_link\" in nginx.conf:9".to_owned();
        let told = explained(said.clone());
        assert!(told.starts_with(&said) && told.contains("http_secure_link_module"));
        let other = "[emerg] unknown directive \"x\" in nginx.conf:9";
        assert_eq!(explained(other.to_owned()), other);
    }

    #[test]
    fn the_candidate_is_what_is_asked_about() {
        let check = |check: Check, expected: &str| {
            let words = check.words(Path::new("/new/file")).unwrap_or_default();
            assert_eq!(words.join(" "), expected);
        };
        let program = "haproxy".to_owned();
        check(Check::Haproxy { program }, "haproxy -c -f /new/file");
        let program = "nginx".to_owned();
        check(Check::Nginx { program }, "nginx -t -q -c /new/file");
        check(
            Check::command("/usr/sbin/haproxy -c  -q -f"),
            "/usr/sbin/haproxy -c -q -f /new/file",
        );
        check(
            Check::command("caddy validate --config {} --adapter x"),
            "caddy validate --config /new/file --adapter x",
        );
        check(Check::Unchecked, "");
    }
}
