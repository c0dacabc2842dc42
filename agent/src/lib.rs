//! The node agent as a library; `main.rs` is its thin binary.

pub mod lb;
pub mod sys;
