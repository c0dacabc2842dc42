//! The cluster as last heard, and what changed since it was last read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::{EndpointSlice, Event, Kind, KindSet, Node, Object, ObjectKey, Problem, Service, SourceState};

/// Keys of the objects that changed, by kind.
pub type ChangeSet = BTreeMap<Kind, BTreeSet<ObjectKey>>;

/// The watched cluster. Cloning is cheap (the maps are persistent), so a clone is a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    services: RedBlackTreeMapSync<ObjectKey, Arc<Service>>,
    slices: RedBlackTreeMapSync<ObjectKey, Arc<EndpointSlice>>,
    nodes: RedBlackTreeMapSync<ObjectKey, Arc<Node>>,
}
