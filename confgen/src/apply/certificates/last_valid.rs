//! The certificate that a Secret held before it broke.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Event, Kind, Object, ObjectKey, Problem, Secret};

use crate::edge::Origin;
use crate::edge::certificate::with_key;

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The last certificate of each `kubernetes.io/tls` Secret that could be used. It stands between
/// the source and the cluster, so that no convention has to know of it.
#[derive(Default)]
pub struct LastValid {
    by_secret: BTreeMap<ObjectKey, Held>,
    kept: BTreeMap<ObjectKey, Problem>,
}

struct Held {
    chain: Arc<[u8]>,
    key: Arc<[u8]>,
    expires_unix_seconds: i64,
}

impl std::fmt::Debug for LastValid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing of a key.
        f.debug_struct("LastValid")
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

impl LastValid {
    /// The event as the cluster is to take it: a Secret whose certificate or key became useless
    /// goes on with those that it had.
    pub fn take(&mut self, event: Event, now_unix_seconds: i64) -> Event {
        match event {
            Event::Applied {
                kind,
                key,
                object: Some(object),
                problems,
            } => Event::Applied {
                kind,
                key,
                object: Some(self.object(object, now_unix_seconds)),
                problems,
            },
            Event::Replaced {
                kind: Kind::Secret,
                objects,
                problems,
            } => {
                let objects: Vec<Object> = objects
                    .into_iter()
                    .map(|object| self.object(object, now_unix_seconds))
                    .collect();
                let there: std::collections::BTreeSet<&ObjectKey> = objects
                    .iter()
                    .filter_map(secret)
                    .map(|it| &it.key)
                    .collect();
                // Who deletes a Secret means it.
                self.by_secret.retain(|key, _| there.contains(key));
                self.kept.retain(|key, _| there.contains(key));
                Event::Replaced {
                    kind: Kind::Secret,
                    objects,
                    problems,
                }
            }
            Event::Deleted {
                kind: Kind::Secret,
                key,
            } => {
                self.by_secret.remove(&key);
                self.kept.remove(&key);
                let kind = Kind::Secret;
                Event::Deleted { kind, key }
            }
            Event::Applied { .. }
            | Event::Replaced { .. }
            | Event::Deleted { .. }
            | Event::Source { .. } => event,
        }
    }

    /// Secrets that go on with what they held, and why.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.kept.values()
    }

    fn object(&mut self, object: Object, now: i64) -> Object {
        if let Object::Secret(secret) = object {
            Object::Secret(self.secret(secret, now))
        } else {
            object
        }
    }

    fn secret(&mut self, secret: Arc<Secret>, now: i64) -> Arc<Secret> {
        let held = self.by_secret.get(&secret.key);
        let (chain, key) = (secret.data.get(CHAIN), secret.data.get(KEY));
        if held.is_none() && (chain.is_none() || key.is_none()) {
            return secret;
        }
        let bytes = |part: Option<&Arc<[u8]>>| part.cloned().unwrap_or_else(|| Arc::from([]));
        let (chain, key) = (bytes(chain), bytes(key));
        let origin = Origin {
            kind: Kind::Secret,
            key: secret.key.clone(),
            field: "data".into(),
            created_unix_seconds: 0,
        };
        let is_valid = |expires: i64| expires > now;
        let why = match with_key(&chain, &key, origin) {
            Ok((_, found)) => {
                let expires = found.expires_unix_seconds;
                let is_worse = held
                    .is_some_and(|held| is_valid(held.expires_unix_seconds) && !is_valid(expires));
                if !is_worse {
                    self.kept.remove(&secret.key);
                    let expires_unix_seconds = expires;
                    let held = Held {
                        chain,
                        key,
                        expires_unix_seconds,
                    };
                    self.by_secret.insert(secret.key.clone(), held);
                    return secret;
                }
                format!("ended at {}", time(expires))
            }
            Err(why) => why.to_string(),
        };
        let Some(held) = held else {
            return secret;
        };
        let problem = Problem::new(
            Kind::Secret,
            secret.key.clone(),
            "data",
            format!("{CHAIN} with {KEY} {why}"),
            format!(
                "the certificate that it held before is served on, until {}",
                time(held.expires_unix_seconds)
            ),
        );
        let mut before = Secret::clone(&secret);
        before.data.insert(CHAIN.into(), Arc::clone(&held.chain));
        before.data.insert(KEY.into(), Arc::clone(&held.key));
        self.kept.insert(secret.key.clone(), problem);
        Arc::new(before)
    }
}

fn secret(object: &Object) -> Option<&Arc<Secret>> {
    if let Object::Secret(secret) = object {
        Some(secret)
    } else {
        None
    }
}

/// A time for people.
pub(super) fn time(unix_seconds: i64) -> String {
    let known = jiff::Timestamp::from_second(unix_seconds);
    known.map_or_else(|_| unix_seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Event, Kind, Object, ObjectKey, Secret};

    use super::{CHAIN, KEY, LastValid};

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
}
