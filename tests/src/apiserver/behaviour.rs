//! What the test can make the server do wrong, and what it sees of the requests.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Kind, KindSet, ObjectKey};
use serde_json::Value;

/// Conduct of the server. The default is a server without faults.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Lists of these kinds are answered with 403.
    pub forbid_list: KindSet,
    /// Watches of these kinds are answered with 403.
    pub forbid_watch: KindSet,
    /// The server does not know these kinds: their CRDs are not installed.
    pub missing: KindSet,
    /// Lists of these kinds hold nothing, at the current version.
    pub empty: KindSet,
    /// Nothing later than this version is served: a member that lags.
    pub frozen_at: Option<u64>,
    /// Every request is answered with this status.
    pub status: Option<u16>,
    /// Every request about Events is answered with this status, and does nothing.
    pub events_status: Option<u16>,
    /// Every request about Leases is answered with this status, and does nothing.
    pub leases_status: Option<u16>,
    /// The status of these kinds is not to be patched: 403.
    pub forbid_status: KindSet,
    /// Pause before every answer.
    pub delay: Duration,
    /// How an expired version is reported to a watch.
    pub gone: GoneForm,
    /// Put into lists of the kind, beside what is stored.
    pub extra_items: BTreeMap<Kind, Vec<Value>>,
    /// How often a watch that allows them gets a bookmark.
    pub bookmark_period: Duration,
    /// Forgets the history before the second page of every list.
    pub compact_between_pages: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            forbid_list: KindSet::new(),
            forbid_watch: KindSet::new(),
            missing: KindSet::new(),
            empty: KindSet::new(),
            frozen_at: None,
            status: None,
            events_status: None,
            leases_status: None,
            forbid_status: KindSet::new(),
            delay: Duration::ZERO,
            gone: GoneForm::Status,
            extra_items: BTreeMap::new(),
            bookmark_period: Duration::from_secs(60),
            compact_between_pages: false,
        }
    }
}

/// API servers have done both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoneForm {
    /// HTTP status 410.
    Status,
    /// 200, and an ERROR event.
    Event,
}

/// Something put into open watches.
#[derive(Clone, Debug)]
pub enum Injection {
    /// An event as it is, with any version.
    Event {
        /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, or something unknown.
        event: &'static str,
        /// The object.
        object: Value,
    },
    /// Raw text, with the line's end if it is to have one.
    Text(String),
    /// An ERROR event with code 410, then the end.
    Gone,
    /// The connection breaks.
    Cut,
    /// The connection breaks within a line.
    CutWithinLine,
    /// The server closes the watch in good order.
    End,
    /// The same, but within a line.
    EndWithinLine,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A collection.
    List,
    /// The changes of a collection.
    Watch,
}

/// A request for a known kind.
#[derive(Clone, Debug)]
pub struct Request {
    /// What of.
    pub kind: Kind,
    /// What.
    pub verb: Verb,
    /// The parameters, decoded.
    pub query: BTreeMap<String, String>,
    /// Status of the answer.
    pub status: u16,
}

/// What a request for a single object wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectVerb {
    /// The object.
    Get,
    /// Another status.
    PatchStatus,
}

/// A request for a single object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRequest {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: ObjectKey,
    /// What.
    pub verb: ObjectVerb,
    /// Status of the answer.
    pub status: u16,
}

/// What a request about Events wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventVerb {
    /// A new one.
    Create,
    /// Another count.
    Patch,
}

/// A request about Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRequest {
    /// What.
    pub verb: EventVerb,
    /// Status of the answer.
    pub status: u16,
}
