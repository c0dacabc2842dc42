//! Attaching `edge` in the drivers of uplinks, and keeping it attached.
//!
//! Like the tc programs it is a pinned link, so it outlives the agent, and the next one replaces the
//! program in one step. Where a driver refuses, the tc programs do all the work as they would
//! without it: nothing here is an error of the node.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::xdp::{XdpLink, XdpMode};

use super::attach::{Refused, Target, adopt, causes, is_defunct, pin_in_place, remove_if_there};
use super::programs::Programs;

const PROGRAM: &str = "edge";
/// What the name of a pin begins with; the interface's index follows.
const PIN: &str = "xdp-";

/// The XDP attachments of one node; the only one who makes or removes them.
#[derive(Debug)]
pub struct Edge {
    links: PathBuf,
    attached: BTreeMap<u32, String>,
    refused: BTreeMap<u32, String>,
}

impl Edge {
    /// Attachments pinned in the directory `links`, which is there.
    pub fn new(links: PathBuf) -> Self {
        Self {
            links,
            attached: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Attaches to what is new among `targets`, lets go of all else. The answer is who refused,
    /// by interface index, and why; they are asked again at the next call.
    pub fn follow(
        &mut self,
        programs: &mut Programs,
        targets: &[Target],
    ) -> &BTreeMap<u32, String> {
        let wanted = |index: &u32, name: &str| {
            let mut targets = targets.iter();
            targets.any(|target| target.index == *index && target.name == name)
        };
        self.attached.retain(|index, name| wanted(index, name));
        if let Err(error) = self.release_strangers(programs, targets) {
            tracing::warn!(error = causes(&*error), "XDP stays where it is not wanted");
        }
        let mut refused = BTreeMap::new();
        for Target { index, name, .. } in targets {
            if self.attached.contains_key(index) {
                continue;
            }
            match self.attach(programs, *index) {
                Ok(()) => drop(self.attached.insert(*index, name.clone())),
                Err(error) => drop(refused.insert(*index, causes(&*error))),
            }
        }
        for (index, reason) in &refused {
            if self.refused.get(index) != Some(reason) {
                tracing::warn!(index, reason, "no XDP; packets take the way through tc");
            }
        }
        self.refused = refused;
        &self.refused
    }

    fn attach(&self, programs: &mut Programs, index: u32) -> Result<(), Refused> {
        self.link(programs, index)?;
        // Last: what is redirected to a driver that is not ready is lost.
        programs.edge_devices()?.insert(index, index, None, 0)?;
        Ok(())
    }

    fn link(&self, programs: &mut Programs, index: u32) -> Result<(), Refused> {
        let program = programs.xdp(PROGRAM)?;
        let pin = self.pin(index);
        if let Some(link) = adopt(&pin)? {
            match program.attach_to_link(XdpLink::try_from(link)?) {
                // The link lives on in its pin; this process need not hold it.
                Ok(id) => return program.take_link(id).map(drop).map_err(Into::into),
                Err(error) if is_defunct(&error) => remove_if_there(&pin)?,
                Err(error) => return Err(error.into()),
            }
        }
        let id = program.attach_to_if_index(index, XdpMode::Driver)?;
        let link = FdLink::try_from(program.take_link(id)?)?;
        pin_in_place(link, &pin)
    }

    /// Lets go of interfaces that are not wanted, or went, among them an earlier agent's.
    fn release_strangers(
        &self,
        programs: &mut Programs,
        targets: &[Target],
    ) -> Result<(), Refused> {
        let is_wanted = |index| targets.iter().any(|target| target.index == index);
        let mut devices = programs.edge_devices()?;
        let known: Vec<u32> = devices.keys().collect::<Result<_, _>>()?;
        for index in known.into_iter().filter(|index| !is_wanted(*index)) {
            devices.remove(index)?;
        }
        for entry in fs::read_dir(&self.links)? {
            let path = entry?.path();
            if index_of(&path).is_some_and(|index| !is_wanted(index)) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    fn pin(&self, index: u32) -> PathBuf {
        self.links.join(format!("{PIN}{index}"))
    }
}

fn index_of(pin: &Path) -> Option<u32> {
    let name = pin.file_name()?.to_str()?.strip_prefix(PIN)?;
    // The other part is that of a pin that an agent did not finish.
    name.split('-').next()?.parse().ok()
}
