//! Certificates and keys in the fields of a Secret.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::{Kind, ObjectKey, Secret};

use super::time;
use crate::edge::Origin;
use crate::edge::certificate::{self, Unusable};

/// Fields of a `kubernetes.io/tls` Secret.
pub(super) const CHAIN: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";

/// Certificates of one Secret, by their fields.
pub type Materials = BTreeMap<Arc<str>, Material>;

/// A certificate that could be used, with its key; authorities have none.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    pub(crate) chain: Arc<[u8]>,
    /// Field and content.
    pub(crate) key: Option<(Arc<str>, Arc<[u8]>)>,
    expires_unix_seconds: i64,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing of a key.
        f.debug_struct("Material")
            .field("expires_unix_seconds", &self.expires_unix_seconds)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// What was kept, if it can still be used.
    pub(crate) fn restored(
        chain: Arc<[u8]>,
        key: Option<(Arc<str>, Arc<[u8]>)>,
        now_unix_seconds: i64,
    ) -> Option<Self> {
        let content = key.as_ref().map(|(_, content)| content.as_ref());
        let expires_unix_seconds = expiry(&chain, content).ok()?;
        (expires_unix_seconds > now_unix_seconds).then_some(Self {
            chain,
            key,
            expires_unix_seconds,
        })
    }

    /// Why what a Secret holds now is no successor of this.
    pub(super) fn why_not(
        &self,
        field: &str,
        found: &Materials,
        secret: &Secret,
        is_routing: bool,
        now: i64,
    ) -> Option<String> {
        let successor = found
            .get(field)
            .filter(|it| it.key.is_some() || self.key.is_none());
        if let Some(next) = successor {
            let is_worse = self.expires_unix_seconds > now && next.expires_unix_seconds <= now;
            return is_worse.then(|| format!("ended at {}", time(next.expires_unix_seconds)));
        }
        let content = |field: &str| secret.data.get(field).map(AsRef::as_ref);
        let chain = content(field);
        let key = self.key.as_ref().map(|(field, _)| content(field));
        // Who removes a certificate with its key of a Secret that holds those of many hosts means it.
        if is_routing && chain.is_none() && key.flatten().is_none() {
            return None;
        }
        let key = key.map(Option::unwrap_or_default);
        let why = expiry(chain.unwrap_or_default(), key).err()?;
        Some(why.to_string())
    }

    /// Puts it in place of what a Secret holds.
    pub(super) fn put_into(&self, field: &Arc<str>, secret: &mut Secret) {
        secret
            .data
            .insert(Arc::clone(field), Arc::clone(&self.chain));
        if let Some((field, key)) = &self.key {
            secret.data.insert(Arc::clone(field), Arc::clone(key));
        }
    }

    /// Its fields, for people.
    pub(super) fn shown(&self, field: &str) -> String {
        match &self.key {
            Some((key, _)) => format!("{field} with {key}"),
            None => field.to_owned(),
        }
    }

    /// What goes on with it.
    pub(super) fn effect(&self) -> String {
        let what = match self.key {
            Some(_) => "the certificate that it held before is served on",
            None => "the authorities that it held before are asked on",
        };
        format!("{what}, until {}", time(self.expires_unix_seconds))
    }
}

fn expiry(chain: &[u8], key: Option<&[u8]>) -> Result<i64, Unusable> {
    let origin = Origin {
        kind: Kind::Secret,
        key: ObjectKey::cluster_scoped(""),
        field: "data".into(),
        created_unix_seconds: 0,
    };
    let checked = match key {
        Some(key) => certificate::with_key(chain, key, origin),
        None => certificate::authorities(chain, origin),
    };
    checked.map(|(_, certificate)| certificate.expires_unix_seconds)
}

/// The certificate of a TLS Secret.
pub(super) fn of_tls(secret: &Secret) -> Materials {
    let (Some(chain), Some(key)) = (secret.data.get(CHAIN), secret.data.get(KEY)) else {
        return Materials::new();
    };
    let found = expiry(chain, Some(key)).ok().map(|expires_unix_seconds| {
        let key = Some((KEY.into(), Arc::clone(key)));
        let chain = Arc::clone(chain);
        let material = Material {
            chain,
            key,
            expires_unix_seconds,
        };
        (CHAIN.into(), material)
    });
    found.into_iter().collect()
}

/// Every certificate of a Secret whose fields have any names, each with the key that is its own.
pub(super) fn of_any(secret: &Secret) -> Materials {
    let keys = secret.data.iter().filter_map(|(field, content)| {
        let public = certificate::public_of(content)?;
        Some((public, (Arc::clone(field), Arc::clone(content))))
    });
    let keys: BTreeMap<Vec<u8>, _> = keys.collect();
    let found = secret.data.iter().filter_map(|(field, chain)| {
        let (expires_unix_seconds, public) = certificate::leaf(chain).ok()?;
        let material = Material {
            chain: Arc::clone(chain),
            key: keys.get(&public).cloned(),
            expires_unix_seconds,
        };
        Some((Arc::clone(field), material))
    });
    found.collect()
}
