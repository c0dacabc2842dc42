//! What a version on disk should contain, and whether it does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Extent;
use crate::edge::value::Id;
use crate::output::{File, Grammar, Rendered};

/// Name of the manifest inside a version's directory.
pub(super) const NAME: &str = ".manifest.json";

/// Every file of one version with its checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// SHA-256 over everything below, but for `generation`; the version's name.
    pub digest: String,
    /// What the proxy tells when it runs this version.
    pub generation: Option<String>,
    /// How much it serves, for the shrink guard after a restart.
    pub extent: Option<Extent>,
    /// The file that the proxy is started with.
    pub main: String,
    /// By name.
    pub files: BTreeMap<String, Entry>,
}

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// Whether only its owner may read it.
    pub is_private: bool,
    /// What its content fits.
    grammar: String,
}

const GRAMMARS: [(Grammar, &str); 7] = [
    (Grammar::Haproxy, "haproxy"),
    (Grammar::Nginx, "nginx"),
    (Grammar::Map, "map"),
    (Grammar::Json, "json"),
    (Grammar::Keepalived, "keepalived"),
    (Grammar::Pem, "pem"),
    (Grammar::Plain, "plain"),
];

impl Manifest {
    /// The manifest of a rendered set.
    pub fn of(rendered: &Rendered, extent: Option<Extent>) -> Self {
        let files: BTreeMap<String, Entry> = rendered
            .files
            .iter()
            .map(|(name, file)| {
                let entry = Entry {
                    sha256: hexadecimal(digest(&SHA256, &file.content).as_ref()),
                    is_private: file.is_private,
                    grammar: GRAMMARS
                        .iter()
                        .find(|(grammar, _)| *grammar == file.grammar)
                        .map_or("", |(_, name)| name)
                        .to_owned(),
                };
                (name.clone(), entry)
            })
            .collect();
        Self {
            digest: digest_of(&rendered.main, &files),
            generation: rendered.generation.as_ref().map(ToString::to_string),
            extent,
            main: rendered.main.clone(),
            files,
        }
    }

    /// Reads a version and compares every file with its checksum.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the version's path.
    pub fn verified(directory: &Path) -> Result<Self, String> {
        let text = std::fs::read(directory.join(NAME))
            .map_err(|error| format!("the manifest cannot be read: {error}"))?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| format!("the manifest cannot be parsed: {error}"))?;
        if digest_of(&manifest.main, &manifest.files) != manifest.digest {
            return Err("the manifest's own checksum is wrong".to_owned());
        }
        for (name, entry) in &manifest.files {
            let content = std::fs::read(directory.join(name))
                .map_err(|error| format!("{name} cannot be read: {error}"))?;
            if hexadecimal(digest(&SHA256, &content).as_ref()) != entry.sha256 {
                return Err(format!("the checksum of {name} is wrong"));
            }
        }
        Ok(manifest)
    }

    /// The files again as they were rendered.
    pub(super) fn rendered(&self, directory: &Path) -> Option<Rendered> {
        let file = |(name, entry): (&String, &Entry)| {
            let content = std::fs::read(directory.join(name)).ok()?;
            let known = GRAMMARS.iter().find(|(_, name)| *name == entry.grammar);
            let file = File {
                content,
                grammar: known?.0,
                is_private: entry.is_private,
            };
            Some((name.clone(), Arc::new(file)))
        };
        let generation = match &self.generation {
            Some(generation) => Some(Id::generated(generation)?),
            None => None,
        };
        Some(Rendered {
            files: self.files.iter().map(file).collect::<Option<_>>()?,
            main: self.main.clone(),
            generation,
        })
    }
}

fn digest_of(main: &str, files: &BTreeMap<String, Entry>) -> String {
    let mut hash = Context::new(&SHA256);
    let mut part = |text: &str| {
        // The length keeps parts apart, whatever is in them.
        hash.update(&text.len().to_be_bytes());
        hash.update(text.as_bytes());
    };
    part(main);
    for (name, entry) in files {
        part(name);
        part(&entry.sha256);
        part(if entry.is_private { "private" } else { "" });
    }
    hexadecimal(hash.finish().as_ref())
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
