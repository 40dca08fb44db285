//! Pods: created, seen and deleted. There is no call that stops one: what is stopped goes on costing its disk.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::super::errors::{Kind, Refusal};
use super::super::governor::Class;
use super::super::types::{Order, Sighting};
use super::super::wire;
use super::{Call, Client, encoded, path_with};
use crate::cloud::CloudError;

/// A creation looks for a machine and may take long; the caller's own limit is a minute.
const CREATE_DEADLINE: Duration = Duration::from_secs(40);
/// More pages than any account has.
const MOST_PAGES: usize = 500;

/// Pods as they are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub pods: Vec<Sighting>,
    /// Ids of pods whose environment the list does not tell.
    pub without_env: Vec<String>,
}

/// A pod as it was read alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Read {
    pub(in super::super) seen: Sighting,
    /// Without its environment nobody knows whose it is.
    pub(in super::super) tells_env: bool,
}

impl Client {
    /// Creates a pod, once. When the outcome is unknown, whoever calls looks before anything else.
    pub(in super::super) async fn create(
        &self,
        order: &Order,
        is_admitted: bool,
    ) -> Result<Sighting, Refusal> {
        let body = wire::create(order)?;
        let answer = self
            .json(Call {
                class: Class::Create,
                method: Method::POST,
                body: Bytes::from(body),
                deadline: CREATE_DEADLINE,
                is_admitted,
                secrets: secrets(&order.env),
                ..Call::look("CreatePod", "/pods".to_owned())
            })
            .await?;
        // It is there, and nobody knows its name.
        wire::sighting(&answer).ok_or_else(|| Refusal::new(Kind::Unknown, "the answer has no id"))
    }

    /// All pods of the account that belong to no cluster of RunPod's: every page, or an error.
    ///
    /// # Errors
    /// The list is not whole.
    pub async fn list(&self) -> Result<Listed, CloudError> {
        self.list_pods().await.map_err(Refusal::into_error)
    }

    pub(in super::super) async fn list_pods(&self) -> Result<Listed, Refusal> {
        let broken = |what: String| Refusal::new(Kind::Unreadable, format!("the list of pods {what}"));
        let mut listed = Listed::default();
        let (mut ids, mut cursors) = (HashSet::new(), HashSet::new());
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let query: Vec<_> = cursor.iter().map(|cursor| ("cursor", cursor.clone())).collect();
            let page = self.json(Call::look("ListPods", path_with("/pods", &query))).await?;
            // No list is not an empty list: whoever is missing is taken for gone.
            let pods = page.get("pods").and_then(Value::as_array);
            for pod in pods.ok_or_else(|| broken("has no `pods`".to_owned()))? {
                let seen = wire::sighting(pod).ok_or_else(|| broken("has one without an id".to_owned()))?;
                if !ids.insert(seen.id.clone()) {
                    continue;
                }
                if !wire::tells_env(pod) {
                    listed.without_env.push(seen.id.clone());
                }
                listed.pods.push(seen);
            }
            cursor = match wire::next_cursor(&page) {
                wire::Next::End => return Ok(listed),
                wire::Next::Page(next) => Some(next),
                wire::Next::Lost => return Err(broken("has another page, and no cursor to it".to_owned())),
            };
            if cursor.as_ref().is_some_and(|cursor| !cursors.insert(cursor.clone())) {
                return Err(broken("comes round to the same page again".to_owned()));
            }
        }
        Err(broken(format!("has more than {MOST_PAGES} pages")))
    }

    /// One pod; `None` if RunPod does not know it.
    ///
    /// # Errors
    /// There is no answer to that.
    pub async fn get(&self, id: &str) -> Result<Option<Sighting>, CloudError> {
        let read = self.get_pod(id).await.map_err(Refusal::into_error)?;
        Ok(read.map(|read| read.seen))
    }

    pub(in super::super) async fn get_pod(&self, id: &str) -> Result<Option<Read>, Refusal> {
        let answer = match self.json(Call::look("GetPod", format!("/pods/{}", encoded(id)))).await {
            Ok(answer) => answer,
            Err(refusal) if refusal.kind == Kind::NotFound => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let seen = wire::sighting(&answer).filter(|seen| seen.id == id);
        let read = seen.map(|seen| Read { seen, tells_env: wire::tells_env(&answer) });
        read.map(Some)
            .ok_or_else(|| Refusal::new(Kind::Unreadable, "the answer is about another pod, or none"))
    }

    /// Deletes a pod for good. One that is gone already is a success.
    pub(in super::super) async fn delete(&self, id: &str) -> Result<(), Refusal> {
        let call = Call {
            class: Class::Delete,
            method: Method::DELETE,
            ..Call::look("DeletePod", format!("/pods/{}", encoded(id)))
        };
        match self.done(call).await {
            Err(refusal) if refusal.kind == Kind::NotFound => Ok(()),
            answer => answer,
        }
    }
}

/// What of an environment no error may repeat. Shorter values are in any text.
fn secrets(env: &BTreeMap<String, String>) -> Vec<&str> {
    env.values().map(String::as_str).filter(|value| value.len() >= 6).collect()
}
