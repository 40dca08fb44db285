//! A guest against the gateway, over TLS, with a small API server behind it.

mod world;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use self::world::{NODE, World, guest, pod, typed};
use super::denied::Rule;

const PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dburst";
const POD: &str = "/api/v1/namespaces/ns/pods/web";
const WATCH_LIST: &str = "/api/v1/pods?allowWatchBookmarks=true&fieldSelector=spec.nodeName%3Dburst\
     &resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeoutSeconds=400&watch=true";

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn watch_from(version: &str) -> String {
    format!("{PODS}&watch=true&resourceVersion={version}")
}

/// Waits for something that another task does.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within 10 s");
}

/// The Node and Services are read by watches of the gateway's own.
async fn until_ready(session: &super::Session, world: &World) {
    let ready = || session.node().is_some() && world.gateway.shared.services.view("ns").borrow().is_some();
    until(ready).await;
}

#[tokio::test]
async fn a_kubelet_gets_its_pod_by_watch_list_and_follows_it_to_its_end() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    assert!(!session.progress().borrow().shown);
    let mut watch = client.watch(WATCH_LIST).await;
    let added = watch.next().await.unwrap();
    assert_eq!((&added["type"], &added["object"]["metadata"]["uid"]), (&json!("ADDED"), &json!("6a1")));
    assert_eq!(added["object"]["spec"]["containers"][0]["env"][0]["value"], "0");
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(session.progress().borrow().shown);

    world.pods.apply(&typed(&pod("6a1", "8")));
    assert_eq!(watch.told().await, text("MODIFIED@8"));
    world.api.pod_is_absent();
    world.pods.replace(HashMap::new());
    assert_eq!(watch.told().await, text("DELETED@9"));
    assert!(session.progress().borrow().told_gone);
}

#[tokio::test]
async fn older_kubelets_list_then_watch_and_get_410_for_what_cannot_be_resumed() {
    let (world, session) = World::with_pod("7").await;
    let client = world.dial(&session, &session.token(), "http/1.1").await;
    let (status, list) = client.get(&format!("{PODS}&limit=500&resourceVersion=0")).await;
    assert_eq!(
        (status, &list["kind"], &list["metadata"]["resourceVersion"]),
        (200, &json!("PodList"), &json!("7"))
    );
    assert_eq!(list["items"][0]["metadata"]["uid"], "6a1");
    let (status, gone) = client.get(&watch_from("6")).await;
    assert_eq!((status, &gone["reason"]), (410, &json!("Expired")));
    let mut watch = client.watch(&watch_from("7")).await;
    world.pods.apply(&typed(&pod("6a1", "9")));
    assert_eq!(watch.told().await, text("MODIFIED@9"));
}

#[tokio::test]
async fn a_version_from_the_future_is_waited_for_and_then_refused_with_504() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.pods.apply(&typed(&pod("6a1", "8")));
    };
    let newer = format!("{PODS}&resourceVersion=8&resourceVersionMatch=NotOlderThan");
    let ((status, list), ()) = tokio::join!(client.get(&newer), later);
    assert_eq!((status, &list["metadata"]["resourceVersion"]), (200, &json!("8")));
    let (status, early) = client.get(&format!("{PODS}&resourceVersion=99")).await;
    assert_eq!((status, &early["details"]["causes"][0]["reason"]), (504, &json!("ResourceVersionTooLarge")));
}

#[tokio::test]
async fn no_pod_list_is_answered_before_the_pods_were_read() {
    let world = World::new().await;
    world.api.pod_is_absent();
    let session = world.gateway.admit(guest("6a1", "i-1"));
    let client = world.client(&session).await;
    for uri in [PODS, WATCH_LIST, &watch_from("7")] {
        assert_eq!(client.get(uri).await.0, 503, "{uri}");
    }
    assert_eq!(*session.progress().borrow(), super::Progress::default());
}

#[tokio::test]
async fn an_absence_is_not_believed_without_the_api_servers_word() {
    let world = World::new().await;
    let session = world.gateway.admit(guest("6a1", "i-1"));
    let client = world.client(&session).await;
    world.pods.replace(HashMap::new());
    let live = "GET /api/v1/namespaces/ns/pods/web";
    for (status, body) in [
        (500, json!({ "kind": "Status" })),
        (403, json!({ "kind": "Status", "reason": "Forbidden" })),
        (401, json!({ "kind": "Status" })),
        (
            404,
            json!({ "kind": "Status", "reason": "NotFound", "details": { "kind": "namespaces", "name": "ns" } }),
        ),
    ] {
        world.api.answer(live, status, &body);
        for uri in [PODS, WATCH_LIST] {
            assert_eq!(client.get(uri).await.0, 503, "{status} {uri}");
        }
    }
    world.api.answer_text(live, 404, "<html>nothing here</html>");
    assert_eq!(client.get(PODS).await.0, 503);
    assert!(!session.progress().borrow().told_gone);

    world.api.pod_is_absent();
    let (status, list) = client.get(&format!("{PODS}&resourceVersion=500")).await;
    assert_eq!((status, &list["items"]), (200, &json!([])));
    assert!(session.progress().borrow().told_gone);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = client.watch(&watch_from(version)).await;
    assert!(watch.is_silent().await);
}

#[tokio::test]
async fn a_kubelet_that_goes_on_after_a_restart_learns_that_its_pod_is_gone() {
    let world = World::new().await;
    let session = world.gateway.admit(guest("6a1", "i-1"));
    let client = world.client(&session).await;
    world.pods.replace(HashMap::new());
    world.api.pod_is_absent();
    assert_eq!(client.get(&watch_from("7")).await.0, 410);
    assert!(!session.progress().borrow().told_gone);
    let (status, list) = client.get(&format!("{PODS}&resourceVersion=7")).await;
    assert_eq!((status, &list["items"]), (200, &json!([])));
    assert!(session.progress().borrow().told_gone);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    assert!(client.watch(&watch_from(version)).await.is_silent().await);
}

#[tokio::test]
async fn a_pod_that_the_cache_lost_is_still_shown_if_it_lives() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let mut watch = client.watch(WATCH_LIST).await;
    assert_eq!(watch.told().await, text("ADDED@7"));
    assert_eq!(watch.told().await, text("BOOKMARK@7"));
    world.pods.replace(HashMap::new());
    assert!(watch.is_silent().await);
    assert_eq!(client.get(PODS).await.1["items"][0]["metadata"]["uid"], "6a1");
    assert!(!session.progress().borrow().told_gone);
    world.api.pod_is_absent();
    assert_eq!(watch.told().await, text("DELETED@8"));
}

#[tokio::test]
async fn a_pod_of_the_same_name_is_never_shown() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let mut watch = client.watch(WATCH_LIST).await;
    assert_eq!(watch.told().await, text("ADDED@7"));
    assert_eq!(watch.told().await, text("BOOKMARK@7"));
    world.api.pod_is_live(&pod("7b2", "12"));
    world.pods.apply(&typed(&pod("7b2", "12")));
    assert_eq!(watch.told().await, text("DELETED@8"));
    assert!(watch.is_silent().await);
    assert_eq!(client.get(PODS).await.1["items"], json!([]));
    assert_eq!(client.get(POD).await.0, 404);
    let patch = json!({ "metadata": { "uid": "7b2" }, "status": {} });
    assert_eq!(client.status(&format!("PATCH {POD}/status"), &patch).await, 403);
}

#[tokio::test]
async fn a_revoked_guest_is_cut_off_and_never_shown_its_pod() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let other = world.gateway.admit(guest("6a1", "i-1"));
    assert!(std::sync::Arc::ptr_eq(&session, &other));
    let mut services = {
        until_ready(&session, &world).await;
        client.watch("/api/v1/services?watch=true").await
    };
    session.revoke();
    while services.next().await.is_some() {}
    for uri in [PODS, WATCH_LIST, POD, "/api/v1/nodes/burst", "/api/v1/services"] {
        assert_eq!(client.get(uri).await.0, 403, "{uri}");
    }
    assert!(!session.show(), "nor by an answer that was under way");
    let progress = *session.progress().borrow();
    assert!(progress.revoked && !progress.shown);
    assert!(world.gateway.shared.metrics.denials.of(Rule::Revoked) >= 5);
    assert!(std::sync::Arc::ptr_eq(&session, &world.gateway.admit(guest("6a1", "i-1"))));
}

#[tokio::test]
async fn a_token_is_good_for_one_machine_through_its_own_tunnel() {
    let (world, session) = World::with_pod("7").await;
    let other = world.gateway.admit(guest("9c3", "i-2"));
    assert_ne!(session.token(), other.token());
    assert_ne!(session.token(), world.gateway.admit(guest("6a2", "i-1")).token());
    for token in
        [other.token(), String::new(), session.token()[..63].to_owned(), format!("{}0", session.token())]
    {
        let client = world.dial(&session, &token, "h2").await;
        let (status, body) = client.get(PODS).await;
        assert_eq!((status, &body["kind"]), (401, &json!("Status")), "{token}");
    }
    let replaced = world.gateway.admit(guest("6a1", "i-9"));
    assert_ne!(session.token(), replaced.token());
    assert!(session.progress().borrow().revoked);
}

#[tokio::test]
async fn a_dismissed_guests_connections_end() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let mut watch = client.watch(WATCH_LIST).await;
    assert_eq!(watch.told().await, text("ADDED@7"));
    world.gateway.dismiss("6a1");
    while watch.next().await.is_some() {}
    assert!(client.send(&format!("GET {PODS}"), &[], &[]).await.is_err());
    assert!(!std::sync::Arc::ptr_eq(&session, &world.gateway.admit(guest("6a1", "i-1"))));
}

#[tokio::test]
async fn a_kubelet_is_shown_nothing_before_its_machine_is_prepared() {
    let (world, session) = World::with_pod("7").await;
    until_ready(&session, &world).await;
    session.prepared().send_replace(false);
    let client = world.client(&session).await;
    assert_eq!(client.get("/api/v1/nodes/burst").await.0, 200, "its own start goes on");
    for uri in [PODS, WATCH_LIST] {
        let wait = Duration::from_millis(200);
        assert!(tokio::time::timeout(wait, client.get(uri)).await.is_err(), "{uri} was answered");
    }
    assert!(!session.progress().borrow().shown);
    let listed = async { client.get(PODS).await };
    let prepared = async { session.prepared().send_replace(true) };
    let ((status, list), _) = tokio::join!(listed, prepared);
    assert_eq!((status, &list["items"][0]["metadata"]["uid"]), (200, &json!("6a1")));
    assert!(session.progress().borrow().shown);
}

#[tokio::test]
async fn the_node_is_private_and_has_the_real_ones_labels() {
    let (world, session) = World::with_pod("7").await;
    until_ready(&session, &world).await;
    let client = world.client(&session).await;
    let (status, node) = client.get("/api/v1/nodes/burst?timeout=10s").await;
    assert_eq!((status, &node["metadata"]["uid"]), (200, &json!("n-1")));
    assert_eq!(node["metadata"]["labels"], json!({ "zone": "a" }));
    let watch = "/api/v1/nodes?fieldSelector=metadata.name%3Dburst&watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut watch = client.watch(watch).await;
    assert_eq!(watch.next().await.unwrap()["type"], "ADDED");
    assert_eq!(watch.next().await.unwrap()["type"], "BOOKMARK");
    let patch = json!({ "status": {
        "conditions": [{ "type": "Ready", "status": "True" }],
        "declaredFeatures": ["GuaranteedQoSPodCPUResize", "ExtendWebSocketsToKubelet"],
    } });
    let (status, patched) = client.ask("PATCH /api/v1/nodes/burst/status?timeout=10s", &patch).await;
    assert_eq!((status, &patched["status"]["allocatable"]), (200, &json!({ "cpu": "4", "pods": "10" })));
    assert_eq!(
        watch.next().await.unwrap()["object"]["status"]["declaredFeatures"],
        patch["status"]["declaredFeatures"]
    );
    assert!(session.reported().borrow().ready);
    assert_eq!(
        world.gateway.declared_features().into_iter().collect::<Vec<_>>(),
        ["GuaranteedQoSPodCPUResize"]
    );
    assert!(world.api.seen().is_empty());
}

#[tokio::test]
async fn an_event_from_before_a_restart_is_told_again_under_another_name() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let events = "/api/v1/namespaces/ns/events";
    let patch = json!({ "count": 2 });
    let known = format!("PATCH {events}/web.17a");
    assert_eq!(client.status(&known, &patch).await, 404);
    let conflict = json!({ "kind": "Status", "code": 409, "reason": "AlreadyExists" });
    world.api.answer_once(&format!("POST {events}"), 409, &conflict);
    world.api.answer(&format!("POST {events}"), 201, &json!({ "kind": "Event" }));
    let event = json!({
        "metadata": { "name": "web.17a" }, "count": 2, "reason": "BackOff",
        "involvedObject": { "kind": "Pod", "namespace": "ns", "name": "web", "uid": "6a1" },
    });
    assert_eq!(client.status(&format!("POST {events}"), &event).await, 201);
    let seen = world.api.seen();
    let named = |at: usize| seen[at].body["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!((seen.len(), named(0).as_str(), &seen[1].body["count"]), (2, "web.17a", &json!(2)));
    let again = format!("PATCH {events}/{}", named(1));
    world.api.answer(&again, 200, &json!({ "kind": "Event" }));
    assert_eq!(client.status(&again, &patch).await, 200);
}

#[tokio::test]
async fn leases_csinodes_slices_and_node_events_never_reach_the_api_server() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = json!({ "metadata": { "name": NODE }, "spec": { "holderIdentity": NODE } });
    assert_eq!(client.get(&format!("{leases}/burst")).await.0, 404);
    let (status, created) = client.ask(&format!("POST {leases}?timeout=5s"), &lease).await;
    assert_eq!(status, 201);
    let (status, updated) = client.ask(&format!("PUT {leases}/burst"), &created).await;
    assert_eq!((status, &updated["metadata"]["uid"]), (200, &created["metadata"]["uid"]));
    assert_ne!(updated["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(client.get(&format!("{leases}/burst")).await, (200, updated));

    let other = world.gateway.admit(guest("9c3", "i-2"));
    let (status, renewed) = world.client(&other).await.ask(&format!("PUT {leases}/burst"), &created).await;
    assert_eq!((status, &renewed["spec"]), (200, &lease["spec"]), "after a restart of ORCA");

    let csi_nodes = "/apis/storage.k8s.io/v1/csinodes";
    assert_eq!(client.get(&format!("{csi_nodes}/burst")).await.0, 404);
    assert_eq!(
        client.status(&format!("POST {csi_nodes}"), &json!({ "metadata": { "name": NODE } })).await,
        201
    );
    assert_eq!(client.status(&format!("DELETE {csi_nodes}/burst"), &Value::Null).await, 200);

    let slices = "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3Dburst";
    assert_eq!(client.status(&format!("DELETE {slices}"), &Value::Null).await, 200);
    assert_eq!(
        client.get("/apis/storage.k8s.io/v1/csidrivers?resourceVersion=77").await.1["items"],
        json!([])
    );
    let mut drivers = client.watch("/apis/storage.k8s.io/v1/csidrivers?watch=true&resourceVersion=1").await;
    assert!(drivers.is_silent().await);
    assert_eq!(client.get("/apis/node.k8s.io/v1/runtimeclasses").await.1["kind"], "RuntimeClassList");

    let event = json!({
        "metadata": { "name": "burst.1" },
        "involvedObject": { "kind": "Node", "name": NODE }, "reason": "Starting",
    });
    assert_eq!(client.status("POST /api/v1/namespaces/default/events", &event).await, 201);
    assert!(world.api.seen().is_empty());
}

#[tokio::test]
async fn a_status_patch_goes_upstream_as_the_node_and_comes_back_as_the_guest_sees_it() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    world.api.answer(&format!("PATCH {POD}/status"), 200, &pod("6a1", "8"));
    let patch =
        json!({ "metadata": { "uid": "6a1" }, "status": { "phase": "Running", "podIP": "10.0.0.6" } });
    let (status, patched) = client.ask(&format!("PATCH {POD}/status"), &patch).await;
    assert_eq!((status, &patched["spec"]["containers"][0]["env"][0]["value"]), (200, &json!("0")));
    let [sent] = world.api.seen().try_into().unwrap();
    assert_eq!((sent.uri.as_str(), &sent.body), ("/api/v1/namespaces/ns/pods/web/status", &patch));
    assert_eq!(sent.headers["impersonate-user"], "system:node:burst");
    assert_eq!(sent.headers["impersonate-group"], "system:nodes");
    assert_eq!(sent.headers["content-type"], "application/strategic-merge-patch+json");
    assert!(!sent.headers.contains_key("authorization"));
}

#[tokio::test]
async fn what_a_guest_may_not_write_never_reaches_the_api_server() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let status = |status: Value| json!({ "metadata": { "uid": "6a1" }, "status": status });
    for (line, body) in [
        ("PATCH /api/v1/namespaces/ns/pods/db/status", status(json!({}))),
        ("PATCH /api/v1/namespaces/other/pods/web/status", status(json!({}))),
        ("PATCH /api/v1/namespaces/ns/pods/web/status", status(json!({ "podIP": "10.0.0.9" }))),
        (
            "PATCH /api/v1/namespaces/ns/pods/web/status",
            json!({ "metadata": { "uid": "6a1", "annotations": { "a": "b" } }, "status": {} }),
        ),
        ("GET /api/v1/namespaces/ns/pods/db", Value::Null),
        ("DELETE /api/v1/namespaces/ns/pods/db", Value::Null),
        ("GET /api/v1/namespaces/ns/secrets/theirs", Value::Null),
        ("GET /api/v1/namespaces/other/secrets/mine", Value::Null),
        ("GET /api/v1/namespaces/ns/configmaps/mine", Value::Null),
        ("GET /api/v1/namespaces/ns/secrets", Value::Null),
        ("GET /api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3Dtheirs&watch=true", Value::Null),
        ("GET /apis/node.k8s.io/v1/runtimeclasses/any", Value::Null),
        ("GET /api/v1/nodes/other", Value::Null),
        ("PATCH /api/v1/nodes/other/status", json!({})),
        ("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", json!({})),
        ("POST /api/v1/namespaces/ns/serviceaccounts/robot/token", json!({ "spec": {} })),
        ("POST /api/v1/namespaces/ns/serviceaccounts/admin/token", json!({ "spec": {} })),
        ("POST /api/v1/namespaces/kube-system/events", json!({ "involvedObject": { "kind": "Pod" } })),
    ] {
        assert_eq!(client.status(line, &body).await, 403, "{line}");
    }
    assert!(world.api.seen().is_empty(), "{:?}", world.api.seen());
}

#[tokio::test]
async fn headers_that_change_who_or_what_is_asked_are_refused_and_counted() {
    let (world, session) = World::with_pod("7").await;
    let client = world.dial(&session, &session.token(), "http/1.1").await;
    for (name, value) in [
        ("impersonate-user", "system:admin"),
        ("Impersonate-Group", "system:masters"),
        ("impersonate-extra-a", "b"),
        ("x-remote-user", "admin"),
        ("upgrade", "websocket"),
    ] {
        let response = client.send(&format!("GET {PODS}"), &[(name, value)], &[]).await.unwrap();
        assert_eq!(response.status(), 403, "{name}");
        drop(http_body_util::BodyExt::collect(response.into_body()).await);
    }
    assert_eq!(world.gateway.shared.metrics.denials.of(Rule::Header), 5);
}

#[tokio::test]
async fn bodies_are_json_of_the_right_kind_and_size() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let patch = format!("PATCH {POD}/status");
    let fine = json!({ "metadata": { "uid": "6a1" }, "status": {} }).to_string();
    for media_type in [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
        "application/vnd.kubernetes.protobuf",
        "application/json",
    ] {
        let answer = client.send(&patch, &[("content-type", media_type)], fine.as_bytes()).await.unwrap();
        assert_eq!(answer.status(), 415, "{media_type}");
    }
    let large = json!({ "metadata": { "uid": "6a1" }, "status": { "message": "x".repeat(1 << 20) } });
    assert_eq!(client.status(&patch, &large).await, 413);
    assert_eq!(client.send(&patch, &[], b"{").await.unwrap().status(), 403);
    assert!(world.api.seen().is_empty());
}

#[tokio::test]
async fn secrets_and_config_maps_of_the_pod_are_passed_on() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let secrets = "/api/v1/namespaces/ns/secrets";
    let secret = json!({ "kind": "Secret", "metadata": { "name": "mine" } });
    world.api.answer(&format!("GET {secrets}/mine"), 200, &secret);
    assert_eq!(client.get(&format!("{secrets}/mine")).await, (200, secret.clone()));
    world.api.answer(&format!("GET {secrets}"), 200, &json!({ "kind": "SecretList", "items": [secret] }));
    assert_eq!(client.get(&format!("{secrets}?fieldSelector=metadata.name%3Dmine&limit=500")).await.0, 200);
    world
        .api
        .stream(secrets, &[json!({ "type": "ADDED", "object": { "metadata": { "resourceVersion": "3" } } })]);
    let mut watch = client
        .watch(&format!("{secrets}?fieldSelector=metadata.name%3Dmine&watch=true&timeoutSeconds=60"))
        .await;
    assert_eq!(watch.told().await, text("ADDED@3"));
    let sent: Vec<String> = world.api.seen().into_iter().map(|seen| seen.uri).collect();
    assert_eq!(
        sent,
        [
            "/api/v1/namespaces/ns/secrets/mine",
            "/api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3Dmine",
            "/api/v1/namespaces/ns/secrets?fieldSelector=metadata.name%3Dmine&watch=true&timeoutSeconds=60",
        ]
    );
    assert!(world.api.seen().iter().all(|seen| seen.headers["impersonate-user"] == "system:node:burst"));
    session.revoke();
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_token_is_asked_for_in_the_pods_name() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let path = "POST /api/v1/namespaces/ns/serviceaccounts/robot/token";
    world.api.answer(path, 201, &json!({ "kind": "TokenRequest", "status": { "token": "x" } }));
    let mut request = json!({ "spec": {
        "audiences": null, "expirationSeconds": 3607,
        "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "6a1" },
    } });
    assert_eq!(client.status(path, &request).await, 201);
    let [sent] = world.api.seen().try_into().unwrap();
    assert_eq!(sent.body["spec"]["boundObjectRef"]["uid"], "6a1");
    request["spec"]["boundObjectRef"]["uid"] = json!("7b2");
    assert_eq!(client.status(path, &request).await, 403);
    assert_eq!(world.api.seen().len(), 1);
}

#[tokio::test]
async fn the_pod_is_deleted_only_when_the_user_asked_for_it() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let delete = format!("DELETE {POD}");
    let options = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "6a1" } });
    assert_eq!(client.status(&delete, &options).await, 403);
    assert_eq!(world.gateway.shared.metrics.denials.of(Rule::Deletion), 1);

    let mut deleting = pod("6a1", "8");
    deleting["metadata"]["deletionTimestamp"] = json!("2026-11-21T08:00:00Z");
    world.api.pod_is_live(&deleting);
    world.api.answer(&delete, 200, &deleting);
    for refused in [
        json!({}),
        json!({ "gracePeriodSeconds": 0 }),
        json!({ "gracePeriodSeconds": 30, "preconditions": { "uid": "6a1" } }),
        json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "7b2" } }),
    ] {
        assert_eq!(client.status(&delete, &refused).await, 403, "{refused}");
    }
    assert!(!session.progress().borrow().deleted);
    let more =
        json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "6a1" }, "propagationPolicy": "Orphan" });
    assert_eq!(client.status(&delete, &more).await, 200);
    assert!(session.progress().borrow().deleted);
    let sent = world.api.seen().pop().unwrap();
    assert_eq!((sent.method.as_str(), sent.body.get("propagationPolicy")), ("DELETE", None));
    assert_eq!(sent.body["preconditions"]["uid"], "6a1");
}

#[tokio::test]
async fn mirror_pods_are_refused_without_being_counted() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    let options = json!({ "gracePeriodSeconds": 0 });
    assert_eq!(client.status("POST /api/v1/namespaces/kube-system/pods", &json!({})).await, 403);
    assert_eq!(client.status("DELETE /api/v1/namespaces/kube-system/pods/efa-burst", &options).await, 403);
    assert_eq!(world.gateway.shared.metrics.denials.of(Rule::MirrorPod), 0);
    assert_eq!(client.status("DELETE /api/v1/namespaces/ns/pods/db", &options).await, 403);
    assert_eq!(world.gateway.shared.metrics.denials.of(Rule::Foreign), 1);
    assert!(world.api.seen().is_empty());
}

#[tokio::test]
async fn services_are_those_of_the_pods_namespace_and_the_api_servers() {
    let (world, session) = World::with_pod("7").await;
    until_ready(&session, &world).await;
    let client = world.client(&session).await;
    let (status, list) =
        client.get("/api/v1/services?fieldSelector=spec.clusterIP%21%3DNone&limit=500").await;
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!((status, names), (200, vec![&json!("kubernetes"), &json!("db")]));
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = client.watch(&format!("/api/v1/services?watch=true&resourceVersion={version}")).await;
    assert!(watch.is_silent().await);
}

#[tokio::test]
async fn a_flood_of_one_guest_does_not_reach_the_api_server() {
    let (world, session) = World::with_pod("7").await;
    let client = world.client(&session).await;
    assert_eq!(client.get(POD).await.0, 200);
    // Emptied as of a little later, so that nothing is refilled while this runs.
    let later = crate::clock::now() + jiff::SignedDuration::from_secs(50);
    let taken = std::iter::repeat_with(|| session.take_turn(later)).take_while(Result::is_ok).count();
    assert_eq!(taken, 200);
    let before = world.api.seen().len();
    for uri in [POD, PODS, "/api/v1/namespaces/ns/secrets/mine"] {
        assert_eq!(client.get(uri).await.0, 429, "{uri}");
    }
    assert_eq!(world.api.seen().len(), before);
    until_ready(&session, &world).await;
    assert_eq!(client.get("/api/v1/nodes/burst").await.0, 200, "what is private goes on");
}

#[tokio::test]
async fn a_guest_has_few_connections_and_the_gateway_little_patience() {
    let (world, session) = World::with_pod("7").await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(world.client(&session).await);
    }
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let served = world.gateway.clone().serve(session.clone(), Box::new(theirs));
    tokio::time::timeout(Duration::from_secs(5), served).await.unwrap();
    drop(ours);
    assert_eq!(clients[0].get(POD).await.0, 200);
    assert!(session.last_contact().is_some());
}
