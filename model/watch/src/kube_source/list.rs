//! Lists of a kind, in pages.
//!
//! No resourceVersion is asked for, which is a consistent read: the server answers with at least
//! what etcd held when it was asked, never from a cache that lags.

use std::time::Duration;

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use model::k8s::{Detail, Reduced, reduce_to};
use model::{Kind, Object, ObjectKey, Problem};
use serde::Deserialize;
use serde_json::Value;

use super::failure::{Failure, innermost};
use super::resource::Collection;
use super::servers::Servers;

/// Objects a page, as client-go: an answer of some MiB even where objects are large.
const PAGE_SIZE: u32 = 500;

/// Every object of a kind at one version.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) version: String,
    /// Every object there is, the malformed ones too, with its own version.
    pub(super) keys: Vec<(ObjectKey, Option<u64>)>,
    pub(super) objects: Vec<Object>,
    pub(super) problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    // Go writes an empty slice as null at times.
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    continue_token: String,
}

/// Lists all objects of `kind`.
pub(super) async fn list(
    servers: &Servers,
    kind: Kind,
    collection: &Collection,
    answer: Duration,
) -> Result<Listed, Failure> {
    match in_pages(servers, kind, collection, answer, Some(PAGE_SIZE)).await {
        // The version of the first page was compacted before the last one was read. Pages of a
        // slow list on a busy cluster would expire again, so the second try is one answer.
        Err(Failure::Gone) => in_pages(servers, kind, collection, answer, None).await,
        listed => listed,
    }
}

async fn in_pages(
    servers: &Servers,
    kind: Kind,
    collection: &Collection,
    answer: Duration,
    limit: Option<u32>,
) -> Result<Listed, Failure> {
    let mut listed = Listed::default();
    let mut continue_token = None;
    loop {
        let params = ListParams {
            limit,
            continue_token,
            field_selector: collection.selector.clone(),
            ..ListParams::default()
        };
        let page = servers
            .ask(|client| fetch(client, &collection.path, &params, answer))
            .await?;
        for item in page.items.unwrap_or_default() {
            listed.push(collection.detail, kind, &item);
        }
        listed.version = page.metadata.resource_version;
        if page.metadata.continue_token.is_empty() {
            return Ok(listed);
        }
        continue_token = Some(page.metadata.continue_token);
    }
}

async fn fetch(
    client: Client,
    path: &str,
    params: &ListParams,
    answer: Duration,
) -> Result<Page, Failure> {
    let request = Request::new(path)
        .list(params)
        .map_err(|error| Failure::Answered(innermost(&error)))?;
    // Not `Client::request`, which logs what it cannot parse, Secrets included.
    let text = tokio::time::timeout(answer, client.request_text(request))
        .await
        .map_err(|_| Failure::Down(format!("no answer within {answer:?}")))??;
    serde_json::from_str(&text)
        .map_err(|error| Failure::Down(format!("the answer is not a list: {error}")))
}

impl Listed {
    fn push(&mut self, detail: Detail, kind: Kind, item: &Value) {
        let Reduced {
            key,
            object,
            problems,
        } = reduce_to(detail, kind, item);
        self.keys.push((key, version_of(item)));
        self.objects.extend(object);
        self.problems.extend(problems);
    }
}

/// `metadata.resourceVersion` as a number. Since Kubernetes 1.35 that is what it is documented to
/// be; before, it was an opaque string that etcd made a number.
pub(super) fn version_of(object: &Value) -> Option<u64> {
    object
        .pointer("/metadata/resourceVersion")?
        .as_str()?
        .parse()
        .ok()
}
