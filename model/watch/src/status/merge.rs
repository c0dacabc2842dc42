//! What an object's status becomes: ours put in, everybody else's left, times kept. Pure.

use model::{Condition, ListenerStatus, ObjectStatus, ParentRef, Status};
use serde_json::{Value, json};

const GROUP: &str = "gateway.networking.k8s.io";

/// The status to write over `there` at `now` (RFC 3339); `None` where it says it already.
pub(super) fn merged(there: &Value, wanted: &ObjectStatus, now: &str) -> Option<Value> {
    let mut status = there.clone();
    if !status.is_object() {
        status = json!({});
    }
    match &wanted.status {
        Status::Class(conditions) => {
            status["conditions"] = merge_conditions(&there["conditions"], conditions, now);
        }
        Status::Gateway {
            addresses,
            conditions,
            listeners,
        } => {
            let addresses = addresses
                .iter()
                .map(|address| json!({"type": "IPAddress", "value": address.to_string()}));
            status["addresses"] = addresses.collect();
            status["conditions"] = merge_conditions(&there["conditions"], conditions, now);
            let listeners = listeners
                .iter()
                .map(|of| listener(&there["listeners"], of, now));
            status["listeners"] = listeners.collect();
        }
        Status::Route {
            controller,
            parents,
        } => {
            let known: Vec<&Value> = elements(&there["parents"]).collect();
            let is_ours = |entry: &&Value| entry["controllerName"] == **controller;
            let others = known.iter().filter(|entry| !is_ours(entry));
            let ours = parents.iter().map(|(parent, conditions)| {
                let reference = parent_ref(parent);
                let mut before = known.iter().filter(|entry| is_ours(entry));
                // API servers fill in defaults, which are the model's as well.
                let before = before.find(|entry| is_same_parent(&entry["parentRef"], &reference));
                let before = before.map_or(&Value::Null, |entry| &entry["conditions"]);
                json!({
                    "parentRef": reference,
                    "controllerName": controller,
                    "conditions": merge_conditions(before, conditions, now),
                })
            });
            let parents: Vec<Value> = others.map(|entry| (*entry).clone()).chain(ours).collect();
            if parents.is_empty() && known.is_empty() {
                return None;
            }
            status["parents"] = parents.into();
        }
        Status::LoadBalancer(addresses) => {
            let addresses = addresses
                .iter()
                .map(|address| json!({"ip": address.to_string()}));
            status["loadBalancer"] = json!({"ingress": addresses.collect::<Value>()});
        }
    }
    (status != *there).then_some(status)
}

fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Ours in place of what they were; conditions of other types stay. The time is that of the last
/// change of a condition's status, not of its words.
fn merge_conditions(there: &Value, wanted: &[Condition], now: &str) -> Value {
    let is_ours = |entry: &&Value| wanted.iter().any(|of| entry["type"] == of.condition_type);
    let others = elements(there).filter(|entry| !is_ours(entry)).cloned();
    // A condition that exists only while it holds, and does no longer.
    let others = others.filter(|entry| entry["type"] != "PartiallyInvalid");
    let ours = wanted.iter().map(|condition| {
        let status = if condition.is_true { "True" } else { "False" };
        let before = elements(there)
            .find(|entry| entry["type"] == condition.condition_type && entry["status"] == status);
        let since = before.and_then(|entry| entry["lastTransitionTime"].as_str());
        json!({
            "type": condition.condition_type,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": condition.generation,
            "lastTransitionTime": since.unwrap_or(now),
        })
    });
    let mut conditions: Vec<Value> = ours.chain(others).collect();
    // In the order in which they are, so that an order alone is no difference.
    conditions.sort_by_key(|condition| {
        let mut known = elements(there);
        let place = known.position(|entry| entry["type"] == condition["type"]);
        place.unwrap_or(usize::MAX)
    });
    conditions.into()
}

fn listener(there: &Value, of: &ListenerStatus, now: &str) -> Value {
    let before = elements(there).find(|entry| entry["name"] == *of.name);
    let conditions = before.map_or(&Value::Null, |entry| &entry["conditions"]);
    let kinds = of
        .kinds
        .iter()
        .map(|kind| json!({"group": GROUP, "kind": kind}));
    json!({
        "name": of.name,
        "supportedKinds": kinds.collect::<Value>(),
        "attachedRoutes": of.attached,
        "conditions": merge_conditions(conditions, &of.conditions, now),
    })
}

fn parent_ref(parent: &ParentRef) -> Value {
    let target = &parent.target;
    let mut reference = json!({
        "group": target.group,
        "kind": target.kind,
        "name": target.name,
    });
    if let Some(namespace) = &target.namespace {
        reference["namespace"] = json!(namespace);
    }
    if let Some(section) = &parent.section_name {
        reference["sectionName"] = json!(section);
    }
    if let Some(port) = parent.port {
        reference["port"] = json!(port);
    }
    reference
}

fn is_same_parent(a: &Value, b: &Value) -> bool {
    ["group", "kind", "namespace", "name", "sectionName", "port"]
        .iter()
        .all(|field| a[*field] == b[*field])
}

#[cfg(test)]
mod tests {
    use model::{Kind, ObjectKey, ObjectRef};

    use super::*;

    fn condition(is_true: bool, reason: &'static str) -> Condition {
        Condition {
            condition_type: "Accepted",
            is_true,
            reason,
            message: "".into(),
            generation: 2,
        }
    }

    fn object(kind: Kind, status: Status) -> ObjectStatus {
        ObjectStatus {
            kind,
            key: ObjectKey::new("a", "b"),
            status,
        }
    }

    #[test]
    fn what_is_said_already_is_not_said_again_and_times_are_of_changes() {
        let wanted = |is_true, reason| {
            let conditions = vec![condition(is_true, reason)];
            object(Kind::GatewayClass, Status::Class(conditions))
        };
        let first = merged(&Value::Null, &wanted(true, "Accepted"), "t1").unwrap();
        assert_eq!(first["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(merged(&first, &wanted(true, "Accepted"), "t2"), None);
        let reworded = merged(&first, &wanted(true, "Other"), "t2").unwrap();
        assert_eq!(reworded["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(reworded["conditions"][0]["reason"], "Other");
        let turned = merged(&reworded, &wanted(false, "Other"), "t3").unwrap();
        assert_eq!(turned["conditions"][0]["lastTransitionTime"], "t3");
    }

    #[test]
    fn conditions_and_parents_of_others_stay() {
        let mut there = json!({"conditions": [{"type": "SupportedVersion", "status": "True"}]});
        let wanted = object(
            Kind::GatewayClass,
            Status::Class(vec![condition(true, "Accepted")]),
        );
        let merged_class = merged(&there, &wanted, "t1").unwrap();
        assert_eq!(merged_class["conditions"][0]["type"], "SupportedVersion");
        assert_eq!(merged_class["conditions"][1]["type"], "Accepted");
        assert_eq!(merged(&merged_class, &wanted, "t2"), None);
        let other =
            json!({"parentRef": {"name": "x"}, "controllerName": "other.io/x", "conditions": []});
        there = json!({"parents": [other]});
        let route = |parents| {
            object(
                Kind::HttpRoute,
                Status::Route {
                    controller: "ours.io/x".into(),
                    parents,
                },
            )
        };
        let parent = ParentRef {
            target: ObjectRef {
                group: GROUP.into(),
                kind: "Gateway".into(),
                namespace: None,
                name: "gw".into(),
            },
            section_name: Some("http".into()),
            port: None,
        };
        let attached = route(vec![(parent, vec![condition(true, "Accepted")])]);
        let told = merged(&there, &attached, "t1").unwrap();
        assert_eq!(told["parents"][0], other);
        assert_eq!(told["parents"][1]["parentRef"]["sectionName"], "http");
        assert_eq!(merged(&told, &attached, "t2"), None);
        // No longer attached: ours goes.
        let gone = merged(&told, &route(Vec::new()), "t3").unwrap();
        assert_eq!(gone["parents"], json!([other]));
        assert_eq!(merged(&json!({}), &route(Vec::new()), "t3"), None);
    }
}
