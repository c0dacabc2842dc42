//! What changes in a running HAProxy without a reload, and the socket by which it does.
//!
//! ```text
//! old Image ┐
//! new Image ┴ changes ─► Nothing | Runtime(commands) ─ socket::execute ─► live
//!                                | Reload(causes)        └─ a refusal ─► reload
//! ```
//!
//! The two configurations are compared as the text that HAProxy reads, so what a server line says
//! on disk is what `add server` says: a restart finds what the commands made, and an operator's own
//! template changes as ours do. The plan tells which object a cause comes from.

mod answer;
mod changes;
mod command;
mod config;
mod leaving;
mod line;
mod lists;
mod maps;
mod socket;
#[cfg(test)]
mod tests;

pub use answer::{LiveServer, entries_of_map, servers_of_state, sessions_of_stat};
pub(crate) use answer::{info, processes};
pub(crate) use changes::options_of;
pub use changes::{Cause, Change, Image, changes, server_changes};
pub use command::{Command, ServerRef, ServerStatus};
pub use config::expected_servers;
pub use leaving::{Leaving, Left};
pub use line::Unsafe;
pub(super) use lists::options as line_options;
pub use maps::expected_entries;
pub use socket::{Refusal, Socket, SocketError};
