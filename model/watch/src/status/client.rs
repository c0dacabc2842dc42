//! The requests: an object as it is, its status, and the Lease.

use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use model::{Kind, ObjectKey};
use serde_json::{Value, json};

use crate::kube_source::failure::innermost;
use crate::kube_source::resource::Resource;
use crate::kube_source::servers::Server;
use crate::kube_source::{Error, Options};

/// Why a request did not do what it was to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 404.
    NotFound,
    /// 409: somebody else was faster.
    Conflict,
    /// 403, with what was said.
    Forbidden(String),
    /// 400 and 422: it will never be taken as it is.
    Rejected(String),
    /// Anything else; it may pass.
    Failed(String),
}

/// Asks one server until that fails, then the next.
pub(super) struct Client {
    servers: Vec<Server>,
    current: usize,
    answer: Duration,
}

impl Client {
    pub(super) async fn new(options: &Options) -> Result<Self, Error> {
        Ok(Self {
            servers: options.load().await?,
            current: 0,
            answer: options.timing.answer,
        })
    }

    /// An object at the version that the cluster serves, and the path where it is.
    pub(super) async fn get(
        &mut self,
        kind: Kind,
        key: &ObjectKey,
    ) -> Result<(String, Value), Refusal> {
        let mut refusal = Refusal::NotFound;
        for resource in Resource::versions(kind) {
            let path = resource.path_of(key);
            match self.get_path(&path, &key.name).await {
                Ok(object) => return Ok((path, object)),
                Err(Refusal::NotFound) => {}
                Err(other) => {
                    refusal = other;
                    break;
                }
            }
        }
        Err(refusal)
    }

    pub(super) async fn get_path(&mut self, path: &str, name: &str) -> Result<Value, Refusal> {
        let request = Request::new(path).get(name, &kube::api::GetParams::default());
        let request = request.map_err(|error| failed(&error))?;
        let client = self.client()?;
        self.send(client.request_text(request)).await
    }

    /// Writes a status, if the object is still at the version seen.
    pub(super) async fn write_status(
        &mut self,
        path: &str,
        object: &Value,
        status: &Value,
    ) -> Result<(), Refusal> {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": metadata["resourceVersion"]},
            "status": status,
        }));
        let params = PatchParams::default();
        let request = Request::new(path).patch_subresource("status", name, &params, &patch);
        let request = request.map_err(|error| failed(&error))?;
        let client = self.client()?;
        let sent = self.send(client.request_text(request));
        sent.await.map(drop)
    }

    pub(super) async fn create(&mut self, path: &str, object: &Value) -> Result<(), Refusal> {
        let body = serde_json::to_vec(object).map_err(|error| failed(&error))?;
        let request = Request::new(path).create(&PostParams::default(), body);
        let request = request.map_err(|error| failed(&error))?;
        let client = self.client()?;
        let sent = self.send(client.request_text(request));
        sent.await.map(drop)
    }

    pub(super) async fn patch(
        &mut self,
        path: &str,
        name: &str,
        fields: &Value,
    ) -> Result<(), Refusal> {
        let request =
            Request::new(path).patch(name, &PatchParams::default(), &Patch::Merge(fields));
        let request = request.map_err(|error| failed(&error))?;
        let client = self.client()?;
        let sent = self.send(client.request_text(request));
        sent.await.map(drop)
    }

    fn client(&self) -> Result<kube::Client, Refusal> {
        let server = self.servers.get(self.current);
        let server = server.ok_or_else(|| Refusal::Failed("no API server".to_owned()))?;
        Ok(server.client.clone())
    }

    async fn send(
        &mut self,
        request: impl Future<Output = kube::Result<String>>,
    ) -> Result<Value, Refusal> {
        let text = tokio::time::timeout(self.answer, request).await;
        let refusal = match text {
            Ok(Ok(text)) => {
                return serde_json::from_str(&text).map_err(|error| failed(&error));
            }
            Ok(Err(kube::Error::Api(status))) => {
                let said = format!("{} {}: {}", status.code, status.reason, status.message);
                match status.code {
                    404 => Refusal::NotFound,
                    409 => Refusal::Conflict,
                    403 => Refusal::Forbidden(said),
                    400 | 405 | 415 | 422 => Refusal::Rejected(said),
                    _ => Refusal::Failed(said),
                }
            }
            Ok(Err(error)) => failed(&error),
            Err(_) => Refusal::Failed(format!("no answer within {:?}", self.answer)),
        };
        if matches!(refusal, Refusal::Failed(_)) {
            self.current = (self.current + 1) % self.servers.len();
        }
        Err(refusal)
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal::Failed(innermost(error))
}
