//! What people type.

mod compat;
mod explain;
mod model;
mod run;
mod settings;
mod show;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Configurations of HAProxy and nginx, rendered from the cluster and applied without losing a
/// request.
#[derive(Debug, Parser)]
#[command(name = "fairlead-confgen", version, after_help = AFTER)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Every command reads one configuration file (--config), and works from a directory of manifests \
(--manifests) as from a cluster:

  fairlead-confgen explain --config edge.toml --manifests ./shop shop.example /cart

The originals' own interfaces start it unchanged: pyconfd (flags or environment), kube2lb (flags), \
dispatcher (environment); --print-config shows the equal native file.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the cluster and keep every output in step with it
    Run(run::Run),
    /// Make every output live once, and end
    Apply(run::Apply),
    /// Say what would change: files, runtime commands, whether a reload and why
    Plan(run::Plan),
    /// Render every output, to standard output or below a directory
    Render(run::Render),
    /// Say which object answers a host and path, who else wanted it, and why
    Explain(explain::Explain),
    /// Print the objects of the model, their counts and what is wrong with them
    Model(model::Model),
    /// Check what a configuration must do, as *.test.toml files say it
    Test(test::Test),
    /// Start with pyconfd's flags or environment
    Pyconfd(compat::Compat),
    /// Start with kube2lb's flags
    #[command(name = "kube2lb")]
    Kube2lb(compat::Compat),
    /// Start with dispatcher's environment
    Dispatcher(compat::Compat),
}

/// Does what was typed.
///
/// # Errors
/// What could not be done, why, and what to do.
pub async fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Run(run) => run.run().await,
        Command::Apply(apply) => apply.run().await,
        Command::Plan(plan) => plan.run().await,
        Command::Render(render) => render.run().await,
        Command::Explain(explain) => explain.run().await,
        Command::Model(model) => model.run().await,
        Command::Test(test) => test.run().await,
        Command::Pyconfd(compat) => compat.run(compat::Original::Pyconfd).await,
        Command::Kube2lb(compat) => compat.run(compat::Original::Kube2lb).await,
        Command::Dispatcher(compat) => compat.run(compat::Original::Dispatcher).await,
    }
}
