//! What passes in a second, as kube-router shows it: IPVS estimates that, and here it is the mean from one
//! scrape to the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent_abi::counters::TrafficV1;

use super::kernel::TrafficRow;
use crate::desired::LbServiceKey;

/// A mean of less time says little.
const SHORTEST: Duration = Duration::from_secs(1);

/// Of each unit.
pub type Rates = BTreeMap<LbServiceKey, Rate>;

/// In a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Connections begun.
    pub connections: f64,
    /// Packets from clients.
    pub packets_in: f64,
    /// Their bytes.
    pub bytes_in: f64,
    /// Packets to clients.
    pub packets_out: f64,
    /// Their bytes.
    pub bytes_out: f64,
}

/// What the last scrape saw.
#[derive(Debug, Default)]
pub struct Earlier(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    at: Instant,
    traffic: BTreeMap<LbServiceKey, TrafficV1>,
    rates: Rates,
}

impl Earlier {
    /// The rates since the last scrape, and what this one saw for the next one. Two within a second get the
    /// same; the first gets none.
    pub fn rates(&self, now: Instant, rows: &[TrafficRow]) -> Rates {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = seen
            .as_ref()
            .map(|seen| now.saturating_duration_since(seen.at));
        if let (Some(seen), Some(since)) = (&*seen, since)
            && since < SHORTEST
        {
            return seen.rates.clone();
        }
        let before = |row: &TrafficRow| Some(*seen.as_ref()?.traffic.get(&row.unit)?);
        let rate = |row: &TrafficRow| {
            let (before, seconds) = (before(row)?, since?.as_secs_f64());
            let mean = |part: fn(&TrafficV1) -> u64| {
                // A Service that was made anew counts from the beginning.
                part(&row.traffic).saturating_sub(part(&before)) as f64 / seconds
            };
            let rate = Rate {
                connections: mean(|traffic| traffic.connections),
                packets_in: mean(|traffic| traffic.packets_in),
                bytes_in: mean(|traffic| traffic.bytes_in),
                packets_out: mean(|traffic| traffic.packets_out),
                bytes_out: mean(|traffic| traffic.bytes_out),
            };
            Some((row.unit.clone(), rate))
        };
        let rates: Rates = rows.iter().filter_map(rate).collect();
        *seen = Some(Seen {
            at: now,
            traffic: rows
                .iter()
                .map(|row| (row.unit.clone(), row.traffic))
                .collect(),
            rates: rates.clone(),
        });
        rates
    }
}
