//! Small plans for tests.

use std::sync::Arc;

use model::{Kind, ObjectKey};

use crate::edge::value::Id;
use crate::edge::{
    Backend, BackendProtocol, Balance, EdgePlan, Origin, Server, ServerState, Timeouts,
};

pub(crate) fn key(number: usize) -> ObjectKey {
    ObjectKey::new("shop", &format!("s{number}"))
}

/// `count` Services with a backend of two servers each.
pub(crate) fn plan(count: usize) -> EdgePlan {
    let server = |backend: usize, number: usize| Server {
        name: Id::of(&[&format!("{backend}-{number}")]),
        address: [10, 0, 0, 1].into(),
        port: 8080.try_into().unwrap(),
        weight: 1,
        state: ServerState::Active,
        target: None,
    };
    let backend = |number: usize| {
        let id = Id::of(&[&number.to_string()]);
        let backend = Backend {
            id: id.clone(),
            protocol: BackendProtocol::Http,
            balance: Balance::RoundRobin,
            servers: (0..2).map(|index| server(number, index)).collect(),
            health: None,
            timeouts: Timeouts::default(),
            sticky: None,
            sends_proxy_protocol: false,
            origin: Origin {
                created_unix_seconds: 0,
                key: key(number),
                kind: Kind::Service,
                field: "spec".into(),
            },
        };
        (id, Arc::new(backend))
    };
    EdgePlan {
        backends: (0..count).map(backend).collect(),
        ..EdgePlan::default()
    }
}
