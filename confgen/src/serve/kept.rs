//! The last valid certificates on disk, so that a Secret which breaks while nothing runs does not
//! take its hosts off TLS.
//!
//! One file a Secret, read by its owner alone, in a directory of its own. A file is replaced by a
//! rename and not synced: there may be ten thousand at the first start, and one that a crash of the
//! machine tears is told from a whole one when it is read.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use model::ObjectKey;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::apply::certificates::{Material, Materials};
use crate::render::sha256_hex;

/// Changes that wait for the disk; what finds no room goes with the next.
pub(super) const WAITING: usize = 4;

/// What is to be held of Secrets from now on.
pub(super) type Changed = BTreeMap<ObjectKey, Materials>;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    directory: PathBuf,
}

/// A file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    namespace: String,
    name: String,
    certificates: Vec<Field>,
}

/// A certificate, its contents in base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    field: String,
    chain: String,
    key: Option<(String, String)>,
}

impl Kept {
    /// Makes the directory where it is not there.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// What is there and can still be used. What cannot is told and left out.
    pub(super) fn load(&self, now_unix_seconds: i64) -> Changed {
        let mut held = Changed::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) => {
                let directory = self.directory.display().to_string();
                tracing::warn!(%error, directory, "kept certificates cannot be read");
                return held;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|end| end == "json") {
                match read(&path, now_unix_seconds) {
                    Ok((key, materials)) => drop(held.insert(key, materials)),
                    Err(error) => {
                        let file = path.display().to_string();
                        let error = format!("{error:#}");
                        tracing::warn!(file, error, "a kept certificate is left out");
                    }
                }
            }
        }
        held
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        // Names of objects are no names of files, and two may differ in nothing but a separator.
        let name = sha256_hex(key.to_string().as_bytes());
        self.directory.join(format!("{name}.json"))
    }

    /// Keeps certificates of a Secret; none forgets it.
    fn save(&self, key: &ObjectKey, materials: &Materials) -> io::Result<()> {
        let path = self.path(key);
        if materials.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let field = |(field, material): (&Arc<str>, &Material)| Field {
            field: field.to_string(),
            chain: BASE64_STANDARD.encode(&material.chain),
            key: material
                .key
                .as_ref()
                .map(|(field, key)| (field.to_string(), BASE64_STANDARD.encode(key))),
        };
        let saved = Saved {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            certificates: materials.iter().map(field).collect(),
        };
        let beside = path.with_extension("tmp");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&serde_json::to_vec(&saved)?)?;
        fs::rename(&beside, &path)
    }
}

fn read(path: &Path, now: i64) -> Result<(ObjectKey, Materials)> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("its mode is {mode:o}: others than its owner may have written it");
    }
    let saved: Saved = serde_json::from_slice(&fs::read(path)?).context("it is torn")?;
    let bytes = |text: &str| -> Result<Arc<[u8]>> { Ok(BASE64_STANDARD.decode(text)?.into()) };
    let mut materials = Materials::new();
    for Field { field, chain, key } in &saved.certificates {
        let key = match key {
            Some((field, key)) => Some((field.as_str().into(), bytes(key)?)),
            None => None,
        };
        let restored = Material::restored(bytes(chain)?, key, now);
        materials.extend(restored.map(|material| (field.as_str().into(), material)));
    }
    if materials.is_empty() {
        bail!("nothing in it can still be used");
    }
    Ok((ObjectKey::new(&saved.namespace, &saved.name), materials))
}

/// Keeps what comes in until `cancel`, and then what came before.
pub(super) async fn follow(
    kept: Kept,
    mut changes: mpsc::Receiver<Changed>,
    cancel: CancellationToken,
) -> Result<()> {
    loop {
        let changed = tokio::select! {
            biased;
            changed = changes.recv() => changed,
            () = cancel.cancelled() => None,
        };
        let Some(changed) = changed else {
            return Ok(());
        };
        let kept = kept.clone();
        let saved = tokio::task::spawn_blocking(move || {
            for (key, materials) in &changed {
                if let Err(error) = kept.save(key, materials) {
                    let directory = kept.directory.display().to_string();
                    tracing::warn!(%error, secret = %key, directory, "a certificate is not kept");
                }
            }
        });
        saved
            .await
            .context("keeping certificates panicked; this is a bug")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::certificates::LastValid;
    use model::{Event, Kind, Object, Secret};

    const NOW: i64 = 1_577_836_800;

    fn changed() -> Changed {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let fields = [("tls.crt", chain), ("tls.key", key)];
        let fields = fields.map(|(name, text)| (name.into(), text.as_bytes().into()));
        let secret = Secret {
            key: ObjectKey::new("shop", "tls"),
            secret_type: "kubernetes.io/tls".into(),
            data: fields.into(),
        };
        let mut last = LastValid::default();
        let event = Event::Applied {
            kind: Kind::Secret,
            key: secret.key.clone(),
            object: Some(Object::Secret(Arc::new(secret))),
            problems: Vec::new(),
        };
        last.take(event, NOW);
        last.take_changed()
    }

    #[test]
    fn what_is_kept_is_read_again_where_nobody_else_may_and_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::open(&directory.path().join("last-valid")).unwrap();
        let changed = changed();
        let (key, materials) = changed.iter().next().unwrap();
        kept.save(key, materials).unwrap();
        let path = kept.path(key);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&kept.directory)), (0o600, 0o700));
        assert_eq!(kept.load(NOW), changed);
        // After its end it is of no use.
        assert_eq!(kept.load(i64::MAX), Changed::new());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(kept.load(NOW), Changed::new());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(kept.load(NOW), Changed::new());
        kept.save(key, materials).unwrap();
        kept.save(key, &Materials::new()).unwrap();
        assert!(!path.exists());
        kept.save(key, &Materials::new()).unwrap();
    }
}
