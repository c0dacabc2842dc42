//! The node agent as a library; `main.rs` is its thin binary.

pub mod applier;
pub mod desired;
pub mod lb;
pub mod reconcile;
pub mod sys;
