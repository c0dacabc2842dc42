//! What objects are told about themselves: their `status`, as far as it is ours to say.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{Kind, ObjectKey, ParentRef};

/// The status of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: ObjectKey,
    /// What it says.
    pub status: Status,
}

/// A status by what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Of a GatewayClass.
    Class(Vec<Condition>),
    /// Of a Gateway.
    Gateway {
        /// `addresses`.
        addresses: Vec<IpAddr>,
        /// `conditions`.
        conditions: Vec<Condition>,
        /// `listeners`.
        listeners: Vec<ListenerStatus>,
    },
    /// Of a route. Other controllers' parents stay.
    Route {
        /// `controllerName` of ours.
        controller: Arc<str>,
        /// `parents` of ours.
        parents: Vec<(ParentRef, Vec<Condition>)>,
    },
    /// Of an Ingress: `loadBalancer`.
    LoadBalancer(Vec<IpAddr>),
}

/// Status of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// `name`.
    pub name: Arc<str>,
    /// `supportedKinds`, all of Gateway API's group.
    pub kinds: Vec<&'static str>,
    /// `attachedRoutes`.
    pub attached: usize,
    /// `conditions`.
    pub conditions: Vec<Condition>,
}

/// One condition, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`.
    pub condition_type: &'static str,
    /// `status`.
    pub is_true: bool,
    /// `reason`: one word.
    pub reason: &'static str,
    /// `message`, for people.
    pub message: Cow<'static, str>,
    /// `observedGeneration`.
    pub generation: i64,
}
