//! Annotations of a pod's owner and namespace: the layers of wishes behind the pod's own.
//!
//! Read when a pod is about to be launched, metadata alone, and kept for a moment: a Job of a thousand pods is one
//! question. An owner that is gone, or of another kind, has no wishes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::Api;
use kube::core::{NamespaceResourceScope, Resource};
use tokio::time::Instant;

use super::deadline;
use crate::pod::layers::Layer;

/// How long an answer is good: a changed annotation counts for pods that are launched after that.
const KEPT: Duration = Duration::from_secs(10);

/// What was read a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    kept: Mutex<HashMap<Key, (Instant, Option<Meta>)>>,
}

/// Kind, namespace, name.
type Key = (&'static str, String, String);

/// What is of interest about an object.
#[derive(Clone, Debug, Default)]
struct Meta {
    uid: String,
    annotations: BTreeMap<String, String>,
    controller: Option<OwnerReference>,
}

impl Owners {
    /// The layers behind the pod's own, nearest first.
    pub(crate) async fn layers(&self, client: &kube::Client, pod: &Pod) -> Result<Vec<Layer>, kube::Error> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let mut layers = Vec::new();
        let mut next = controller_of(&pod.metadata);
        while let Some(owner) = next.take() {
            let api_group = owner.api_version.split('/').next().unwrap_or_default();
            let found = match (api_group, owner.kind.as_str()) {
                ("batch", "Job") => self.namespaced::<Job>("Job", client, &namespace, &owner).await?,
                ("apps", "ReplicaSet") => {
                    self.namespaced::<ReplicaSet>("ReplicaSet", client, &namespace, &owner).await?
                }
                ("apps", "Deployment") => {
                    self.namespaced::<Deployment>("Deployment", client, &namespace, &owner).await?
                }
                ("apps", "StatefulSet") => {
                    self.namespaced::<StatefulSet>("StatefulSet", client, &namespace, &owner).await?
                }
                _ => None,
            };
            let Some(meta) = found else { break };
            layers.push(layer(&format!("{} {} metadata.annotations", owner.kind, owner.name), &meta));
            // A Deployment's annotations are copied to its ReplicaSets; a Job may belong to anything.
            next = meta.controller.filter(|above| above.kind == "Deployment");
        }
        layers.extend(self.namespace(client, &namespace).await?);
        Ok(layers)
    }

    /// The layer of a namespace; `None` if there is no such.
    pub(crate) async fn namespace(
        &self,
        client: &kube::Client,
        name: &str,
    ) -> Result<Option<Layer>, kube::Error> {
        let key = ("Namespace", String::new(), name.to_owned());
        let api: Api<Namespace> = Api::all(client.clone());
        let meta = self.read(key, &api, name).await?;
        Ok(meta.map(|meta| layer(&format!("Namespace {name} metadata.annotations"), &meta)))
    }

    async fn namespaced<K>(
        &self,
        kind: &'static str,
        client: &kube::Client,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<Meta>, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + for<'de> serde::Deserialize<'de>,
    {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        let key = (kind, namespace.to_owned(), owner.name.clone());
        let found = self.read(key, &api, &owner.name).await?;
        // Another object that has the name now is not the owner.
        Ok(found.filter(|meta| meta.uid == owner.uid))
    }

    async fn read<K>(&self, key: Key, api: &Api<K>, name: &str) -> Result<Option<Meta>, kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + for<'de> serde::Deserialize<'de>,
    {
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let answer = deadline("reading the owner of a pod", api.get_metadata_opt(name)).await?;
        let meta = answer.map(|object| Meta {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            controller: controller_of(&object.metadata),
            annotations: object.metadata.annotations.unwrap_or_default(),
        });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(key, (Instant::now(), meta.clone()));
        Ok(meta)
    }

    fn known(&self, key: &Key) -> Option<Option<Meta>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (read, _)| read.elapsed() < KEPT);
        kept.get(key).map(|(_, meta)| meta.clone())
    }
}

fn controller_of(meta: &ObjectMeta) -> Option<OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)).cloned()
}

fn layer(origin: &str, meta: &Meta) -> Layer {
    Layer::of_annotations(origin, Some(&meta.annotations))
}
