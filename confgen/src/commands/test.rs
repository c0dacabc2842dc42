//! `fairlead-confgen test DIR`: what a configuration must do, as files beside it.
//!
//! A `*.test.toml` names requests and what they must be answered with, and what rendered files must
//! be. Requests are asked of the plan, as `explain` does; no proxy runs and no file is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::model::print;
use super::settings::planned;
use super::test_outputs::{self, Expectation};
use crate::edge::{Answer, EdgePlan, Forward, Listen, Request, simulate};

const SUFFIX: &str = ".test.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// A *.test.toml, or a directory of them
    path: PathBuf,
}

/// One file of assertions. Its paths are relative to itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    /// Configuration file.
    config: PathBuf,
    /// Directory of manifests.
    manifests: PathBuf,
    /// What is asked, and what must come of it.
    #[serde(default)]
    request: Vec<Case>,
    /// What is rendered.
    #[serde(default)]
    output: Vec<Expectation>,
    /// How many objects' findings there must be; without it, any number.
    problems: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Where it comes in; without it, the first listener.
    listen: Option<SocketAddr>,
    host: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "nobody")]
    from: IpAddr,
    /// `closed`, a status, `redirect STATUS`, or `NAMESPACE/NAME` of the object whose rule decides.
    expect: Expected,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Expected {
    Status(u16),
    Text(String),
}

fn root() -> String {
    "/".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

fn nobody() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

impl Test {
    pub(super) async fn run(self) -> Result<()> {
        let mut files = Vec::new();
        if self.path.is_dir() {
            for entry in std::fs::read_dir(&self.path)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                if name.is_some_and(|name| name.ends_with(SUFFIX)) {
                    files.push(path);
                }
            }
            files.sort();
        } else {
            files.push(self.path.clone());
        }
        if files.is_empty() {
            bail!("{}: there is no *{SUFFIX} in it", self.path.display());
        }
        let (mut passed, mut failed) = (0, 0);
        for file in files {
            let outcomes = suite(&file)
                .await
                .with_context(|| file.display().to_string())?;
            let mut text = String::new();
            for (what, failure) in outcomes {
                let (word, why) = match &failure {
                    None => ("ok", String::new()),
                    Some(found) => ("FAILED", format!(": {found}")),
                };
                writeln!(text, "{word:<8}{}: {what}{why}", file.display())?;
                *(if failure.is_none() {
                    &mut passed
                } else {
                    &mut failed
                }) += 1;
            }
            print(&text)?;
        }
        if failed > 0 {
            bail!("{failed} of {} failed", passed + failed);
        }
        print(&format!("{passed} passed\n"))
    }
}

/// What was asked, and what was found where that is not what was expected.
async fn suite(file: &Path) -> Result<Vec<(String, Option<String>)>> {
    let text = std::fs::read_to_string(file)?;
    let suite: Suite = toml::from_str(&text)?;
    let beside = file.parent().unwrap_or(Path::new("."));
    let (settings, plan) =
        planned(&beside.join(&suite.config), &beside.join(&suite.manifests)).await?;
    let mut outcomes = Vec::new();
    for case in &suite.request {
        let found = case.answer(&plan);
        let wanted = case.expect.text();
        let what = format!("{} {}{} is {wanted}", case.method, case.host, case.path);
        outcomes.push((what, (found != wanted).then(|| format!("it is {found}"))));
    }
    if let Some(wanted) = suite.problems {
        let found: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        let failure = (found.len() != wanted).then(|| found.join("; "));
        outcomes.push((format!("{wanted} problems"), failure));
    }
    outcomes.extend(test_outputs::outcomes(
        &suite.output,
        &settings,
        &plan,
        beside,
    )?);
    Ok(outcomes)
}

impl Expected {
    fn text(&self) -> String {
        match self {
            Self::Status(status) => status.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Case {
    fn answer(&self, plan: &EdgePlan) -> String {
        let given = self.listen.map(|at| (at.ip(), at.port()));
        let mut listeners = plan.listeners.keys();
        let is_meant =
            |at: &&Listen| given.is_none_or(|given| given == (at.address, at.port.get()));
        let Some(listen) = listeners.find(is_meant) else {
            return "not listening".to_owned();
        };
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let query = query.split('&').filter_map(|part| part.split_once('='));
        let lower = |(name, value): (&String, &String)| (name.to_ascii_lowercase(), value.clone());
        let headers: Vec<(String, String)> = self.headers.iter().map(lower).collect();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let request = Request {
            listen: *listen,
            host: &self.host,
            path,
            method: &self.method,
            headers: &headers.collect::<Vec<_>>(),
            query: &query.collect::<Vec<_>>(),
            source: self.from,
        };
        let of_backend = |to: &Forward| {
            let first = to.to.first().and_then(|(id, _)| plan.backends.get(id));
            first.map_or("nobody".to_owned(), |backend| {
                backend.origin.key.to_string()
            })
        };
        match simulate(plan, &request) {
            (Answer::NotListening, _) => "not listening".to_owned(),
            (Answer::Closed, _) => "closed".to_owned(),
            (Answer::Status(status), _) => status.to_string(),
            (Answer::Redirected(redirect), _) => format!("redirect {}", redirect.status),
            (Answer::Forwarded(_), Some(rule)) => rule.origin.key.to_string(),
            (Answer::Forwarded(to) | Answer::PassedThrough(to), _) => of_backend(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::suite;

    fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> = paths
            .filter(|path| path.to_string_lossy().ends_with(end))
            .collect();
        paths.sort();
        paths
    }

    #[tokio::test]
    async fn every_example_does_what_its_assertions_say() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/edge");
        let suites = files(&examples, super::SUFFIX);
        let mut tested: Vec<PathBuf> = Vec::new();
        for file in &suites {
            let text = fs::read_to_string(file).unwrap();
            let of: super::Suite = toml::from_str(&text).unwrap();
            tested.push(examples.join(of.config));
            let outcomes = suite(file).await.unwrap();
            assert!(!outcomes.is_empty(), "{}", file.display());
            for (what, failure) in outcomes {
                assert_eq!(failure, None, "{}: {what}", file.display());
            }
        }
        let configurations = files(&examples, ".toml");
        let untested = configurations
            .iter()
            .filter(|path| !suites.contains(path) && !tested.contains(path));
        assert_eq!(untested.collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    }
}
