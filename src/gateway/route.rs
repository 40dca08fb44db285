//! What a guest may ask, and nothing else: method, path and query in, one [`Request`] out.
//!
//! Pure. Whether the thing asked for is this guest's own is decided by whoever answers; here it is only
//! told apart from all the rest.

use http::Method;

use super::denied::{Denied, Rule};
use super::query::{Query, Read};

/// Everything that a guest kubelet may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The pods of this node: the guest's own.
    Pods(Read),
    Pod(Object),
    PatchPodStatus(Object),
    DeletePod(Object),
    /// The private Node.
    Nodes(Read),
    Node,
    PatchNodeStatus,
    /// The node's Lease or CSINode, private.
    Private(Slot, Verb),
    /// None are shown, and none are kept.
    ResourceSlices(Read),
    DeleteResourceSlices,
    CsiDrivers(Read),
    Services(Read),
    RuntimeClasses(Read),
    RuntimeClass(String),
    /// One Secret or ConfigMap.
    Source(SourceKind, Object, SourceRead),
    CreateEvent {
        namespace: String,
    },
    PatchEvent(Object),
    CreateToken {
        namespace: String,
        account: String,
    },
}

/// A namespaced name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub namespace: String,
    pub name: String,
}

/// What a pod takes its configuration from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    Secret,
    ConfigMap,
}

/// How a Secret or ConfigMap is read: always one, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceRead {
    Get,
    Collection(Read),
}

/// An object that never leaves the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Lease,
    CsiNode,
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Create,
    Update,
    Delete,
}

impl SourceKind {
    /// The resource's name in paths.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
        }
    }
}

impl Request {
    /// Whether answering may take a request to the API server.
    pub(crate) fn may_reach_the_api_server(&self) -> bool {
        match self {
            Self::Pods(_)
            | Self::Pod(_)
            | Self::PatchPodStatus(_)
            | Self::DeletePod(_)
            | Self::RuntimeClasses(_)
            | Self::RuntimeClass(_)
            | Self::Source(..)
            | Self::CreateEvent { .. }
            | Self::PatchEvent(_)
            | Self::CreateToken { .. } => true,
            Self::Nodes(_)
            | Self::Node
            | Self::PatchNodeStatus
            | Self::Private(..)
            | Self::ResourceSlices(_)
            | Self::DeleteResourceSlices
            | Self::CsiDrivers(_)
            | Self::Services(_) => false,
        }
    }
}

/// Reads one request of a guest of `node`. `path` is as it came, still encoded.
pub(crate) fn parse(method: &Method, path: &str, query: Option<&str>, node: &str) -> Result<Request, Denied> {
    let segments = segments(path)?;
    let query = Query::parse(query)?;
    match segments.as_slice() {
        ["api", "v1", rest @ ..] => core(method, rest, &query, node),
        // Older kubelets use older versions. Whatever is selected: nothing of it exists, and the request must
        // never reach the API server, where it would delete what the whole virtual node has.
        ["apis", "resource.k8s.io", _, "resourceslices"] if method == Method::DELETE => {
            Ok(Request::DeleteResourceSlices)
        }
        ["apis", group, "v1", rest @ ..] => grouped(method, group, rest, &query, node),
        _ => Err(unlisted(method, path)),
    }
}

fn core(method: &Method, rest: &[&str], query: &Query, node: &str) -> Result<Request, Denied> {
    let object =
        |namespace: &str, name: &str| Object { namespace: namespace.to_owned(), name: name.to_owned() };
    match (method.as_str(), rest) {
        ("GET", ["pods"]) => {
            selected(query, &[&format!("spec.nodeName={node}")])?;
            Ok(Request::Pods(query.read()?))
        }
        ("GET", ["nodes"]) => {
            selected(query, &[&format!("metadata.name={node}")])?;
            Ok(Request::Nodes(query.read()?))
        }
        ("GET", ["services"]) => {
            // The second is what the kubelet sends; headless Services are never shown anyway.
            if query.field_selector().is_some() {
                selected(query, &["spec.clusterIP!=None"])?;
            }
            Ok(Request::Services(query.read()?))
        }
        ("GET", ["nodes", name]) => {
            own_node(name, node)?;
            query.only(&["resourceVersion"])?;
            Ok(Request::Node)
        }
        ("PATCH", ["nodes", name, "status"]) => {
            own_node(name, node)?;
            query.only(&[])?;
            Ok(Request::PatchNodeStatus)
        }
        ("POST", ["namespaces", _, "pods"]) => {
            Err(Denied::new(Rule::MirrorPod, "static pods have no mirror on this node"))
        }
        ("GET", ["namespaces", namespace, "pods", name]) => {
            query.only(&["resourceVersion"])?;
            Ok(Request::Pod(object(namespace, name)))
        }
        ("DELETE", ["namespaces", namespace, "pods", name]) => {
            query.only(&[])?;
            Ok(Request::DeletePod(object(namespace, name)))
        }
        ("PATCH", ["namespaces", namespace, "pods", name, "status"]) => {
            query.only(&[])?;
            Ok(Request::PatchPodStatus(object(namespace, name)))
        }
        ("GET", ["namespaces", namespace, plural, name]) if source(plural).is_some() => {
            query.only(&["resourceVersion"])?;
            let kind = source(plural).ok_or_else(|| unlisted(method, plural))?;
            Ok(Request::Source(kind, object(namespace, name), SourceRead::Get))
        }
        ("GET", ["namespaces", namespace, plural]) if source(plural).is_some() => {
            let kind = source(plural).ok_or_else(|| unlisted(method, plural))?;
            let selector = query.field_selector().unwrap_or_default();
            let name = selector.strip_prefix("metadata.name=").unwrap_or_default();
            if name.is_empty() || !is_name(name) {
                let text =
                    format!("{plural} are listed one by one, with the field selector metadata.name=NAME");
                return Err(Denied::new(Rule::Unreferenced, text));
            }
            Ok(Request::Source(kind, object(namespace, name), SourceRead::Collection(query.read()?)))
        }
        ("POST", ["namespaces", namespace, "events"]) => {
            query.only(&[])?;
            Ok(Request::CreateEvent { namespace: (*namespace).to_owned() })
        }
        ("PATCH", ["namespaces", namespace, "events", name]) => {
            query.only(&[])?;
            Ok(Request::PatchEvent(object(namespace, name)))
        }
        ("POST", ["namespaces", namespace, "serviceaccounts", account, "token"]) => {
            query.only(&[])?;
            Ok(Request::CreateToken { namespace: (*namespace).to_owned(), account: (*account).to_owned() })
        }
        _ => Err(unlisted(method, &rest.join("/"))),
    }
}

fn grouped(
    method: &Method,
    group: &str,
    rest: &[&str],
    query: &Query,
    node: &str,
) -> Result<Request, Denied> {
    match (method.as_str(), group, rest) {
        ("GET", "node.k8s.io", ["runtimeclasses"]) => {
            no_selector(query)?;
            Ok(Request::RuntimeClasses(query.read()?))
        }
        ("GET", "node.k8s.io", ["runtimeclasses", name]) => {
            query.only(&["resourceVersion"])?;
            Ok(Request::RuntimeClass((*name).to_owned()))
        }
        ("GET", "storage.k8s.io", ["csidrivers"]) => {
            no_selector(query)?;
            Ok(Request::CsiDrivers(query.read()?))
        }
        ("GET", "resource.k8s.io", ["resourceslices"]) => Ok(Request::ResourceSlices(query.read()?)),
        (_, "storage.k8s.io", ["csinodes", rest @ ..]) => slot(Slot::CsiNode, method, rest, query, node),
        (_, "coordination.k8s.io", ["namespaces", "kube-node-lease", "leases", rest @ ..]) => {
            slot(Slot::Lease, method, rest, query, node)
        }
        _ => Err(unlisted(method, &format!("{group}/{}", rest.join("/")))),
    }
}

fn slot(slot: Slot, method: &Method, rest: &[&str], query: &Query, node: &str) -> Result<Request, Denied> {
    query.only(&["resourceVersion"])?;
    if let Some(name) = rest.first() {
        own_node(name, node)?;
    }
    let verb = match (method.as_str(), rest) {
        ("POST", []) => Verb::Create,
        ("GET", [_]) => Verb::Get,
        ("PUT", [_]) => Verb::Update,
        ("DELETE", [_]) => Verb::Delete,
        _ => return Err(unlisted(method, &rest.join("/"))),
    };
    Ok(Request::Private(slot, verb))
}

/// Splits a path that is written in the one way we accept: no escapes, no dots, nothing empty.
fn segments(path: &str) -> Result<Vec<&str>, Denied> {
    let bad = |why: &str| Denied::new(Rule::Path, format!("the path {why}"));
    let rest = path.strip_prefix('/').ok_or_else(|| bad("does not begin with a slash"))?;
    let segments: Vec<&str> = rest.split('/').collect();
    if segments.iter().all(|segment| is_name(segment)) {
        Ok(segments)
    } else {
        Err(bad("holds something else than names of letters, digits, dots and dashes"))
    }
}

/// Whether this can be the name of something a kubelet asks for. It then needs no escaping in a path or query,
/// and means the same to everyone.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    (1..=253).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !text.contains("..")
}

fn source(plural: &str) -> Option<SourceKind> {
    [SourceKind::Secret, SourceKind::ConfigMap].into_iter().find(|kind| kind.plural() == plural)
}

fn selected(query: &Query, expected: &[&str]) -> Result<(), Denied> {
    let found = query.field_selector().unwrap_or_default();
    if expected.contains(&found) {
        return Ok(());
    }
    let text = format!("the field selector is `{found}`, expected `{}`", expected.join("` or `"));
    Err(Denied::new(Rule::Foreign, text))
}

fn no_selector(query: &Query) -> Result<(), Denied> {
    match query.field_selector() {
        None => Ok(()),
        Some(found) => {
            Err(Denied::new(Rule::Query, format!("the field selector is `{found}`, expected none")))
        }
    }
}

fn own_node(name: &str, node: &str) -> Result<(), Denied> {
    if name == node {
        return Ok(());
    }
    Err(Denied::new(Rule::Foreign, format!("the node is `{name}`, expected `{node}`")))
}

fn unlisted(method: &Method, path: &str) -> Denied {
    Denied::new(Rule::Unlisted, format!("{method} of `{path}` is nothing a guest may ask"))
}

#[cfg(test)]
mod tests;
