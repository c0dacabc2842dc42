//! The harness of the suites, the demo and the bench: labs on a real kernel and the programs in them.

pub mod apiserver;
pub mod harness;
pub mod packets;
pub mod traffic;
