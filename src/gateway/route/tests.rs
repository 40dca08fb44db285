use super::super::query::{ListAsk, WatchAsk};
use super::*;

const NODE: &str = "burst";

fn ask(line: &str) -> Result<Request, Denied> {
    let (method, uri) = line.split_once(' ').unwrap();
    let (path, query) = match uri.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (uri, None),
    };
    parse(&method.parse().unwrap(), path, query, NODE)
}

fn allowed(line: &str) -> Request {
    ask(line).unwrap_or_else(|denied| panic!("{line}: {denied}"))
}

fn refused(line: &str) -> Rule {
    match ask(line) {
        Ok(request) => panic!("{line}: allowed as {request:?}"),
        Err(denied) => denied.rule,
    }
}

fn object(namespace: &str, name: &str) -> Object {
    Object { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn list() -> Read {
    Read::List(ListAsk::default())
}

fn watch() -> Read {
    Read::Watch(WatchAsk::default())
}

#[test]
fn every_row_of_the_table_is_told_apart() {
    let rows = [
        ("GET /api/v1/pods?fieldSelector=spec.nodeName%3Dburst", Request::Pods(list())),
        ("GET /api/v1/pods?fieldSelector=spec.nodeName%3Dburst&watch=true", Request::Pods(watch())),
        ("GET /api/v1/namespaces/ns/pods/web", Request::Pod(object("ns", "web"))),
        ("PATCH /api/v1/namespaces/ns/pods/web/status", Request::PatchPodStatus(object("ns", "web"))),
        ("DELETE /api/v1/namespaces/ns/pods/web", Request::DeletePod(object("ns", "web"))),
        ("GET /api/v1/nodes?fieldSelector=metadata.name%3Dburst", Request::Nodes(list())),
        ("GET /api/v1/nodes?fieldSelector=metadata.name%3Dburst&watch=1", Request::Nodes(watch())),
        ("GET /api/v1/nodes/burst?resourceVersion=0&timeout=10s", Request::Node),
        ("PATCH /api/v1/nodes/burst/status?timeout=10s", Request::PatchNodeStatus),
        ("GET /api/v1/services?fieldSelector=spec.clusterIP%21%3DNone", Request::Services(list())),
        ("GET /api/v1/services?watch=true", Request::Services(watch())),
        (
            "GET /api/v1/namespaces/ns/secrets/key",
            Request::Source(SourceKind::Secret, object("ns", "key"), SourceRead::Get),
        ),
        (
            "GET /api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3Dkey&watch=true",
            Request::Source(SourceKind::Secret, object("ns", "key"), SourceRead::Collection(watch())),
        ),
        (
            "GET /api/v1/namespaces/ns/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt",
            Request::Source(
                SourceKind::ConfigMap,
                object("ns", "kube-root-ca.crt"),
                SourceRead::Collection(list()),
            ),
        ),
        ("POST /api/v1/namespaces/ns/events", Request::CreateEvent { namespace: "ns".to_owned() }),
        ("PATCH /api/v1/namespaces/ns/events/web.17a", Request::PatchEvent(object("ns", "web.17a"))),
        (
            "POST /api/v1/namespaces/ns/serviceaccounts/default/token",
            Request::CreateToken { namespace: "ns".to_owned(), account: "default".to_owned() },
        ),
        ("GET /apis/node.k8s.io/v1/runtimeclasses", Request::RuntimeClasses(list())),
        ("GET /apis/node.k8s.io/v1/runtimeclasses/gvisor", Request::RuntimeClass("gvisor".to_owned())),
        ("GET /apis/storage.k8s.io/v1/csidrivers?watch=true", Request::CsiDrivers(watch())),
        ("GET /apis/storage.k8s.io/v1/csinodes/burst", Request::Private(Slot::CsiNode, Verb::Get)),
        ("POST /apis/storage.k8s.io/v1/csinodes", Request::Private(Slot::CsiNode, Verb::Create)),
        ("PUT /apis/storage.k8s.io/v1/csinodes/burst", Request::Private(Slot::CsiNode, Verb::Update)),
        ("DELETE /apis/storage.k8s.io/v1/csinodes/burst", Request::Private(Slot::CsiNode, Verb::Delete)),
        (
            "GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/burst?timeout=5s",
            Request::Private(Slot::Lease, Verb::Get),
        ),
        (
            "POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
            Request::Private(Slot::Lease, Verb::Create),
        ),
        (
            "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/burst",
            Request::Private(Slot::Lease, Verb::Update),
        ),
        (
            "DELETE /apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3Dburst",
            Request::DeleteResourceSlices,
        ),
        ("DELETE /apis/resource.k8s.io/v1beta1/resourceslices", Request::DeleteResourceSlices),
        ("GET /apis/resource.k8s.io/v1/resourceslices", Request::ResourceSlices(list())),
    ];
    for (line, expected) in rows {
        assert_eq!(allowed(line), expected, "{line}");
    }
}

#[test]
fn other_nodes_and_their_pods_are_refused() {
    for line in [
        "GET /api/v1/nodes/other",
        "PATCH /api/v1/nodes/other/status",
        "GET /api/v1/nodes",
        "GET /api/v1/nodes?fieldSelector=metadata.name%3Dother",
        "GET /api/v1/nodes?fieldSelector=metadata.name%21%3Dburst",
        "GET /api/v1/pods",
        "GET /api/v1/pods?watch=true",
        "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dother",
        "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dburst%2Cmetadata.name%3Dx",
        "GET /apis/storage.k8s.io/v1/csinodes/other",
        "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/other",
    ] {
        assert_eq!(refused(line), Rule::Foreign, "{line}");
    }
}

#[test]
fn secrets_are_listed_by_one_name_only() {
    for line in [
        "GET /api/v1/namespaces/ns/secrets",
        "GET /api/v1/namespaces/ns/secrets?watch=true",
        "GET /api/v1/namespaces/ns/secrets?fieldSelector=type%3DOpaque",
        "GET /api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3D",
        "GET /api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3Da%2Ctype%3DOpaque",
        "GET /api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%21%3Da",
        "GET /api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3D%3Da",
        "GET /api/v1/namespaces/ns/configmaps",
    ] {
        assert_eq!(refused(line), Rule::Unreferenced, "{line}");
    }
    assert_eq!(refused("GET /api/v1/secrets?fieldSelector=metadata.name%3Da"), Rule::Unlisted);
}

#[test]
fn a_path_is_written_in_one_way_only() {
    for line in [
        "GET /api/v1/namespaces/ns/pods/../secrets/key",
        "GET /api/v1/namespaces/ns/pods/./web",
        "GET /api/v1/namespaces/ns/pods/%2e%2e",
        "GET /api/v1/namespaces/ns/pods/web%2fstatus",
        "GET /api/v1/namespaces/ns/pods/web%2Fexec",
        "GET /api/v1/namespaces/ns%2fsecrets/pods/web",
        "GET //api/v1/pods",
        "GET /api/v1/nodes/burst/",
        "GET /api/v1/nodes//burst",
        "GET /api/v1/nodes/BURST",
        "GET /api/v1/nodes/burst\\x",
        "GET /api/v1/namespaces/ns/pods/web;x",
        "GET /api/v1/namespaces/ns/pods/a..b",
        "GET api/v1/pods",
        "GET *",
    ] {
        assert_eq!(refused(line), Rule::Path, "{line}");
    }
}

#[test]
fn doubled_and_unknown_parameters_are_refused() {
    for line in [
        "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dburst&fieldSelector=spec.nodeName%3Dother",
        "GET /api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3Da&fieldSelector=metadata.name%3Db",
        "GET /api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3Da&labelSelector=x",
        "PATCH /api/v1/namespaces/ns/pods/web/status?force=true",
        "PATCH /api/v1/namespaces/ns/pods/web/status?fieldManager=x",
        "DELETE /api/v1/namespaces/ns/pods/web?gracePeriodSeconds=0",
        "DELETE /api/v1/namespaces/ns/pods/web?propagationPolicy=Orphan",
        "POST /api/v1/namespaces/ns/events?dryRun=All",
        "GET /apis/node.k8s.io/v1/runtimeclasses?fieldSelector=metadata.name%3Dx",
    ] {
        assert_eq!(refused(line), Rule::Query, "{line}");
    }
}

#[test]
fn mirror_pods_are_refused_under_a_rule_of_their_own() {
    assert_eq!(refused("POST /api/v1/namespaces/kube-system/pods"), Rule::MirrorPod);
}

#[test]
fn everything_else_is_refused() {
    for line in [
        "GET /",
        "GET /api",
        "GET /apis",
        "GET /version",
        "GET /healthz",
        "GET /openapi/v3",
        "GET /api/v1/namespaces",
        "GET /api/v1/namespaces/ns",
        "GET /api/v1/namespaces/ns/pods",
        "POST /api/v1/nodes",
        "PATCH /api/v1/nodes/burst",
        "PUT /api/v1/nodes/burst/status",
        "DELETE /api/v1/nodes/burst",
        "GET /api/v1/nodes/burst/proxy",
        "PUT /api/v1/namespaces/ns/pods/web/status",
        "PATCH /api/v1/namespaces/ns/pods/web",
        "PUT /api/v1/namespaces/ns/pods/web",
        "DELETE /api/v1/namespaces/ns/pods",
        "DELETE /api/v1/pods",
        "GET /api/v1/namespaces/ns/pods/web/log",
        "GET /api/v1/namespaces/ns/pods/web/exec",
        "POST /api/v1/namespaces/ns/pods/web/exec",
        "POST /api/v1/namespaces/ns/pods/web/eviction",
        "POST /api/v1/namespaces/ns/pods/web/binding",
        "PATCH /api/v1/namespaces/ns/pods/web/ephemeralcontainers",
        "PATCH /api/v1/namespaces/ns/pods/web/resize",
        "POST /api/v1/namespaces/ns/secrets",
        "PUT /api/v1/namespaces/ns/secrets/key",
        "PATCH /api/v1/namespaces/ns/configmaps/key",
        "DELETE /api/v1/namespaces/ns/secrets/key",
        "GET /api/v1/namespaces/ns/services",
        "GET /api/v1/watch/pods",
        "GET /api/v1/namespaces/ns/serviceaccounts/default",
        "POST /api/v1/namespaces/ns/serviceaccounts/default",
        "GET /api/v1/namespaces/ns/events",
        "DELETE /api/v1/namespaces/ns/events/web.17a",
        "GET /api/v1/persistentvolumes/pv",
        "GET /api/v1/namespaces/ns/persistentvolumeclaims/pvc",
        "GET /apis/storage.k8s.io/v1/volumeattachments/va",
        "GET /apis/storage.k8s.io/v1/csinodes",
        "GET /apis/coordination.k8s.io/v1/namespaces/other/leases/burst",
        "GET /apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/claim",
        "POST /apis/resource.k8s.io/v1/resourceslices",
        "GET /apis/certificates.k8s.io/v1/clustertrustbundles",
        "POST /apis/certificates.k8s.io/v1/certificatesigningrequests",
        "POST /apis/certificates.k8s.io/v1/namespaces/ns/podcertificaterequests",
        "POST /apis/authentication.k8s.io/v1/tokenreviews",
        "POST /apis/authorization.k8s.io/v1/subjectaccessreviews",
        "POST /apis/events.k8s.io/v1/namespaces/ns/events",
        "GET /apis/rbac.authorization.k8s.io/v1/clusterroles",
        "GET /apis/apps/v1/deployments",
        "HEAD /api/v1/nodes/burst",
        "OPTIONS /api/v1/nodes/burst",
        "CONNECT /api/v1/nodes/burst",
    ] {
        assert!(matches!(refused(line), Rule::Unlisted | Rule::Path), "{line}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_that_a_guest_asks_makes_it_panic(
        method in "(GET|POST|PATCH|DELETE|PUT)", path in "(/api/v1|/apis)[/.%a-z0-9-]{0,60}", query in "\\PC{0,60}", any: String
    ) {
        let method = method.parse().unwrap();
        drop(parse(&method, &path, Some(&query), NODE));
        drop(parse(&method, &any, None, NODE));
    }
}
