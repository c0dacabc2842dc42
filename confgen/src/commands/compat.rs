//! `fairlead-confgen pyconfd | kube2lb | dispatcher`: the originals' own interfaces.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Parser as _;

use super::model::print;
use crate::config::Cluster;
use crate::config::compat::{Carried, dispatcher, kube2lb, pyconfd};

/// Whose interface it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Original {
    Pyconfd,
    Kube2lb,
    Dispatcher,
}

#[derive(Debug, clap::Args)]
pub(super) struct Compat {
    /// Print the equal native configuration and end
    #[arg(long)]
    print_config: bool,
    /// Log as JSON, a line a message
    #[arg(long)]
    log_json: bool,
    /// Directory of Kubernetes YAML, in place of the API server
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// The original's own flags
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FLAGS"
    )]
    flags: Vec<String>,
}

impl Compat {
    pub(super) async fn run(mut self, original: Original) -> Result<()> {
        self.take_ours();
        let Carried { mut file, notes } = self.carry(original)?;
        if let Some(directory) = self.manifests {
            file.cluster = Cluster {
                manifests: Some(directory),
                resync: file.cluster.resync,
                ..Cluster::default()
            };
        }
        let settings = file.check()?;
        if self.print_config {
            let notes = notes.iter().map(|note| format!("# {note}\n"));
            let notes: String = notes.collect();
            return print(&format!("{notes}{}", toml::to_string(&file)?));
        }
        for note in &notes {
            anstream::eprintln!("fairlead-confgen: {note}");
        }
        super::run::follow(settings, self.log_json).await
    }

    /// Ours may stand anywhere among the original's.
    fn take_ours(&mut self) {
        let (print_config, log_json) = (&mut self.print_config, &mut self.log_json);
        self.flags.retain(|flag| {
            match flag.as_str() {
                "--print-config" => *print_config = true,
                "--log-json" => *log_json = true,
                _ => return true,
            }
            false
        });
    }

    fn carry(&self, original: Original) -> Result<Carried> {
        let variable = |name: &str| std::env::var(name).ok();
        let given = self.flags.clone();
        Ok(match original {
            Original::Pyconfd => {
                let given = pyconfd::arguments(given, variable);
                let name = std::iter::once("pyconfd".to_owned());
                let flags = pyconfd::Flags::parse_from(name.chain(given));
                pyconfd::carry(&flags, Path::exists)?
            }
            Original::Kube2lb => {
                let given = kube2lb::with_two_dashes(given.into_iter());
                let name = std::iter::once("kube2lb".to_owned());
                kube2lb::carry(kube2lb::Flags::parse_from(name.chain(given)))
            }
            Original::Dispatcher if given.is_empty() => dispatcher::carry(variable)?,
            Original::Dispatcher => {
                bail!(
                    "dispatcher has no flags, only variables; found {}",
                    given.join(" ")
                )
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Compat;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        compat: Compat,
    }

    #[test]
    fn our_flags_stand_anywhere_among_the_originals() {
        for (line, log_json, print_config, left) in [
            ("x --log-json -a b", true, false, "-a b"),
            ("x -a b --log-json -c --print-config", true, true, "-a b -c"),
            ("x -a b", false, false, "-a b"),
        ] {
            let mut compat = Line::parse_from(line.split(' ')).compat;
            compat.take_ours();
            let found = (compat.log_json, compat.print_config, compat.flags.join(" "));
            assert_eq!(found, (log_json, print_config, left.to_owned()), "{line}");
        }
    }
}
