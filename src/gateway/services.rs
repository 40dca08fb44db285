//! The Services that make a pod's environment: those of its namespace, and default/kubernetes.
//!
//! One watch of the cluster's Services serves all guests. Of each only what a kubelet reads is kept, as text,
//! so that ten thousand of them stay within a few megabytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::snapshot::{Item, SERVICE, Snapshot};

/// Namespace, then name; each Service as JSON.
type All = BTreeMap<String, BTreeMap<String, Arc<str>>>;

/// All Services, and a view for each namespace that has guests.
#[derive(Debug)]
pub(crate) struct Services {
    inner: Mutex<Inner>,
    watch_errors: Counter,
}

#[derive(Debug)]
struct Inner {
    all: All,
    synced: bool,
    views: HashMap<String, watch::Sender<Option<Arc<Snapshot>>>>,
    version: u64,
}

impl Services {
    /// Nothing known yet. Versions start at `version`, which must be newer than those of an earlier process.
    pub(crate) fn new(version: u64, watch_errors: Counter) -> Arc<Self> {
        let inner = Inner { all: BTreeMap::new(), synced: false, views: HashMap::new(), version };
        Arc::new(Self { inner: Mutex::new(inner), watch_errors })
    }

    /// What guests of `namespace` see, with changes; `None` until the first list was read.
    pub(crate) fn view(&self, namespace: &str) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut inner = self.lock();
        if !inner.views.contains_key(namespace) {
            inner.views.insert(namespace.to_owned(), watch::Sender::new(None));
            inner.rebuild(namespace);
        }
        inner.views[namespace].subscribe()
    }

    /// There are no guests of `namespace` any more.
    pub(crate) fn forget(&self, namespace: &str) {
        self.lock().views.remove(namespace);
    }

    /// Watches for ever; errors back off.
    pub(crate) async fn run(self: Arc<Self>, client: kube::Client) {
        let api: Api<DeserializeGuard<Service>> = Api::all(client);
        let config = watcher::Config::default().fields("spec.clusterIP!=None");
        let mut events = watcher::watcher(api, config).default_backoff().boxed();
        let mut listed = BTreeMap::new();
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Init)) => listed = BTreeMap::new(),
                Ok(Some(watcher::Event::InitApply(service))) => insert(&mut listed, service),
                Ok(Some(watcher::Event::InitDone)) => self.replace(std::mem::take(&mut listed)),
                Ok(Some(watcher::Event::Apply(service))) => self.apply(service),
                Ok(Some(watcher::Event::Delete(service))) => self.remove(&service),
                Ok(None) => return,
                Err(error) => {
                    self.watch_errors.inc();
                    tracing::warn!(%error, "watching Services failed, trying again");
                }
            }
        }
    }

    fn replace(&self, all: All) {
        let mut inner = self.lock();
        inner.all = all;
        inner.synced = true;
        inner.rebuild_all();
    }

    fn apply(&self, service: DeserializeGuard<Service>) {
        let mut inner = self.lock();
        let namespace = namespace_of(&service);
        insert(&mut inner.all, service);
        inner.changed(&namespace);
    }

    fn remove(&self, service: &DeserializeGuard<Service>) {
        let mut inner = self.lock();
        let namespace = namespace_of(service);
        if let (Some(services), Some(name)) = (inner.all.get_mut(&namespace), name_of(service)) {
            services.remove(name);
        }
        inner.changed(&namespace);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn changed(&mut self, namespace: &str) {
        if namespace == "default" {
            self.rebuild_all();
        } else {
            self.rebuild(namespace);
        }
    }

    fn rebuild_all(&mut self) {
        let open: Vec<String> = self.views.keys().cloned().collect();
        for namespace in open {
            self.rebuild(&namespace);
        }
    }

    /// Makes the view of `namespace` anew. Its version changes only if its content does.
    fn rebuild(&mut self, namespace: &str) {
        let Some(view) = self.views.get(namespace).filter(|_| self.synced) else { return };
        let version = self.version + 1;
        let before = view.borrow().clone();
        let mut items = BTreeMap::new();
        let api_server = self.all.get("default").and_then(|services| services.get("kubernetes"));
        let api_server = api_server.map(|text| ("default/kubernetes".to_owned(), text));
        let own = self.all.get(namespace).into_iter().flatten();
        let own = own.map(|(name, text)| (format!("{namespace}/{name}"), text));
        for (key, text) in api_server.into_iter().chain(own) {
            let old = before.as_ref().and_then(|before| before.items.get(&key));
            let item = match old {
                Some(old) if object(text, old.version).as_ref() == Some(&*old.object) => old.clone(),
                Some(_) | None => match object(text, version) {
                    Some(object) => Item { version, object: Arc::new(object) },
                    None => continue,
                },
            };
            items.insert(key, item);
        }
        let snapshot = Snapshot { version, items };
        if before.is_none_or(|before| before.items != snapshot.items) {
            view.send_replace(Some(Arc::new(snapshot)));
            self.version = version;
        }
    }
}

fn insert(all: &mut All, service: DeserializeGuard<Service>) {
    let namespace = namespace_of(&service);
    match service.0 {
        Ok(service) => {
            let spec = service.spec.unwrap_or_default();
            let name = service.metadata.name.unwrap_or_default();
            let text = json!({
                "apiVersion": SERVICE.api_version,
                "kind": SERVICE.kind,
                "metadata": { "name": name, "namespace": namespace, "uid": service.metadata.uid },
                "spec": {
                    "type": spec.type_,
                    "clusterIP": spec.cluster_ip,
                    "clusterIPs": spec.cluster_ips,
                    "ports": spec.ports,
                },
            });
            all.entry(namespace).or_default().insert(name, text.to_string().into());
        }
        Err(error) => {
            tracing::error!(service.namespace = namespace, service.name = ?error.metadata.name, error = %error.error, "a Service does not parse and is left out");
        }
    }
}

fn object(text: &str, version: u64) -> Option<Value> {
    let mut object: Value = serde_json::from_str(text).ok()?;
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    Some(object)
}

fn namespace_of(service: &DeserializeGuard<Service>) -> String {
    let metadata = match &service.0 {
        Ok(service) => &service.metadata,
        Err(error) => &error.metadata,
    };
    metadata.namespace.clone().unwrap_or_default()
}

fn name_of(service: &DeserializeGuard<Service>) -> Option<&str> {
    match &service.0 {
        Ok(service) => service.metadata.name.as_deref(),
        Err(error) => error.metadata.name.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> DeserializeGuard<Service> {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": namespace, "name": name, "annotations": { "large": "x" } },
            "spec": { "clusterIP": ip, "selector": { "app": "x" } },
        }))
        .unwrap()
    }

    fn listed(services: &[(&str, &str)]) -> All {
        let mut all = BTreeMap::new();
        for (namespace, name) in services {
            insert(&mut all, service(namespace, name, "10.96.0.1"));
        }
        all
    }

    fn keys(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.items.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_guest_sees_its_namespace_and_the_api_server_once_both_are_known() {
        let services = Services::new(100, Counter::default());
        let view = services.view("ns");
        assert!(view.borrow().is_none());
        services.replace(listed(&[
            ("default", "kubernetes"),
            ("default", "web"),
            ("ns", "db"),
            ("other", "x"),
        ]));
        let snapshot = view.borrow().clone().unwrap();
        assert_eq!(keys(&snapshot), ["default/kubernetes", "ns/db"]);
        assert_eq!(
            keys(&services.view("default").borrow().clone().unwrap()),
            ["default/kubernetes", "default/web"]
        );
        let object = &snapshot.items["ns/db"].object;
        assert_eq!(object["metadata"]["resourceVersion"], snapshot.version.to_string());
        assert!(object["metadata"].get("annotations").is_none() && object["spec"].get("selector").is_none());
    }

    #[test]
    fn versions_change_with_the_content_of_the_view_alone() {
        let services = Services::new(100, Counter::default());
        let view = services.view("ns");
        services.replace(listed(&[("default", "kubernetes"), ("ns", "db")]));
        let first = view.borrow().clone().unwrap();
        services.apply(service("other", "x", "10.96.0.9"));
        services.replace(listed(&[("default", "kubernetes"), ("ns", "db")]));
        assert_eq!(*view.borrow().clone().unwrap(), *first);
        services.apply(service("ns", "db", "10.96.0.7"));
        let second = view.borrow().clone().unwrap();
        assert!(second.version > first.version);
        assert_eq!(second.items["default/kubernetes"], first.items["default/kubernetes"]);
        services.remove(&service("ns", "db", ""));
        assert!(view.borrow().clone().unwrap().version > second.version);
    }
}
