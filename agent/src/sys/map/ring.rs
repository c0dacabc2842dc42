//! Pinned ring buffers.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use aya::maps::{Map, MapData, RingBuf};
use bytemuck::AnyBitPattern;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::TableError;

/// A pinned ring buffer of events of one kind. One process reads it.
pub struct Ring<V> {
    ring: RingBuf<MapData>,
    of: std::marker::PhantomData<V>,
}

impl<V> fmt::Debug for Ring<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl<V: AnyBitPattern> Ring<V> {
    /// Opens the ring buffer `name` pinned in the directory `pins`. It goes on where the last reader
    /// ended.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn open(pins: &Path, name: &'static str) -> Result<Self, TableError> {
        let open = || RingBuf::try_from(Map::RingBuf(MapData::from_pin(pins.join(name))?));
        let ring = open().map_err(|source| TableError::Kernel {
            map: name,
            operation: "open",
            source,
        })?;
        Ok(Self {
            ring,
            of: std::marker::PhantomData,
        })
    }

    /// The next event; `None` while there is none. What is no event of this kind is left out.
    pub fn next_event(&mut self) -> Option<V> {
        loop {
            let bytes = self.ring.next()?;
            if let Ok(event) = bytemuck::try_pod_read_unaligned(&bytes) {
                return Some(event);
            }
        }
    }
}

/// A ring buffer that is waited for.
#[derive(Debug)]
pub struct Awaited<V>(AsyncFd<Ring<V>>);

impl<V: AnyBitPattern> Awaited<V> {
    /// Waits for events of a ring buffer from now on; within a tokio runtime.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn new(ring: Ring<V>) -> io::Result<Self> {
        // SAFETY: the descriptor stays open and the same as long as the ring buffer lives, which
        // nothing here moves out of the `AsyncFd` or replaces.
        let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// The next events, at least one and at most `most`.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub async fn next_events(&mut self, most: usize) -> io::Result<Vec<V>> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            let ring = ready.get_inner_mut();
            let events: Vec<V> = std::iter::from_fn(|| ring.next_event())
                .take(most)
                .collect();
            if events.len() < most {
                ready.clear_ready();
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}

impl<V> AsRawFd for Ring<V> {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
