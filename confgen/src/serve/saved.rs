//! A plan that was saved, and whether the world is still the one that it was made of.
//!
//! The cluster is compared by what the outputs are made of, so an object that changes nothing here
//! does not spoil a plan. Digests tell nothing of a key: they are of whole files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::apply::files::{Manifest, Store, Stored, hexadecimal};
use crate::config::Settings;
use crate::edge::EdgePlan;
use crate::targets::{Renderer, Target};

/// The form of the file. A form is never changed in place.
const VERSION: u32 = 1;

/// What `plan --save` writes and `apply --plan` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    version: u32,
    /// The build that made it: another one may compile and render otherwise.
    made_by: String,
    /// When, in seconds since 1970; for people.
    made_unix_seconds: i64,
    /// Digest of the configuration.
    configuration: String,
    /// Digest of what is made of the cluster.
    cluster: String,
    /// By name of the output.
    outputs: BTreeMap<String, SavedOutput>,
}

/// One output's part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SavedOutput {
    /// Digest of the live files; `nothing` or `corrupt` where there are none to start from.
    live: String,
    /// Digest of the files that are to be live.
    next: String,
    #[serde(flatten)]
    planned: Planned,
}

/// What would change, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// In a sentence.
    pub change: String,
    /// Lines that go and lines that come, by file.
    pub files: BTreeMap<String, (usize, usize)>,
}

/// Something is not what it was when the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Moved {
    /// The configuration file.
    #[error("the configuration changed since the plan was made; plan again")]
    Configuration,
    /// Objects, or a template that is rendered of them.
    #[error("the cluster or a template changed since the plan was made; plan again")]
    Cluster,
    /// Files on disk.
    #[error(
        "the files of output {output} changed since the plan was made: they were {planned}, and \
         are {found}; plan again"
    )]
    Files {
        /// The output.
        output: String,
        /// Digest in the plan.
        planned: String,
        /// Digest on disk.
        found: String,
    },
    /// The program.
    #[error("the plan was made by fairlead-confgen {0}, which may render otherwise; plan again")]
    Build(String),
}

impl SavedPlan {
    /// What is to be compared later. What would change is told by [`SavedPlan::note`].
    ///
    /// # Errors
    /// What a template refused.
    pub fn new(settings: &Settings, targets: &[Target], plan: &EdgePlan) -> Result<Self> {
        let mut outputs = BTreeMap::new();
        for target in targets {
            let saved = SavedOutput {
                live: live(&target.settings.store),
                next: next(&target.name, &target.renderer, plan)?,
                planned: Planned::default(),
            };
            outputs.insert(target.name.clone(), saved);
        }
        Ok(Self {
            version: VERSION,
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            made_unix_seconds: jiff::Timestamp::now().as_second(),
            configuration: of_configuration(settings),
            cluster: of_cluster(plan),
            outputs,
        })
    }

    /// Says what would change in an output.
    pub fn note(&mut self, output: &str, planned: Planned) {
        if let Some(saved) = self.outputs.get_mut(output) {
            saved.planned = planned;
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// Text that is no saved plan, or one of another form.
    pub fn parse(text: &str) -> Result<Self> {
        let version: serde_json::Value =
            serde_json::from_str(text).context("is no plan of `plan --save`")?;
        let version = version.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            bail!("is no plan of form {VERSION}; make it with `plan --save` of this build");
        }
        serde_json::from_str(text).context("is no plan of `plan --save`")
    }

    /// Compares what is known before the cluster is.
    ///
    /// # Errors
    /// [`Moved`].
    pub fn verify_ground(&self, settings: &Settings, targets: &[Target]) -> Result<(), Moved> {
        if self.made_by != env!("CARGO_PKG_VERSION") {
            return Err(Moved::Build(self.made_by.clone()));
        }
        let names: BTreeSet<&String> = targets.iter().map(|target| &target.name).collect();
        if self.configuration != of_configuration(settings)
            || !names.iter().copied().eq(self.outputs.keys())
        {
            return Err(Moved::Configuration);
        }
        for target in targets {
            let planned = self.outputs.get(&target.name).map(|saved| &saved.live);
            let found = live(&target.settings.store);
            if planned != Some(&found) {
                return Err(Moved::Files {
                    output: target.name.clone(),
                    planned: planned.cloned().unwrap_or_default(),
                    found,
                });
            }
        }
        Ok(())
    }

    /// Compares what the cluster comes to.
    ///
    /// # Errors
    /// [`Moved`], or what a template refused.
    pub fn verify_cluster(
        &self,
        plan: &EdgePlan,
        renderers: &BTreeMap<String, Arc<Renderer>>,
    ) -> Result<()> {
        if self.cluster != of_cluster(plan) {
            bail!(Moved::Cluster);
        }
        for (name, renderer) in renderers {
            let next = next(name, renderer, plan)?;
            if self
                .outputs
                .get(name)
                .is_none_or(|saved| saved.next != next)
            {
                bail!(Moved::Cluster);
            }
        }
        Ok(())
    }
}

/// Digest of the files that a plan comes to in an output.
fn next(output: &str, renderer: &Renderer, plan: &EdgePlan) -> Result<String> {
    let rendered = renderer.undated(plan).map_err(anyhow::Error::msg);
    let rendered = rendered.with_context(|| format!("output {output}"))?;
    Ok(Manifest::of(&rendered, None).digest)
}

fn live(store: &Store) -> String {
    match store.current() {
        Stored::Good(manifest) => manifest.digest,
        Stored::Nothing => "nothing".to_owned(),
        Stored::Corrupt(_) => "corrupt".to_owned(),
    }
}

fn of_cluster(plan: &EdgePlan) -> String {
    // Keys and other secrets show nothing of themselves; the files that have them are compared too.
    hashed(&format!("{plan:?}"))
}

fn of_configuration(settings: &Settings) -> String {
    hashed(&format!("{settings:?}"))
}

fn hashed(text: &str) -> String {
    hexadecimal(digest(&SHA256, text.as_bytes()).as_ref())
}
