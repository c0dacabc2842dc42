//! The operator's list of networks that know pods by their own addresses: a flag, and a file that may
//! change while the agent runs.
//!
//! One network or address a line; what follows a `#` is for people. A file of which a line makes no
//! sense changes nothing: the list of before stays, and a problem names the line.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::desired::egress::{EgressOptions, Fault};

/// The file is read this often. It is small, and a mounted ConfigMap changes by a link to a directory
/// that is renamed, of which a watch of the file hears nothing.
const PERIOD: Duration = Duration::from_secs(1);

/// Most networks in the file; one more makes the file make no sense. No list that people keep is as
/// long, and it leaves room for the nodes' networks.
const MOST: usize = 10_000;

/// Bytes that are read of the file: so many lines, of the longest networks.
const LONGEST: u64 = 1 << 20;

const FLAG: &str = "--egress-excluded-cidrs-file";

/// What was decided when the agent started.
#[derive(Clone, Debug)]
pub struct Given {
    /// `--cluster-cidr`.
    pub cluster_cidrs: Vec<IpNet>,
    /// `--egress-excluded-cidrs`.
    pub excluded: Vec<IpNet>,
    /// `--egress-excluded-cidrs-file`.
    pub file: Option<PathBuf>,
}

impl Given {
    /// What is in force at the start.
    pub fn read(&self) -> Arc<EgressOptions> {
        let (from_file, faults) = match &self.file {
            None => (BTreeSet::new(), Vec::new()),
            Some(file) => next(file, content(file), None),
        };
        self.options(&from_file, faults)
    }

    fn options(&self, from_file: &BTreeSet<IpNet>, faults: Vec<Fault>) -> Arc<EgressOptions> {
        Arc::new(EgressOptions {
            cluster_cidrs: self.cluster_cidrs.clone(),
            excluded: self.excluded.iter().chain(from_file).copied().collect(),
            faults,
        })
    }

    /// Publishes what is in force whenever the file changes, until `cancel`.
    pub async fn follow(
        self,
        options: watch::Sender<Option<Arc<EgressOptions>>>,
        cancel: CancellationToken,
    ) {
        let Some(file) = &self.file else {
            return cancel.cancelled().await;
        };
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: Option<BTreeSet<IpNet>> = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let place = file.clone();
            // A file may be on a filesystem that does not answer.
            let Ok(read) = tokio::task::spawn_blocking(move || content(&place)).await else {
                continue;
            };
            let (list, faults) = next(file, read, before.as_ref());
            let now = self.options(&list, faults);
            before = Some(list);
            options.send_if_modified(|known| {
                let differs = known.as_ref() != Some(&now);
                if differs {
                    tracing::info!(file = %file.display(), networks = now.excluded.len(), faults = now.faults.len(), "networks excluded from masquerade");
                    *known = Some(now);
                }
                differs
            });
        }
    }
}

fn content(file: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(file)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    if read as u64 > LONGEST {
        return Err(io::Error::other(format!("longer than {LONGEST} bytes")));
    }
    Ok(text)
}

/// The list in force after a read of the file, and what is wrong with it. Without a list of before,
/// what makes sense of the file is in force.
fn next(
    file: &Path,
    read: io::Result<String>,
    before: Option<&BTreeSet<IpNet>>,
) -> (BTreeSet<IpNet>, Vec<Fault>) {
    let (good, wrong) = match read {
        Ok(text) => parse(&text),
        Err(error) => (
            BTreeSet::new(),
            vec![format!(
                "cannot be read: {error}; write it, or leave the flag out"
            )],
        ),
    };
    if wrong.is_empty() {
        return (good, Vec::new());
    }
    let (list, effect) = match before {
        Some(before) => (before.clone(), "the list of before stays in force"),
        None => (
            good,
            "there is no list of before: the other lines are in force",
        ),
    };
    let place = format!("{FLAG} {}", file.display());
    let fault = |what| Fault {
        place: place.clone(),
        what,
        effect: effect.to_owned(),
    };
    (list, wrong.into_iter().map(fault).collect())
}

/// The networks of a file, and what is wrong with its lines: the first few of them.
fn parse(text: &str) -> (BTreeSet<IpNet>, Vec<String>) {
    /// Enough to see what sort of file it is.
    const SHOWN: usize = 5;
    let (mut good, mut wrong) = (BTreeSet::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or(line).trim();
        if content.is_empty() {
            continue;
        }
        let network = content
            .parse()
            .or_else(|_| content.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => _ = good.insert(network.trunc()),
            Err(_) if wrong.len() < SHOWN => wrong.push(format!(
                "line {}: `{content}` is neither a network, as in 192.0.2.0/24, nor an address",
                index + 1
            )),
            Err(_) => {}
        }
    }
    if good.len() > MOST {
        wrong.push(format!(
            "{} networks, and {MOST} at most are taken",
            good.len()
        ));
        good = good.into_iter().take(MOST).collect();
    }
    (good, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn read(text: &str, before: Option<&BTreeSet<IpNet>>) -> (BTreeSet<IpNet>, Vec<String>) {
        let (list, faults) = next(Path::new("/etc/list"), Ok(text.to_owned()), before);
        let faults = faults.into_iter();
        let faults =
            faults.map(|fault| format!("{} {}; {}", fault.place, fault.what, fault.effect));
        (list, faults.collect())
    }

    #[test]
    fn a_list_has_networks_addresses_and_remarks() {
        let text = "# the office\n192.0.2.7/24 \n\n  fd00:5::/64 # the lab\r\n198.51.100.1\n";
        let expected = networks(&["192.0.2.0/24", "fd00:5::/64", "198.51.100.1/32"]);
        assert_eq!(read(text, None), (expected, Vec::new()));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_and_the_list_of_before_stays() {
        let before = networks(&["192.0.2.0/24"]);
        let (list, faults) = read("203.0.113.0/24\n10.0.0.0/33\n", Some(&before));
        assert_eq!(list, before);
        assert_eq!(
            faults,
            [
                "--egress-excluded-cidrs-file /etc/list line 2: `10.0.0.0/33` is neither a network, as in 192.0.2.0/24, nor an address; the list of before stays in force"
            ]
        );
    }

    #[test]
    fn at_the_start_the_lines_that_make_sense_are_in_force() {
        let (list, faults) = read("203.0.113.0/24\nnonsense\n", None);
        assert_eq!(list, networks(&["203.0.113.0/24"]));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].ends_with("the other lines are in force"));
    }

    #[test]
    fn a_file_that_is_gone_changes_nothing() {
        let before = networks(&["192.0.2.0/24"]);
        let error = io::Error::from(io::ErrorKind::NotFound);
        let (list, faults) = next(Path::new("/etc/list"), Err(error), Some(&before));
        assert_eq!(list, before);
        assert!(faults[0].what.starts_with("cannot be read"));
    }

    #[test]
    fn a_list_that_is_too_long_is_not_taken() {
        let text: String = (0..=MOST)
            .map(|n| format!("10.{}.{}.0/24\n", n / 256, n % 256))
            .collect();
        let (list, faults) = read(&text, Some(&BTreeSet::new()));
        assert!(list.is_empty());
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}
