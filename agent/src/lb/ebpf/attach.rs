//! Attaching the programs to interfaces and to the cgroup, and keeping them attached.
//!
//! From 6.6 on an attachment is a pinned tcx link, whose program is replaced in one step when the
//! agent is. Before, it is a filter of the `clsact` qdisc (`clsact`), replaced in one step too. Either
//! way no packet passes unseen while the agent restarts.
//!
//! Where an agent goes from one to the other, the new comes before the old goes. In between a packet
//! that the link lets pass comes to the filter as well, with the addresses it has by then: the programs
//! are used to that from bridges, whose ports are seen before them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{CgroupAttachMode, LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use aya::util::KernelVersion;
use cni::rcu::Hurry;
use rustix::io::Errno;

use super::clsact;
use super::programs::{LoadError, Programs};
use crate::sys::qdisc;

/// Makes TCP fit the overlay where it has no Ethernet header, and does nothing else.
const TUNNEL_PROGRAM: &str = "tunnel_egress";
const CONNECT_PROGRAMS: [&str; 2] = ["connect4", "connect6"];

/// How tc programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// tcx links (Linux 6.6).
    Tcx,
    /// Filters of the `clsact` qdisc.
    Clsact,
}

impl Mode {
    /// The best way this kernel has.
    pub fn of_this_kernel() -> Self {
        let tcx =
            KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0));
        if tcx { Self::Tcx } else { Self::Clsact }
    }
}

/// What is behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Other machines.
    Uplink,
    /// A pod, or a bridge of pods.
    Workload,
    /// The node itself: its own packets to its own node ports.
    Loopback,
    /// Other nodes, through an overlay of ours without Ethernet headers.
    Tunnel,
}

impl Side {
    /// The directions in which it has programs.
    fn directions(self) -> &'static [TcAttachType] {
        match self {
            Self::Uplink | Self::Workload => &[TcAttachType::Ingress, TcAttachType::Egress],
            Self::Loopback | Self::Tunnel => &[TcAttachType::Egress],
        }
    }
}

/// An interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// What is behind it.
    pub side: Side,
}

/// Why something is not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The program itself.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// One interface.
    #[error("cannot attach {program} to {interface}: {} there", missing(program))]
    Interface {
        /// Program.
        program: &'static str,
        /// Interface.
        interface: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cgroup.
    #[error(
        "cannot attach {program} to {cgroup}: TCP of its processes is balanced per packet instead"
    )]
    Cgroup {
        /// Program.
        program: &'static str,
        /// Directory.
        cgroup: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl AttachError {
    /// The interface it concerns.
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Interface { interface, .. } => Some(interface),
            Self::Load(_) | Self::Cgroup { .. } => None,
        }
    }

    /// What is behind it, in the kernel's words.
    pub fn cause(&self) -> String {
        std::error::Error::source(self).map_or_else(String::new, causes)
    }
}

/// What an interface is without, whose program is not attached.
fn missing(program: &str) -> &'static str {
    match program {
        TUNNEL_PROGRAM => "TCP may ask for segments that do not fit the overlay",
        _ => "Services are not balanced for packets",
    }
}

/// The attachments of one node; the only one who makes or removes them.
#[derive(Debug)]
pub struct Attachments {
    links: PathBuf,
    mode: Mode,
    /// Whether the kernel may be hurried.
    hurries: bool,
    attached: BTreeMap<u32, Target>,
}

impl Attachments {
    /// Attachments pinned in the directory `links`.
    ///
    /// # Errors
    /// Where the directory cannot be made.
    pub fn new(links: PathBuf, mode: Mode) -> io::Result<Self> {
        fs::create_dir_all(&links)?;
        Ok(Self {
            links,
            mode,
            hurries: true,
            attached: BTreeMap::new(),
        })
    }

    /// Says whether the kernel may be hurried for them; see [`Hurry`].
    #[must_use]
    pub fn hurrying(self, hurries: bool) -> Self {
        Self { hurries, ..self }
    }

    /// What is attached, by interface index.
    pub fn attached(&self) -> &BTreeMap<u32, Target> {
        &self.attached
    }

    /// Forgets interfaces that have lost their `clsact` qdisc, and our filters with it: the next
    /// [`Self::follow`] attaches to them anew. Says which. `closely` finds those too that have lost a
    /// filter alone, which is a question an interface. Nobody takes links away.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn forget_lost(&mut self, closely: bool) -> io::Result<Vec<String>> {
        let mut lost = Vec::new();
        if self.mode == Mode::Clsact {
            let there = qdisc::all()?;
            for (index, target) in &self.attached {
                let directions = target.side.directions();
                let stays =
                    there.contains(index) && (!closely || clsact::is_whole(*index, directions)?);
                if !stays {
                    lost.push(target.name.clone());
                }
            }
            self.attached
                .retain(|_, target| !lost.contains(&target.name));
        }
        Ok(lost)
    }

    /// Attaches to what is new among `targets`, lets go of what is no longer there. Each failure
    /// concerns one interface and is tried again at the next call.
    pub fn follow(&mut self, programs: &mut Programs, targets: &[Target]) -> Vec<AttachError> {
        let wanted: BTreeMap<u32, &Target> = targets
            .iter()
            .map(|target| (target.index, target))
            .collect();
        let gone: Vec<u32> = self
            .attached
            .iter()
            .filter(|(index, old)| wanted.get(index) != Some(old))
            .map(|(index, _)| *index)
            .collect();
        let is_new = |target: &Target| !self.attached.contains_key(&target.index);
        let changes = !gone.is_empty() || targets.iter().any(is_new);
        let _hurry = Hurry::begin(changes && self.hurries);
        for index in gone {
            if let Some(target) = self
                .attached
                .remove(&index)
                .filter(|_| !wanted.contains_key(&index))
            {
                self.release(&target);
            }
        }
        self.release_strangers(&wanted);
        let mut errors = Vec::new();
        for target in targets {
            if self.attached.contains_key(&target.index) {
                continue;
            }
            match self.attach(programs, target) {
                Ok(()) => drop(self.attached.insert(target.index, target.clone())),
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Attaches the `connect` programs to a cgroup v2 directory.
    ///
    /// # Errors
    /// [`AttachError`] for the first program that cannot be attached.
    pub fn attach_connect(
        &self,
        programs: &mut Programs,
        cgroup: &Path,
    ) -> Result<(), AttachError> {
        for name in CONNECT_PROGRAMS {
            let refused = |source: Box<dyn std::error::Error + Send + Sync>| AttachError::Cgroup {
                program: name,
                cgroup: cgroup.into(),
                source,
            };
            let program = programs.connect(name)?;
            let directory = File::open(cgroup).map_err(|error| refused(error.into()))?;
            // A link always joins those that are there, and takes no flag. Both programs run until
            // the old link goes; the second finds nothing left to do.
            let id = program
                .attach(directory, CgroupAttachMode::Single)
                .map_err(|error| refused(error.into()))?;
            let link = program
                .take_link(id)
                .map_err(|error| refused(error.into()))?;
            let link = FdLink::try_from(link).map_err(|error| refused(error.into()))?;
            pin_in_place(link, &self.links.join(name)).map_err(refused)?;
        }
        Ok(())
    }

    /// Lets go of the `connect` programs, where they are attached.
    ///
    /// # Errors
    /// Where a pin cannot be removed.
    pub fn detach_connect(&self) -> io::Result<()> {
        CONNECT_PROGRAMS
            .iter()
            .try_for_each(|name| remove_if_there(&self.links.join(name)))
    }

    fn attach(&self, programs: &mut Programs, target: &Target) -> Result<(), AttachError> {
        let (ingress, egress) = match target.side {
            Side::Uplink => (Some("uplink_ingress"), "egress"),
            Side::Workload if programs.are_policed() => (Some("policed_ingress"), "policed_egress"),
            Side::Workload => (Some("workload_ingress"), "egress"),
            Side::Loopback => (None, "egress"),
            Side::Tunnel => (None, TUNNEL_PROGRAM),
        };
        let ingress = ingress.map(|name| (name, TcAttachType::Ingress));
        for (name, direction) in ingress.into_iter().chain([(egress, TcAttachType::Egress)]) {
            let program = programs.classifier(name)?;
            match self.mode {
                Mode::Tcx => attach_tcx(
                    program,
                    target,
                    direction,
                    &self.pin(target.index, direction),
                ),
                Mode::Clsact => clsact::attach(program, &target.name, direction),
            }
            .map_err(|source| AttachError::Interface {
                program: name,
                interface: target.name.clone(),
                source,
            })?;
        }
        if self.mode == Mode::Clsact {
            // Links of an agent that had another mode.
            self.unpin(target);
        }
        Ok(())
    }

    fn pin(&self, index: u32, direction: TcAttachType) -> PathBuf {
        self.links.join(PinName { index, direction }.to_string())
    }

    /// The kernel has detached from an interface that is gone; what remains is the pin.
    fn release(&self, target: &Target) {
        self.unpin(target);
        if self.mode == Mode::Clsact {
            clsact::remove(&target.name);
        }
    }

    fn unpin(&self, target: &Target) {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            if let Err(error) = remove_if_there(&self.pin(target.index, direction)) {
                tracing::warn!(interface = %target.name, %error, "the pin of a detached program stays");
            }
        }
    }

    /// Removes pins of interfaces that went while no agent ran.
    fn release_strangers(&self, wanted: &BTreeMap<u32, &Target>) {
        let Ok(entries) = fs::read_dir(&self.links) else {
            return;
        };
        for entry in entries.flatten() {
            let index = entry.file_name().to_str().and_then(PinName::index);
            if index.is_some_and(|index| !wanted.contains_key(&index))
                && let Err(error) = remove_if_there(&entry.path())
            {
                tracing::warn!(pin = %entry.path().display(), %error, "the pin of a detached program stays");
            }
        }
    }
}

/// Name of the pin of a tc program: `tc-INDEX-ingress`.
struct PinName {
    index: u32,
    direction: TcAttachType,
}

impl PinName {
    fn index(name: &str) -> Option<u32> {
        name.strip_prefix("tc-")?.split('-').next()?.parse().ok()
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if matches!(self.direction, TcAttachType::Ingress) {
            "ingress"
        } else {
            "egress"
        };
        write!(f, "tc-{}-{direction}", self.index)
    }
}

pub(super) type Refused = Box<dyn std::error::Error + Send + Sync>;

fn attach_tcx(
    program: &mut SchedClassifier,
    target: &Target,
    direction: TcAttachType,
    pin: &Path,
) -> Result<(), Refused> {
    if let Some(link) = adopt(pin)? {
        match program.attach_to_link(SchedClassifierLink::try_from(link)?) {
            // The link lives on in its pin; this process need not hold it.
            Ok(id) => return program.take_link(id).map(drop).map_err(Into::into),
            Err(error) if is_defunct(&error) => remove_if_there(pin)?,
            Err(error) => return Err(error.into()),
        }
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(&target.name, direction, options)?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    pin_in_place(link, pin)
}

/// An error and what is behind it, on one line.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    // A refused program comes with the verifier's whole log, whose end says why.
    let causes = causes.join(": ");
    causes.lines().last().unwrap_or_default().to_owned()
}

/// The link pinned by an earlier agent.
pub(super) fn adopt(pin: &Path) -> Result<Option<FdLink>, Refused> {
    match PinnedLink::from_pin(pin) {
        Ok(link) => Ok(Some(link.into())),
        Err(LinkError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the link's interface is gone, and another one has its index now.
pub(super) fn is_defunct(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(SyscallError { io_error, .. })
        if io_error.raw_os_error() == Some(Errno::NOLINK.raw_os_error()))
}

/// Pins a link where another may be pinned already, which detaches that one.
pub(super) fn pin_in_place(link: FdLink, pin: &Path) -> Result<(), Refused> {
    // bpffs allows no dot in a name.
    let name = pin.file_name().unwrap_or_default().to_string_lossy();
    let fresh = pin.with_file_name(format!("{name}-new"));
    remove_if_there(&fresh)?;
    drop(link.pin(&fresh)?);
    fs::rename(&fresh, pin)?;
    Ok(())
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
