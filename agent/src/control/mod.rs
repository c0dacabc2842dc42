//! What operators and machines see of a running agent.
//!
//! [`report`] is the answer as values; [`server`] serves it on the Unix socket, [`health`] on TCP;
//! [`client`] asks, [`view`] shows the answer, to people through [`table`].

pub mod client;
pub mod collect;
pub mod health;
pub mod report;
pub mod server;
pub mod table;
pub mod view;

#[cfg(test)]
mod tests;
