//! The API-server source against an API server that misbehaves.

#[cfg(test)]
mod bootstrap;
#[cfg(test)]
mod client;
#[cfg(test)]
mod doubt;
#[cfg(test)]
mod events;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod missing;
#[cfg(test)]
mod order;
#[cfg(test)]
mod rbac;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod status;
#[cfg(test)]
mod sync;
