//! `POST /v1/pod-interface`: a CNI plugin waits until a pod's interface has its programs and the
//! pod's rules are in force. See `sandbox` for the messages.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::collect::Watched;
use crate::applier::Applied;
use crate::devices::{Device, Role};
use crate::lb::ebpf::attach::Side;
use crate::policy::ebpf::facility::InForce;
use crate::reconcile::Announcement;
use crate::sandbox::{Ready, Reason, Refusal, Request, VERSION};

/// A plugin's own patience is a minute or two, and it asks again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an interface is shows by its routes, which come after it; so it may look like none of a pod's
/// this long.
const SETTLES: Duration = Duration::from_secs(1);

/// Announcements under way: a node starts a handful of pods at once, and one is done in
/// milliseconds.
pub const WAITING: usize = 64;

/// Answers one request.
///
/// # Errors
/// [`Refusal`] where nothing is in place; the pod must not run.
pub async fn answer(
    watched: Watched,
    announcements: mpsc::Sender<Announcement>,
    request: Request,
) -> Result<Ready, Refusal> {
    if request.version != VERSION {
        return Err(Reason::BadRequest.because(format!(
            "version {} is not spoken here, but {VERSION}",
            request.version
        )));
    }
    if request.addresses.is_empty() || request.name.is_empty() {
        return Err(Reason::BadRequest.because("the pod has no name, or no address"));
    }
    let waiting = prepare(watched, announcements, &request);
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(answer) => answer,
        Err(_) => Err(Reason::NotInForce.because(format!(
            "not done within {PATIENCE:?}; see `fairlead-agent status`"
        ))),
    }
}

async fn prepare(
    watched: Watched,
    announcements: mpsc::Sender<Announcement>,
    request: &Request,
) -> Result<Ready, Refusal> {
    // The plugin is done with the interface; its news may not have come to an end.
    let stopping = || Reason::NotSynced.because("the agent is stopping");
    watched
        .look
        .send(request.index)
        .await
        .map_err(|_| stopping())?;
    let (heard, answer) = oneshot::channel();
    let announcement = Announcement {
        pod: request.pod(),
        addresses: request.addresses.clone(),
        heard,
    };
    announcements
        .send(announcement)
        .await
        .map_err(|_| stopping())?;
    let revision = answer.await.map_err(|_| stopping())??;
    if let Some(policy) = &watched.policy {
        rules_in_force(policy.clone(), watched.applied.clone(), revision).await?;
    }
    attached(watched.devices.clone(), request).await?;
    let desired = watched.desired.borrow().clone();
    let pod = desired.and_then(|desired| desired.policy.pods().get(&request.pod()).cloned());
    let policies = |key: Option<&crate::desired::policy::SetKey>| {
        key.map(|key| key.policies.iter().map(ToString::to_string).collect())
    };
    let programs = if watched.policed {
        ["policed_ingress", "policed_egress"]
    } else {
        ["workload_ingress", "egress"]
    };
    let rules = pod.as_ref().filter(|_| watched.policed);
    Ok(Ready {
        version: VERSION,
        interface: request.interface.clone(),
        index: request.index,
        programs: programs.map(str::to_owned).to_vec(),
        policed: watched.policed,
        ingress: rules.and_then(|pod| policies(pod.ingress.as_ref())),
        egress: rules.and_then(|pod| policies(pod.egress.as_ref())),
    })
}

/// Waits until packets are judged by tables as new as `revision`.
async fn rules_in_force(
    mut policy: watch::Receiver<InForce>,
    mut applied: watch::Receiver<Applied>,
    revision: u64,
) -> Result<(), Refusal> {
    let before = applied.borrow().applies_total;
    let stopping = |_| Reason::NotInForce.because("the agent is stopping");
    tokio::select! {
        // Rules that are in force are, whatever else of that apply failed.
        biased;
        told = policy.wait_for(|told| told.revision >= Some(revision)) => {
            told.map(drop).map_err(stopping)
        }
        failed = applied.wait_for(|applied| {
            applied.applies_total > before && applied.outcome.error.is_some()
        }) => {
            let why = failed.map_err(stopping)?.outcome.error.clone();
            Err(Reason::NotInForce.because(why.unwrap_or_default()))
        }
    }
}

/// Waits until the interface has its programs.
async fn attached(
    mut devices: watch::Receiver<Option<Vec<Device>>>,
    request: &Request,
) -> Result<(), Refusal> {
    let index = request.index;
    let of = |devices: &Option<Vec<Device>>| {
        let mut devices = devices.iter().flatten();
        devices.find(|device| device.index == index).cloned()
    };
    let is_attached = |devices: &Option<Vec<Device>>| {
        let workload = Role::Attach(Side::Workload);
        of(devices).is_some_and(|device| {
            device.name == request.interface && device.role == workload && device.error.is_none()
        })
    };
    let settles = tokio::time::timeout(SETTLES, devices.wait_for(is_attached));
    if settles.await.is_ok_and(|attached| attached.is_ok()) {
        return Ok(());
    }
    let seen = devices.wait_for(|devices| of(devices).is_some()).await;
    let seen = seen.map_err(|_| Reason::NotAttached.because("the agent is stopping"))?;
    let device = of(&seen);
    let refuse = |why: String| {
        Err(Reason::NotAttached.because(format!("{} (index {index}): {why}", request.interface)))
    };
    match device {
        Some(Device { name, .. }) if name != request.interface => {
            refuse(format!("the interface of this index is {name}"))
        }
        Some(Device {
            error: Some(error), ..
        }) => refuse(error),
        Some(Device {
            role: Role::Attach(Side::Workload),
            ..
        }) => Ok(()),
        Some(Device { .. }) | None => refuse("it does not look like a pod's".to_owned()),
    }
}
