//! Devices whose packets go on in a tunnel.

/// Hash: index of an interface (`u32`) → the longest packet that leaves by it, from the network header
/// on (`u32`). TCP that begins there is asked for segments that fit.
pub const TUNNELS_MAP: &str = "TUNNELS_V1";
