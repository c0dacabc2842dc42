//! What operators and machines see of a running agent.
//!
//! [`report`] is the answer as values; [`server`] serves it on the Unix socket, [`health`] on TCP;
//! [`client`] asks, [`table`] shows it to people.

pub mod client;
pub mod collect;
pub mod health;
pub mod report;
pub mod server;
pub mod table;
