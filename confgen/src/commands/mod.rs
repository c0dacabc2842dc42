//! What people type.

mod compat;
mod diff;
mod explain;
mod explain_lines;
mod model;
mod plan;
mod run;
mod settings;
mod show;
mod status;
mod test;
mod test_outputs;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::serve::saved::Moved;

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
  fairlead-confgen plan --config edge.toml --save edge.plan
  fairlead-confgen apply --config edge.toml --plan edge.plan

It ends with status 0 when all went well, 1 when something did not, 2 when what was typed makes no \
sense, and 3 when `apply --plan` refuses a plan since the world changed.

The originals' own interfaces start it unchanged: pyconfd (flags or environment), kube2lb (flags), \
dispatcher (environment); --print-config shows the equal native file.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the cluster and keep every output in step with it
    Run(run::Run),
    /// Make every output live once, and end
    Apply(run::Apply),
    /// Say what would change: files, runtime commands, whether a reload and why
    Plan(plan::Plan),
    /// Render every output, to standard output or below a directory
    Render(run::Render),
    /// Say which object answers a host and path, who else wanted it, and why
    Explain(explain::Explain),
    /// Print the objects of the model, their counts and what is wrong with them
    Model(model::Model),
    /// Say how the running process is, and what it does not do and why
    Status(status::Status),
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

/// The exit status that tells of an error.
pub fn status_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Moved>() {
        Some(_) => 3,
        None => 1,
    }
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
        Command::Status(status) => status.run().await,
        Command::Test(test) => test.run().await,
        Command::Pyconfd(compat) => compat.run(compat::Original::Pyconfd).await,
        Command::Kube2lb(compat) => compat.run(compat::Original::Kube2lb).await,
        Command::Dispatcher(compat) => compat.run(compat::Original::Dispatcher).await,
    }
}
