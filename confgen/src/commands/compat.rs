//! `fairlead-confgen pyconfd | kube2lb | dispatcher`: the originals' own interfaces.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser as _;

use super::model::print;
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
        // Ours may stand anywhere among the original's.
        self.flags.retain(|flag| {
            let is_ours = flag == "--print-config";
            self.print_config |= is_ours;
            !is_ours
        });
        let Carried { mut file, notes } = self.carry(original)?;
        if let Some(directory) = self.manifests {
            file.cluster.manifests = Some(directory);
            file.cluster.servers.clear();
            file.cluster.kubeconfig = None;
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
        super::run::follow(settings, false).await
    }

    fn carry(&self, original: Original) -> Result<Carried> {
        let variable = |name: &str| std::env::var(name).ok();
        let given = self.flags.clone();
        Ok(match original {
            Original::Pyconfd => {
                let given = pyconfd::arguments(given, variable);
                let name = std::iter::once("pyconfd".to_owned());
                let flags = pyconfd::Flags::try_parse_from(name.chain(given))?;
                pyconfd::carry(&flags)?
            }
            Original::Kube2lb => {
                let given = kube2lb::with_two_dashes(given.into_iter());
                let name = std::iter::once("kube2lb".to_owned());
                kube2lb::carry(kube2lb::Flags::try_parse_from(name.chain(given))?)
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
