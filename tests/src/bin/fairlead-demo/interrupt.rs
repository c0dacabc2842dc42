//! Ctrl-C and SIGTERM: the lab goes first, then the demo.

use std::process::exit;
use std::thread;

use anyhow::{Context, Result};
use tests::harness::{remains, remove};
use tokio::signal::unix::{SignalKind, signal};

use crate::LAB;

/// Exit code of a program that SIGINT ended, as shells show it.
const INTERRUPTED: i32 = 130;
/// The demo may be adding to the lab while it is removed.
const ROUNDS: u32 = 20;

/// Waits for a signal, on a thread of its own.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            });
            anstream::eprintln!("\ninterrupted: removing the lab");
            let mut removed = remove(LAB);
            for _ in 0..ROUNDS {
                if removed.is_ok() && remains(LAB).is_ok_and(|left| left.is_empty()) {
                    break;
                }
                removed = remove(LAB);
            }
            if let Err(error) = removed {
                anstream::eprintln!("{error:#}; try: fairlead-demo --remove");
            }
            exit(INTERRUPTED);
        })
        .context("no thread for signals")?;
    Ok(())
}
