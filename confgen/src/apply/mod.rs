//! Rendered files, installed, checked and live.
//!
//! ```text
//! Rendered ─ guard ─ files::write ─ check ┬─ files::switch ─ runtime commands | reload ─ read back ─► live
//!                                         └─ bisect ─► quarantine, and again without the guilty
//! ```
//!
//! What decides is pure ([`bisect`], [`guard`], [`pace`], [`state`], [`drift`]); what acts is thin
//! ([`files`], [`check`], [`reload`]). [`applier`] drives one proxy through the steps that
//! [`state`] decides on. Nothing here knows conventions or templates.

pub mod applier;
pub mod bisect;
pub mod certificates;
pub mod check;
pub mod drift;
pub mod files;
#[cfg(test)]
pub(crate) mod fixture;
pub mod guard;
pub mod pace;
pub mod partly;
mod program;
pub mod quarantine;
pub mod reload;
pub mod state;
pub mod status;
