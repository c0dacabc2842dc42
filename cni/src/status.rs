//! STATUS: whether an ADD could be served now.
//!
//! A range without a free address is not told: a node that is full of pods is in order, and a
//! runtime makes "network not ready" of this.

use crate::agent;
use crate::config::Config;
use crate::error::{CniError, Code};
use crate::store::Store;

/// Looks at what an ADD needs.
///
/// # Errors
/// What is missing.
pub fn status(config: &Config) -> Result<(), CniError> {
    config.some_ranges(Code::NotAvailable)?;
    let not_available =
        |msg, why: &dyn std::fmt::Display| Err(CniError::new(Code::NotAvailable, msg, why));
    if let Err(error) = Store::open(&config.place).and_then(|store| store.leases()) {
        return not_available("no address can be leased".to_owned(), &error);
    }
    match &config.agent {
        Some(at) => match agent::reach(&at.socket) {
            Ok(()) => Ok(()),
            Err(error) => {
                let msg = format!("no agent answers at {}", at.socket.display());
                let why = format!("{error}; pods that are there keep their network");
                not_available(msg, &why)
            }
        },
        None => Ok(()),
    }
}
