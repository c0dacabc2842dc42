//! Masquerade: what pods send out of the cluster leaves under the node's address.
//!
//! `image` and `source` decide, `maps` writes, `excluded` follows the operator's file.

pub mod excluded;
pub mod image;
pub mod maps;
pub mod source;
