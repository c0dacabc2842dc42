//! What operators and machines see of a running agent.
//!
//! [`report`] is the answer as values; [`server`] serves it on the Unix socket, [`health`] on TCP,
//! there with [`metrics`]; [`flows`] streams; [`health_check`] answers load balancers; [`client`] asks, [`view`] shows the answer, to people through [`table`].

pub mod client;
pub mod collect;
mod egress;
mod flow_view;
pub mod flows;
pub mod health;
pub mod health_check;
pub mod kernel;
pub mod metrics;
pub mod network;
mod page;
pub mod pod_interface;
mod policy;
pub mod rates;
pub mod report;
mod routing;
pub mod server;
mod services;
mod status;
pub mod sweep;
pub mod table;
mod traffic;
pub mod view;

#[cfg(test)]
pub(crate) use flow_view::table as table_of_flows;

#[cfg(test)]
mod tests;
