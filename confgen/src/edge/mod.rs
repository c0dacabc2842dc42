//! The edge model: what the watched cluster asks an edge node to serve. Pure.
//!
//! ```text
//! objects ─ convention ─► Claims ─ resolve ─► listeners ┐
//!                            └─ members ─ fill ─► backends ┴─► EdgePlan
//! ```
//!
//! A convention reads its own kinds and knows no other convention; who wins a host, and who may
//! have it at all, is decided in one place for all of them.

pub(crate) mod claim;
mod config;
mod plan;
pub mod value;

pub use config::{
    DefaultListeners, Defaults, EdgeConfig, EndpointsConvention, GatewayConvention, HostClaimRule,
    IngressConvention, PodsConvention, ServicesConvention,
};
pub use plan::{
    Access, Action, Backend, BackendProtocol, BackendTls, Balance, Certificate, ClientCertificates,
    Domain, EdgePlan, Filter, Forward, HeaderChange, HealthCheck, HostTls, HttpListener, HttpRule,
    Listen, Listener, Loss, LossCause, Origin, PathRewrite, Probe, Redirect, RequestMatch, Server,
    ServerState, ServiceInformation, SniRoute, StickyCookie, TcpListener, Timeouts, TlsListener,
    Unknown, ValueMatch, Views, VirtualHost,
};
