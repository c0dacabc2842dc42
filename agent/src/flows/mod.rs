//! What became of single connections: from the programs' events to records that name pods, Service,
//! policy and rule.
//!
//! [`log`] owns the ring buffer and the records that are kept; [`resolve`] names what an event is
//! about, by [`names`] as they are at that moment, since a moment later they may be gone; [`filter`]
//! chooses; [`record`] is what travels and what people read.

pub mod filter;
pub mod log;
pub mod names;
mod processes;
pub mod record;
pub mod resolve;

#[cfg(test)]
mod tests;
