//! kube2lb's notifiers.

use std::path::PathBuf;
use std::time::Duration;

use super::ReloadError;
use super::process::{SignalName, pid_of, signal};
use crate::apply::program;

/// Who is told of new files, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notifier {
    /// `command:CMD`, run by `/bin/sh -c` as kube2lb runs it. It is the operator's text alone.
    Command(String),
    /// A command split at blanks, without a shell (pyconfd's reload command).
    Words(Vec<String>),
    /// `pid:SIGNAL:PID`
    Pid(SignalName, u32),
    /// `pidfile:SIGNAL:FILE`, read at each notification.
    PidFile(SignalName, PathBuf),
    /// `debug:` only tells that there would have been a notification.
    Debug,
}

/// A notifier's text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "notifier {text:?} is none of command:CMD, pid:SIGNAL:PID, pidfile:SIGNAL:FILE and debug: with \
     a signal such as SIGHUP"
)]
pub struct NotifierInvalid {
    text: String,
}

impl Notifier {
    /// Reads `type:rest`.
    ///
    /// # Errors
    /// [`NotifierInvalid`]
    pub fn parse(text: &str) -> Result<Self, NotifierInvalid> {
        Self::parsed(text).ok_or_else(|| NotifierInvalid {
            text: text.to_owned(),
        })
    }

    fn parsed(text: &str) -> Option<Self> {
        // The README of kube2lb writes `debug`, which its code refuses.
        let (kind, rest) = match text.split_once(':') {
            Some(parts) => parts,
            None => (text, ""),
        };
        let signal = || {
            let (signal, target) = rest.split_once(':')?;
            Some((SignalName::parse(signal)?, target))
        };
        match kind {
            "command" if !rest.trim().is_empty() => Some(Self::Command(rest.to_owned())),
            "pid" => {
                let (signal, pid) = signal()?;
                let pid = pid.trim().parse().ok().filter(|pid| *pid > 1)?;
                Some(Self::Pid(signal, pid))
            }
            "pidfile" => {
                let (signal, file) = signal()?;
                (!file.is_empty()).then(|| Self::PidFile(signal, file.into()))
            }
            "debug" => Some(Self::Debug),
            _ => None,
        }
    }

    /// Tells them.
    ///
    /// # Errors
    /// [`ReloadError`]; the applier tries again, which the originals did not.
    pub async fn notify(&self, timeout: Duration) -> Result<(), ReloadError> {
        let words = match self {
            Self::Command(command) => ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            Self::Words(words) => words.clone(),
            Self::Pid(name, pid) => return signal(*pid, *name),
            Self::PidFile(name, file) => return signal(pid_of(file)?, *name),
            Self::Debug => {
                tracing::info!("notification");
                return Ok(());
            }
        };
        let ended = program::run(&words, timeout).await?;
        tracing::debug!(output = %ended.output, "notified");
        if ended.is_success {
            return Ok(());
        }
        let said = ended.output.chars().take(500).collect::<String>();
        Err(ReloadError::Command(format!("{}: {said}", words.join(" "))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Notifier, SignalName};

    #[test]
    fn notifiers_are_read_as_kube2lb_reads_them() {
        let hup = SignalName::parse("HUP").unwrap();
        for (text, expected) in [
            (
                "command:a b; c",
                Some(Notifier::Command("a b; c".to_owned())),
            ),
            ("pid:SIGHUP:12", Some(Notifier::Pid(hup, 12))),
            (
                "pidfile:HUP:/run/a:b",
                Some(Notifier::PidFile(hup, "/run/a:b".into())),
            ),
            ("debug:", Some(Notifier::Debug)),
            ("debug", Some(Notifier::Debug)),
            ("command:", None),
            ("pid:SIGHUP:-1", None),
            ("pid:SIGHUP:0", None),
            ("pid:SIGNONE:12", None),
            ("pidfile:HUP", None),
            ("http://x", None),
            ("", None),
        ] {
            assert_eq!(Notifier::parse(text).ok(), expected, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told() {
        let notify = async |text| {
            let notifier = Notifier::parse(text).unwrap();
            notifier.notify(Duration::from_secs(10)).await
        };
        assert!(notify("command:true && exit 0").await.is_ok());
        let error = notify("command:echo no such unit; exit 3")
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no such unit"), "{error}");
        assert!(notify("pidfile:HUP:/nowhere/pid").await.is_err());
    }
}
