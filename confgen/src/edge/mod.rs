//! The edge model: what the watched cluster asks an edge node to serve. Pure.
//!
//! ```text
//! objects ─ convention ─► Claims ─ resolve ─► listeners ┐
//!                            └─ members ─ fill ─► backends ┴─► EdgePlan
//! ```
//!
//! A convention reads its own kinds and knows no other convention; who wins a host, and who may
//! have it at all, is decided in one place for all of them.

pub mod certificate;
pub(crate) mod claim;
mod compile;
mod config;
mod convention;
mod host_claims;
mod members;
mod name_template;
mod outside;
mod plan;
mod precedence;
mod resolve;
mod simulate;
mod status;
#[cfg(test)]
pub(crate) mod tests;
pub mod value;

pub use compile::{Compiler, compile, kinds};
pub use config::{
    DefaultListeners, Defaults, EdgeConfig, EndpointsConvention, GatewayConvention, HostClaimRule,
    IngressConvention, MissingKey, PodsConvention, ServicesConvention,
};
pub use name_template::NameTemplate;
pub use outside::{Fallback, Outside};
pub use plan::{
    Access, Action, Backend, BackendProtocol, BackendTls, Balance, Certificate, ClientCertificates,
    Domain, EdgePlan, Filter, Forward, HeaderChange, HealthCheck, HostTls, HttpListener, HttpRule,
    Listen, Listener, Loss, LossCause, Origin, PathRewrite, Probe, Redirect, RequestMatch, Server,
    ServerState, ServiceInformation, SniRoute, StickyCookie, TcpListener, Timeouts, TlsListener,
    Unknown, ValueMatch, Views, VirtualHost,
};
pub use simulate::{Answer, Request, simulate};
pub use status::statuses;
