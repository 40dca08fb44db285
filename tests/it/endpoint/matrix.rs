//! Every kind of request by every kind of identity, in one table; and what of it is on record.

use http::{Method, Request};
use rcgen::ExtendedKeyUsagePurpose;

use super::{Authority, Identity, World, start};
use crate::audit::Record;

/// A name, a method and a path; streams ask for an upgrade.
const REQUESTS: &[(&str, Method, &str)] = &[
    ("healthz", Method::GET, "/healthz"),
    ("pods", Method::GET, "/pods"),
    ("logs", Method::GET, "/containerLogs/ns/running/c"),
    ("exec by GET", Method::GET, "/exec/ns/running/c?command=id"),
    ("exec by POST", Method::POST, "/exec/ns/running/uid-1/c?command=id"),
    ("attach", Method::POST, "/attach/ns/running/c"),
    ("port-forward", Method::POST, "/portForward/ns/running"),
    ("metrics", Method::GET, "/metrics/resource"),
    ("process", Method::GET, "/metrics"),
    ("stats", Method::GET, "/stats/summary"),
    ("run", Method::POST, "/run/ns/running/c?cmd=id"),
    ("configz", Method::GET, "/configz"),
    ("odd path", Method::GET, "/containerLogs/ns/../running/c"),
];

/// A certificate, or a token.
enum Shows {
    Nothing,
    Certificate(Box<dyn Fn(&World) -> Identity>),
    Token(&'static str),
}

fn identities() -> Vec<(&'static str, Shows)> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let by = |issue: fn(&World) -> Identity| Shows::Certificate(Box::new(issue));
    vec![
        ("nobody", Shows::Nothing),
        ("another CA's certificate", by(|_| Authority::new("other").issue("system:apiserver", ClientAuth))),
        (
            "an expired certificate",
            by(|world| {
                world.cluster.issue_with("system:apiserver", ClientAuth, |params| {
                    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
                })
            }),
        ),
        ("a server's certificate", by(|world| world.cluster.issue("system:apiserver", ServerAuth))),
        ("somebody's certificate", by(|world| world.cluster.issue("somebody", ClientAuth))),
        ("a token for elsewhere", Shows::Token("elsewhere-token")),
        ("a scraper's token", Shows::Token("scraper-token")),
        ("a viewer's token", Shows::Token("viewer-token")),
        ("the API server", by(|world| world.cluster.issue("system:apiserver", ClientAuth))),
    ]
}

async fn outcome(world: &World, shows: &Shows, method: &Method, path: &str) -> String {
    let mut request = Request::builder().method(method.clone()).uri(path);
    if ["/exec", "/attach", "/portForward"].iter().any(|start| path.starts_with(start)) {
        let protocol = if *method == Method::GET { "websocket" } else { "SPDY/3.1" };
        request = request.header("connection", "Upgrade").header("upgrade", protocol);
    }
    let identity = match shows {
        Shows::Nothing => None,
        Shows::Certificate(issue) => Some(issue(world)),
        Shows::Token(token) => {
            request = request.header("authorization", format!("Bearer {token}"));
            None
        }
    };
    let answer = world.try_send(identity, request).await;
    answer.map_or_else(|| "TLS".to_owned(), |answer| answer.status().as_u16().to_string())
}

#[tokio::test]
async fn every_identity_gets_what_it_may_and_nothing_else() {
    let world = start().await;
    let mut table = Vec::new();
    for (name, shows) in identities() {
        let mut row = Vec::new();
        for (_, method, path) in REQUESTS {
            row.push(outcome(&world, &shows, method, path).await);
        }
        table.push(format!("{name:<26}{}", row.join(" ")));
    }
    let names: Vec<_> = REQUESTS.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(
        names.join(", "),
        "healthz, pods, logs, exec by GET, exec by POST, attach, port-forward, metrics, process, stats, run, configz, odd path"
    );
    insta::assert_snapshot!(table.join("\n"), @"
    nobody                    401 401 401 401 401 401 401 401 401 401 401 401 401
    another CA's certificate  TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS
    an expired certificate    TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS
    a server's certificate    TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS TLS
    somebody's certificate    403 403 403 403 403 403 403 403 403 403 403 403 400
    a token for elsewhere     401 401 401 401 401 401 401 401 401 401 401 401 401
    a scraper's token         403 403 403 403 403 403 403 200 200 200 403 403 400
    a viewer's token          200 200 200 403 403 403 403 200 200 200 403 404 400
    the API server            200 200 200 101 101 101 101 200 200 200 404 404 400
    ");
}

#[tokio::test]
async fn who_was_let_into_a_container_and_who_was_not_is_on_record_without_what_was_run() {
    let record = Record::start();
    let world = start().await;
    for (_, shows) in identities() {
        for path in
            ["/exec/ns/running/c?command=secret", "/portForward/ns/running", "/containerLogs/ns/running/c"]
        {
            outcome(&world, &shows, &Method::POST, path).await;
        }
    }
    insta::assert_snapshot!(record.lines().join("\n"), @r#"
    action="exec" user="somebody" groups="system:authenticated" pod.uid="uid-1" pod="ns/running" container="c" result="forbidden" status=403
    action="port-forward" user="somebody" groups="system:authenticated" pod.uid="uid-1" pod="ns/running" result="forbidden" status=403
    action="exec" user="scraper" groups="" pod.uid="uid-1" pod="ns/running" container="c" result="forbidden" status=403
    action="port-forward" user="scraper" groups="" pod.uid="uid-1" pod="ns/running" result="forbidden" status=403
    action="exec" user="viewer" groups="" pod.uid="uid-1" pod="ns/running" container="c" result="forbidden" status=403
    action="port-forward" user="viewer" groups="" pod.uid="uid-1" pod="ns/running" result="forbidden" status=403
    action="exec" user="system:apiserver" groups="system:authenticated" pod.uid="uid-1" pod="ns/running" container="c" result="ok" status=101
    action="port-forward" user="system:apiserver" groups="system:authenticated" pod.uid="uid-1" pod="ns/running" result="ok" status=101
    "#);
}
