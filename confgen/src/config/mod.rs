//! What an operator says: the native file, and the originals' flags and variables.
//!
//! ```text
//! TOML ─► File ─ check ─► Settings        pyconfd | kube2lb | dispatcher ─► File
//! ```
//!
//! The originals' interfaces become a [`File`] like any other, so `--print-config` shows exactly
//! what runs. Everything is checked once; what is wrong is told with the key it is at.

mod check;
pub mod compat;
pub mod duration;
mod file;
mod machine;
mod outputs;
mod settings;

#[cfg(test)]
mod tests;

pub use check::Mistake;
pub use file::{
    Cluster, Defaults, Endpoints, File, Gateway, HostClaim, Ingress, Listen, Pods, Services,
    Status, Unknown,
};
pub use outputs::{Apply, Haproxy, Nginx, Template};
pub use settings::{CertificateFiles, ClusterSource, Outputs, Settings};

/// Reads and checks the native file.
///
/// # Errors
/// [`Mistake`] at the first key that makes no sense, with its line where TOML itself refused it.
pub fn parse(text: &str) -> Result<Settings, Mistake> {
    let file: File = toml::from_str(text).map_err(|error| Mistake::of_toml(&error))?;
    file.check()
}
