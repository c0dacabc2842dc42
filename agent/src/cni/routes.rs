//! Puts back routes to pods that somebody has taken away. The plugin has made them, and is not there
//! any more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use cni::name::HostInterface;
use cni::repair::{Look, YOUNG, repair};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::stores::Stores;
use crate::sys::links::Link;

/// The routes of an interface by its index and name.
type Seen = BTreeMap<(u32, String), BTreeSet<IpNet>>;

/// A route that is put back and lost again before the interfaces are listed once more is lost without
/// news of it, since they are as they were. By then they have been.
const LISTED: Duration = Duration::from_millis(300);

/// Looks at all pods of all networks once, and from then on at those whose interfaces lose a route,
/// until `cancel`.
pub async fn run(
    stores: Stores,
    mut links: watch::Receiver<Option<Vec<Link>>>,
    cancel: CancellationToken,
) {
    let mut seen = Seen::new();
    let mut again = look(&stores, None).await;
    loop {
        let pause = async {
            match again {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let lost = tokio::select! {
            () = cancel.cancelled() => return,
            () = pause => None,
            changed = links.changed() => match changed {
                Ok(()) => {
                    let now = pods(links.borrow_and_update().as_deref().unwrap_or_default());
                    let lost = losers(&seen, &now);
                    seen = now;
                    Some(lost)
                }
                // The agent is stopping.
                Err(_) => return,
            },
        };
        match lost {
            Some(lost) if lost.is_empty() => {}
            Some(lost) => again = sooner(again, look(&stores, Some(lost)).await),
            None => again = look(&stores, None).await,
        }
    }
}

/// The plugin's interfaces.
fn pods(links: &[Link]) -> Seen {
    let of_the_plugin = links
        .iter()
        .filter(|link| HostInterface::parse(&link.name).is_some());
    of_the_plugin
        .map(|link| ((link.index, link.name.clone()), link.routes.clone()))
        .collect()
}

/// Interfaces that are still there and have lost a route.
fn losers(before: &Seen, now: &Seen) -> Vec<String> {
    let lost = now.iter().filter(|(link, routes)| {
        let had = before.get(*link);
        had.is_some_and(|had| !had.is_subset(routes))
    });
    lost.map(|((_, name), _)| name.clone()).collect()
}

fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

/// Looks, and puts back; after how long to look again.
async fn look(stores: &Stores, interfaces: Option<Vec<String>>) -> Option<Duration> {
    let of_task = stores.clone();
    let work = move || look_at_all(&of_task, interfaces.as_deref());
    let error = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(again)) => return again,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(error, "{NOT_PUT_BACK}");
    Some(YOUNG)
}

const NOT_PUT_BACK: &str = "a route to a pod that is gone is not put back; tried again in a while";

fn look_at_all(stores: &Stores, interfaces: Option<&[String]>) -> io::Result<Option<Duration>> {
    let mut again = None;
    for place in stores.places()? {
        match repair(&place, interfaces) {
            Ok(look) => again = sooner(again, tell(look)),
            // The others have nothing to do with it.
            Err(error) => {
                tracing::warn!(network = place.network, %error, "{NOT_PUT_BACK}");
                again = sooner(again, Some(YOUNG));
            }
        }
    }
    Ok(again)
}

fn tell(look: Look) -> Option<Duration> {
    let Look {
        repaired,
        refused,
        left_some,
    } = look;
    let later = (left_some || !refused.is_empty()).then_some(YOUNG);
    let soon = (!repaired.is_empty()).then_some(LISTED);
    for ((interface, address), why) in refused {
        // Every two seconds while an interface is down; `status` names the pod.
        tracing::debug!(%interface, %address, why, "the route to a pod is not put back yet");
    }
    for (interface, address) in repaired {
        tracing::warn!(%interface, %address, "the route to a pod was gone and is put back");
    }
    sooner(soon, later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_a_route_is_looked_at_and_who_ends_or_gets_one_is_not() {
        let routes = |networks: &[&str]| -> BTreeSet<IpNet> {
            networks.iter().map(|text| text.parse().unwrap()).collect()
        };
        let seen = |of: &[(u32, &[&str])]| -> Seen {
            of.iter()
                .map(|(index, networks)| ((*index, format!("fl{index}")), routes(networks)))
                .collect()
        };
        let before = seen(&[
            (1, &["10.0.0.1/32", "fd00::1/128"]),
            (2, &["10.0.0.2/32"]),
            (3, &["10.0.0.3/32"]),
            (4, &[]),
        ]);
        let now = seen(&[
            (1, &["fd00::1/128"]),
            (2, &["10.0.0.2/32", "fd00::2/128"]),
            (4, &["10.0.0.4/32"]),
            (5, &[]),
        ]);
        assert_eq!(losers(&before, &now), ["fl1"]);
        assert_eq!(losers(&Seen::new(), &now), [""; 0]);
    }
}
