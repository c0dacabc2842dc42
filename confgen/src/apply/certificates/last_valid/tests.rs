use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Event, Kind, Object, ObjectKey, Secret};

use super::LastValid;
use super::material::{CHAIN, KEY};

struct Pair {
    chain: String,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    Pair {
        chain: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

fn ended() -> Pair {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wanted = rcgen::CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    wanted.not_before = rcgen::date_time_ymd(2001, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(2002, 1, 1);
    Pair {
        chain: wanted.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn secret(chain: &str, key: &str) -> Object {
    let data = [(CHAIN, chain), (KEY, key), ("ca.crt", "ca")];
    let data = data.map(|(name, text)| (name.into(), text.as_bytes().into()));
    Object::Secret(Arc::new(Secret {
        key: ObjectKey::new("shop", "tls"),
        secret_type: "kubernetes.io/tls".into(),
        data: data.into(),
    }))
}

/// 2020: certificates of `pair` end in 4096.
const NOW: i64 = 1_577_836_800;

#[track_caller]
fn takes(last: &mut LastValid, given: Object, expected: &Object) -> String {
    let (kind, key) = (Kind::Secret, ObjectKey::new("shop", "tls"));
    let event = Event::Applied {
        kind,
        key,
        object: Some(given),
        problems: Vec::new(),
    };
    let Event::Applied { object, .. } = last.take(event, NOW) else {
        panic!("another event");
    };
    assert!(object.as_ref() == Some(expected));
    let problems = last.problems().map(ToString::to_string);
    problems.collect::<Vec<_>>().concat()
}

#[test]
fn a_secret_that_breaks_goes_on_with_what_it_held() {
    let (good, other, ended) = (pair(), pair(), ended());
    let held = secret(&good.chain, &good.key);
    let mut last = LastValid::default();
    // A Secret that never was good is what it is.
    let broken = secret("no certificate", &good.key);
    assert_eq!(takes(&mut last, broken.clone(), &broken), "");
    assert_eq!(takes(&mut last, held.clone(), &held), "");
    for (given, why) in [
        (broken, "holds no certificate in PEM"),
        (
            secret(&good.chain, &other.key),
            "holds a key that is not the certificate's",
        ),
        (secret(&good.chain, ""), "holds no private key"),
        (secret(&ended.chain, &ended.key), "ended at 2002-01-01"),
    ] {
        let problem = takes(&mut last, given, &held);
        assert!(
            problem.contains("Secret shop/tls: data tls.crt"),
            "{problem}"
        );
        assert!(problem.contains(why), "{problem}");
        assert!(!problem.contains("BEGIN") && !format!("{last:?}").contains("BEGIN"));
    }
    let next = secret(&other.chain, &other.key);
    assert_eq!(takes(&mut last, next.clone(), &next), "");
}

#[test]
fn a_secret_that_is_gone_is_forgotten() {
    let good = pair();
    let held = secret(&good.chain, &good.key);
    let broken = secret("", &good.key);
    let key = ObjectKey::new("shop", "tls");
    let kind = Kind::Secret;
    for event in [
        Event::Deleted { kind, key },
        Event::Replaced {
            kind,
            objects: Vec::new(),
            problems: Vec::new(),
        },
    ] {
        let mut last = LastValid::default();
        takes(&mut last, held.clone(), &held);
        assert!(!takes(&mut last, broken.clone(), &held).is_empty());
        last.take(event, NOW);
        assert_eq!(takes(&mut last, broken.clone(), &broken), "");
    }
}

#[test]
fn what_is_held_goes_over_to_the_next_run() {
    let good = pair();
    let held = secret(&good.chain, &good.key);
    let mut last = LastValid::default();
    takes(&mut last, held.clone(), &held);
    let saved = last.take_changed();
    assert_eq!(saved.len(), 1);
    assert_eq!(last.take_changed(), BTreeMap::new());
    let mut next = LastValid::new([], saved);
    let broken = secret("", &good.key);
    assert!(takes(&mut next, broken, &held).contains("served on"));
    assert_eq!(next.take_changed(), BTreeMap::new(), "nothing else is held");
    let key = ObjectKey::new("shop", "tls");
    next.take(
        Event::Deleted {
            kind: Kind::Secret,
            key: key.clone(),
        },
        NOW,
    );
    let forgotten = next.take_changed();
    assert!(forgotten[&key].is_empty(), "{forgotten:?}");
}

#[test]
fn a_routing_secret_keeps_each_of_its_certificates() {
    let (first, second, other) = (pair(), pair(), pair());
    let object = |fields: &[(&str, &str)]| {
        let data = fields.iter();
        let data = data.map(|(name, text)| ((*name).into(), text.as_bytes().into()));
        Object::Secret(Arc::new(Secret {
            key: ObjectKey::new("shop", "routing"),
            secret_type: "Opaque".into(),
            data: data.collect(),
        }))
    };
    let whole = [
        ("a.crt", first.chain.as_str()),
        ("a.key", &first.key),
        ("api-key", "old"),
        ("b.crt", &second.chain),
        ("b.key", &second.key),
        ("clients", &other.chain),
    ];
    let with = |changes: &[(&str, &str)]| {
        let mut fields: BTreeMap<&str, &str> = whole.into();
        fields.extend(changes.iter().copied());
        fields.retain(|_, text| *text != "gone");
        object(&fields.into_iter().collect::<Vec<_>>())
    };
    for (given, expected, told) in [
        // One breaks; the other and the key are as they are.
        (
            with(&[("a.crt", "broken"), ("api-key", "new")]),
            with(&[("api-key", "new")]),
            "a.crt with a.key holds no certificate",
        ),
        (
            with(&[("b.key", &other.key)]),
            with(&[]),
            "b.crt with b.key holds a key that is not the certificate's",
        ),
        (with(&[("b.key", "gone")]), with(&[]), "b.crt with b.key"),
        (
            with(&[("clients", "broken")]),
            with(&[]),
            "clients holds no",
        ),
        // What is changed or taken away as a whole is meant; a missing API key opens nothing.
        (
            with(&[("b.crt", "gone"), ("b.key", "gone")]),
            with(&[("b.crt", "gone"), ("b.key", "gone")]),
            "",
        ),
        (
            with(&[("clients", "gone"), ("api-key", "gone")]),
            with(&[("clients", "gone"), ("api-key", "gone")]),
            "",
        ),
        (
            with(&[("a.crt", &other.chain), ("a.key", &other.key)]),
            with(&[("a.crt", &other.chain), ("a.key", &other.key)]),
            "",
        ),
    ] {
        let mut last = LastValid::new(["routing".into()], BTreeMap::new());
        takes(&mut last, with(&[]), &with(&[]));
        let problem = takes(&mut last, given, &expected);
        assert_eq!(problem.is_empty(), told.is_empty(), "{problem}");
        assert!(problem.contains(told), "{problem}");
        assert!(!format!("{last:?}").contains("BEGIN"));
    }
}
