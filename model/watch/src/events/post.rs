//! The requests that make an Event, or raise the count of one.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{Request, Status};
use model::Problem;
use serde_json::{Value, json};

use super::record::{self, Reporter};
use crate::kube_source::failure::innermost;
use crate::kube_source::servers::Server;
use crate::kube_source::{Error, Options};

/// What came of a problem's Event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is there.
    Posted,
    /// It will never be there, others may.
    Rejected(String),
    /// It may be there later.
    Failed(String),
    /// RBAC allows none.
    Forbidden(String),
}

/// Posts Events, to one server until that fails. Its choice is its own: an API server that takes
/// no Events is still good for a watch.
pub(super) struct Poster {
    servers: Vec<Server>,
    current: usize,
    answer: Duration,
    reporter: Reporter,
}

impl Poster {
    pub(super) async fn new(options: &Options, reporter: Reporter) -> Result<Self, Error> {
        Ok(Self {
            servers: options.load().await?,
            current: 0,
            answer: options.timing.answer,
            reporter,
        })
    }

    /// Makes the Event of `problem`; where there is one, counts.
    pub(super) async fn post(&mut self, problem: &Problem) -> Outcome {
        if problem.key.name.is_empty() {
            return Outcome::Rejected("the object has no name".to_owned());
        }
        let outcome = match self.make_or_count(problem).await {
            Ok(()) => Outcome::Posted,
            Err(error) => judge(error),
        };
        if matches!(outcome, Outcome::Failed(_)) {
            self.current = (self.current + 1) % self.servers.len();
        }
        outcome
    }

    async fn make_or_count(&self, problem: &Problem) -> Result<(), Refusal> {
        let now = Timestamp::now();
        let event = record::event(problem, &self.reporter, now);
        match self.make(problem, &event).await {
            Err(Refusal::Status(status)) if status.code == 409 => {}
            made => return made,
        }
        let name = record::name(problem, &self.reporter.component);
        // Reading Events is not allowed to the agent; the answer to this is the way to the count.
        // Two nodes at the same moment may count as one.
        let last = json!({ "lastTimestamp": event.last_timestamp });
        let there = self.patch(problem, &name, &last).await?;
        let count = there.get("count").and_then(Value::as_i64).unwrap_or(1);
        let next = i32::try_from(count).unwrap_or(i32::MAX).saturating_add(1);
        self.patch(problem, &name, &json!({ "count": next }))
            .await?;
        Ok(())
    }

    async fn make(&self, problem: &Problem, event: &Event) -> Result<(), Refusal> {
        let body = serde_json::to_vec(event).map_err(|error| Refusal::other(&error))?;
        let request = collection(problem)
            .create(&PostParams::default(), body)
            .map_err(|error| Refusal::other(&error))?;
        let made = self.text_of(self.client()?.request_text(request));
        made.await.map(drop)
    }

    async fn patch(&self, problem: &Problem, name: &str, fields: &Value) -> Result<Value, Refusal> {
        let request = collection(problem)
            .patch(name, &PatchParams::default(), &Patch::Merge(fields))
            .map_err(|error| Refusal::other(&error))?;
        let text = self.text_of(self.client()?.request_text(request)).await?;
        serde_json::from_str(&text).map_err(|error| Refusal::other(&error))
    }

    fn client(&self) -> Result<&Client, Refusal> {
        let server = self.servers.get(self.current);
        let server = server.ok_or_else(|| Refusal::Other("no API server".to_owned()))?;
        Ok(&server.client)
    }

    async fn text_of(
        &self,
        request: impl Future<Output = kube::Result<String>>,
    ) -> Result<String, Refusal> {
        match tokio::time::timeout(self.answer, request).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(kube::Error::Api(status))) => Err(Refusal::Status(status)),
            Ok(Err(error)) => Err(Refusal::other(&error)),
            Err(_) => Err(Refusal::Other(format!(
                "no answer within {:?}",
                self.answer
            ))),
        }
    }
}

fn collection(problem: &Problem) -> Request {
    Request::new(format!(
        "/api/v1/namespaces/{}/events",
        record::namespace(problem)
    ))
}

/// Why a request did not do what it was to do.
enum Refusal {
    Status(Box<Status>),
    Other(String),
}

impl Refusal {
    fn other(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Other(innermost(error))
    }
}

fn judge(refusal: Refusal) -> Outcome {
    let status = match refusal {
        Refusal::Status(status) => status,
        Refusal::Other(why) => return Outcome::Failed(why),
    };
    let Status {
        code,
        reason,
        message,
        ..
    } = &*status;
    let said = format!("{code} {reason}: {message}");
    // Admission answers with 403 too: of a namespace that is being deleted
    // (https://github.com/kubernetes/kubernetes: admission.NamespaceLifecycle), or has a quota.
    let of_admission =
        message.contains("it is being terminated") || message.contains("exceeded quota");
    match code {
        403 if !of_admission => Outcome::Forbidden(said),
        // The Event has expired between the two requests.
        404 if message.starts_with("events ") => Outcome::Failed(said),
        // Credentials are renewed, conflicts and overload pass.
        401 | 408 | 409 | 429 | 500.. => Outcome::Failed(said),
        _ => Outcome::Rejected(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: u16, message: &str) -> Outcome {
        let mut status = Status::failure(message, "Reason");
        status.code = code;
        judge(Refusal::Status(status.boxed()))
    }

    #[test]
    fn only_what_says_that_no_event_is_allowed_ends_posting() {
        let said = |code: u16, message: &str| format!("{code} Reason: {message}");
        let rbac = r#"events is forbidden: User "x" cannot create resource "events""#;
        let deleted =
            "unable to create new content in namespace shop because it is being terminated";
        let quota = "events \"web\" is forbidden: exceeded quota: events";
        type Verdict = fn(String) -> Outcome;
        let cases: [(u16, &str, Verdict); 10] = [
            (403, rbac, Outcome::Forbidden),
            (403, deleted, Outcome::Rejected),
            (403, quota, Outcome::Rejected),
            (404, "namespaces \"shop\" not found", Outcome::Rejected),
            (404, "events \"web\" not found", Outcome::Failed),
            (422, "invalid", Outcome::Rejected),
            (401, "Unauthorized", Outcome::Failed),
            (409, "the object has been modified", Outcome::Failed),
            (429, "too many requests", Outcome::Failed),
            (500, "etcd", Outcome::Failed),
        ];
        for (code, message, expected) in cases {
            assert_eq!(outcome(code, message), expected(said(code, message)));
        }
        let cut = judge(Refusal::Other("connection refused".into()));
        assert_eq!(cut, Outcome::Failed("connection refused".into()));
    }
}
