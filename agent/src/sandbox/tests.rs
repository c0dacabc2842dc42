//! Announcements over values.

use model::k8s::reduce;
use serde_json::{Value, json};

use super::*;

fn pod(addresses: &[&str], more: &Value) -> Event {
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let mut manifest = json!({"metadata": {"namespace": "shop", "name": "web"},
        "spec": {"nodeName": "node1"}, "status": {"podIPs": ips}});
    for (field, value) in more.as_object().unwrap() {
        manifest["spec"][field] = value.clone();
    }
    let reduced = reduce(Kind::Pod, &manifest);
    Event::Applied {
        kind: Kind::Pod,
        key: reduced.key,
        object: reduced.object,
        problems: reduced.problems,
    }
}

fn key() -> ObjectKey {
    ObjectKey::new("shop", "web")
}

fn given() -> [IpAddr; 1] {
    ["10.0.0.5".parse().unwrap()]
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    let pod = cluster.pod(&key());
    let addresses = pod.iter().flat_map(|pod| &pod.addresses);
    addresses.map(ToString::to_string).collect()
}

fn announced(event: Event) -> (Announced, Cluster, Result<(), Reason>) {
    let (mut announced, mut cluster) = (Announced::default(), Cluster::default());
    cluster.apply(event);
    let answer = announced.announce(&mut cluster, "node1", &key(), &given());
    (announced, cluster, answer.map_err(|refusal| refusal.reason))
}

#[test]
fn a_pod_has_what_it_was_given_until_its_status_says_more() {
    let (mut known, mut cluster, answer) = announced(pod(&[], &json!({})));
    assert_eq!(
        (answer, addresses(&cluster)),
        (Ok(()), vec!["10.0.0.5".to_owned()])
    );
    // Another change of the Pod, and a re-list, whose status still says nothing.
    cluster.apply(known.fill(pod(&[], &json!({"hostname": "x"}))));
    assert_eq!(addresses(&cluster), ["10.0.0.5"]);
    let Event::Applied { object, .. } = pod(&[], &json!({})) else {
        panic!("as made above");
    };
    cluster.apply(known.fill(Event::Replaced {
        kind: Kind::Pod,
        objects: object.into_iter().collect(),
        problems: Vec::new(),
    }));
    assert_eq!(addresses(&cluster), ["10.0.0.5"]);
    cluster.apply(known.fill(pod(&["10.0.0.5", "fd00::5"], &json!({}))));
    assert_eq!(addresses(&cluster), ["10.0.0.5", "fd00::5"]);
    assert!(known.pods.is_empty());
}

#[test]
fn what_was_given_goes_with_the_pod() {
    let (mut known, mut cluster, _) = announced(pod(&[], &json!({})));
    let deleted = Event::Deleted {
        kind: Kind::Pod,
        key: key(),
    };
    cluster.apply(known.fill(deleted));
    cluster.apply(known.fill(pod(&[], &json!({}))));
    assert!(addresses(&cluster).is_empty());
}

#[test]
fn a_pod_that_is_not_the_one_that_is_set_up_is_refused() {
    let refused = |event| announced(event).2;
    let with = |more: Value| pod(&[], &more);
    assert_eq!(
        refused(with(json!({"hostNetwork": true}))),
        Err(Reason::NotAPodOfThisNode)
    );
    assert_eq!(
        refused(with(json!({"nodeName": "node2"}))),
        Err(Reason::NotAPodOfThisNode)
    );
    assert_eq!(
        refused(pod(&["10.0.0.4"], &json!({}))),
        Err(Reason::OtherAddresses)
    );
    assert_eq!(refused(pod(&["10.0.0.5", "fd00::5"], &json!({}))), Ok(()));
    let deleted = Event::Deleted {
        kind: Kind::Pod,
        key: key(),
    };
    assert_eq!(refused(deleted), Err(Reason::UnknownPod));
}
