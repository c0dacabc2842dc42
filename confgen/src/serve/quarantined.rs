//! Objects that an output leaves out, as problems for their Events.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use model::Problem;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::apply::status::Status;

/// A check may say a lot; an Event is read at a glance.
const MAX_PROOF_CHARS: usize = 300;

/// What each output leaves out.
pub(super) type Told = BTreeMap<String, Vec<Problem>>;

/// Tells what an output leaves out, until `cancel`.
pub(super) async fn follow(
    output: String,
    mut status: watch::Receiver<Status>,
    told: Arc<watch::Sender<Told>>,
    cancel: CancellationToken,
) -> Result<()> {
    loop {
        let found = problems(&output, &status.borrow_and_update());
        told.send_if_modified(|told| {
            let known = told.get(&output);
            let is_new = known.map_or(!found.is_empty(), |known| *known != found);
            if is_new {
                told.insert(output.clone(), found);
            }
            is_new
        });
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            changed = status.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

fn problems(output: &str, status: &Status) -> Vec<Problem> {
    let each = status.quarantined.iter().map(|left_out| {
        let (kind, key) = left_out.suspect.clone();
        let proof: String = left_out.proof.chars().take(MAX_PROOF_CHARS).collect();
        let message = format!("breaks the configuration of {output}: {}", proof.trim());
        let effect = "it is left out until it changes; the others are served";
        Problem::new(kind, key, "", message, effect)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Kind, ObjectKey};
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::{Told, follow};
    use crate::apply::status::{Quarantined, Status};

    #[tokio::test]
    async fn an_object_that_is_left_out_is_told_with_its_proof_until_it_is_back() {
        let (status, of_status) = watch::channel(Status::default());
        let (telling, mut told) = watch::channel(Told::new());
        let cancel = CancellationToken::new();
        let output = "nginx".to_owned();
        let following = follow(output, of_status, Arc::new(telling), cancel.clone());
        let following = tokio::spawn(following);
        status.send_modify(|status| {
            status.quarantined = vec![Quarantined {
                kind: "Service",
                key: "shop/web".to_owned(),
                proof: "unknown directive\n".to_owned(),
                suspect: (Kind::Service, ObjectKey::new("shop", "web")),
            }];
        });
        let all = told
            .wait_for(|told| !told.is_empty())
            .await
            .unwrap()
            .clone();
        let problem = &all["nginx"][0];
        assert_eq!(problem.key, ObjectKey::new("shop", "web"));
        assert_eq!(
            problem.message,
            "breaks the configuration of nginx: unknown directive"
        );
        status.send_modify(|status| status.quarantined.clear());
        let back = told.wait_for(|told| told["nginx"].is_empty()).await;
        assert!(back.is_ok());
        cancel.cancel();
        following.await.unwrap().unwrap();
    }
}
