use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::runpod::keys::READ_ONLY;
use crate::runpod::testing::{TestAccount, mk_pod, with};

mod lifecycle;
mod scenarios;

fn keyed(method: &str, path: &str, key: &str, body: &Value) -> Request<Body> {
    let mut request = TestAccount::request(method, path, body);
    request.headers_mut().insert("authorization", HeaderValue::from_str(&format!("Bearer {key}")).unwrap());
    request
}

#[tokio::test(start_paused = true)]
async fn size_comes_before_the_key_and_the_key_before_everything_else() {
    let account = TestAccount::start();
    let large = with(mk_pod(), json!({"env": {"A": "x".repeat(102_400)}}));
    let mut unknown = TestAccount::request("POST", "/v2/pods", &large);
    unknown.headers_mut().remove("authorization");
    assert_eq!(account.send(unknown).await.refusal(), "413 request body exceeds 102400 bytes");
    let fits = with(mk_pod(), json!({"env": {"A": "x".repeat(100_000)}}));
    assert_eq!(account.call("POST", "/v2/pods", fits).await.status, 201);
    for path in ["/v2/pods", "/v2/nothing", "/nothing"] {
        let answer = account.send(keyed("GET", path, "rpa_other", &Value::Null)).await;
        assert_eq!(answer.refusal(), "401 invalid bearer token", "{path}");
    }
    let mut missing = TestAccount::request("GET", "/v2/pods", &Value::Null);
    missing.headers_mut().remove("authorization");
    assert_eq!(account.send(missing).await.refusal(), "401 missing bearer token");
}

#[tokio::test(start_paused = true)]
async fn a_key_reads_alone_is_revoked_or_is_a_pods_own() {
    let account = TestAccount::start();
    let id = account.create(json!({})).await;
    let path = format!("/v2/pods/{id}");
    for (method, path, body) in [
        ("POST", "/v2/pods", mk_pod()),
        ("DELETE", path.as_str(), Value::Null),
        ("PATCH", path.as_str(), json!({"name": "b"})),
        ("PUT", "/v2/account/ssh-keys", json!({"keys": []})),
    ] {
        let answer = account.send(keyed(method, path, READ_ONLY, &body)).await;
        assert_eq!(answer.refusal(), "403 access denied", "{method}");
    }
    account.send(keyed("GET", &path, READ_ONLY, &Value::Null)).await.ok();
    let other = account.create(json!({})).await;
    let own = format!("rpa_pod_{id}");
    for (method, path) in [("GET", "/v2/pods".to_owned()), ("DELETE", format!("/v2/pods/{other}"))] {
        assert_eq!(account.send(keyed(method, &path, &own, &Value::Null)).await.status, 403);
    }
    assert_eq!(account.send(keyed("DELETE", &path, &own, &Value::Null)).await.status, 204);
    account.control("PUT", "keys/rpa_test", json!({"scope": "all", "revoked": true})).await;
    assert_eq!(account.get("/v2/pods").await.refusal(), "401 invalid bearer token");
    account.control("PUT", "keys/rpa_test", json!({"scope": "all"})).await;
    account.get("/v2/pods").await.ok();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_path_no_method_no_json_or_not_played_is_refused_in_its_own_way() {
    let account = TestAccount::start();
    for (method, path, status) in [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/pods/x/y", 404),
        ("GET", "/v1/pods", 404),
        ("GET", "/v2/serverless", 501),
        ("POST", "/v2/templates", 501),
        ("GET", "/v2/clusters/a", 501),
        ("GET", "/v2/registries/delegations", 501),
        ("GET", "/v2/billing", 501),
        ("GET", "/v2/pods/none", 404),
        ("DELETE", "/v2/pods/none", 404),
        ("GET", "/v2/pods/none/logs", 404),
        ("GET", "/v2/network-volumes/none", 404),
        ("GET", "/v2/account/secrets/none", 404),
        ("DELETE", "/v2/registries/none", 404),
    ] {
        let body = if method == "POST" { json!({}) } else { Value::Null };
        assert_eq!(account.call(method, path, body).await.status, status, "{method} {path}");
    }
    let wrong = account.call("PUT", "/v2/pods", json!({})).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "GET, POST"));
    let mut request = TestAccount::request("POST", "/v2/pods", &mk_pod());
    request.headers_mut().remove("content-type");
    assert_eq!(account.send(request).await.status, 415);
    let mut request = TestAccount::request("POST", "/v2/pods", &Value::Null);
    *request.body_mut() = Body::from("{");
    assert!(account.send(request).await.refusal().starts_with("400 malformed JSON"));
    let wrong = account.call("POST", "/v2/pods", with(mk_pod(), json!({"gpus": 1}))).await;
    assert_eq!(wrong.refusal(), "422 Request validation failed.");
    assert_eq!(wrong.body["errors"], json!(["$: additional properties 'gpus' not allowed"]));
    assert_eq!(account.get("/v2/pods?limit=1").await.status, 422);
}

#[tokio::test(start_paused = true)]
async fn every_answer_tells_what_is_left_and_the_one_after_the_last_how_long_to_wait() {
    let account = TestAccount::start();
    let first = account.get("/v2/pods").await;
    assert_eq!(
        first.header("ratelimit"),
        "\"minute\";r=59;t=60, \"hour\";r=2999;t=3600, \"day\";r=49999;t=86400"
    );
    assert_eq!(
        first.header("ratelimit-policy"),
        "\"minute\";q=60;w=60, \"hour\";q=3000;w=3600, \"day\";q=50000;w=86400"
    );
    for _ in 0..59 {
        account.get("/v2/pods").await.ok();
    }
    let full = account.call("POST", "/v2/pods", mk_pod()).await;
    assert_eq!(full.refusal(), "429 rate limit exceeded for the minute window");
    let seconds: u64 = full.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(account.control("GET", "pods", Value::Null).await, json!([]), "nothing was made");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    account.get("/v2/pods").await.ok();
    let windows = json!([{"name": "minute", "quota": 1, "seconds": 2}]);
    account.control("PUT", "limits", windows).await;
    account.get("/v2/pods").await.ok();
    assert_eq!(account.get("/v2/pods").await.status, 429);
    let calls = account.control("GET", "calls", Value::Null).await;
    assert_eq!(calls["counts"]["GET /v2/pods"], 63);
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_answer_is_as_the_schema_has_it() {
    // The harness checks each of them; here are those that no other test asks for.
    let account = TestAccount::start();
    account.control("PUT", "limits", json!([{"name": "minute", "quota": 1000, "seconds": 60}])).await;
    let volume = json!({"name": "v", "size": 50, "dataCenter": "US-KS-2", "type": "HIGH_PERFORMANCE"});
    let volume = account.call("POST", "/v2/network-volumes", volume).await.ok();
    let registry = json!({"name": "r", "username": "u", "password": "secret-p"});
    let registry = account.call("POST", "/v2/registries", registry).await.ok();
    let secret = json!({"name": "hf", "value": "secret-v", "description": "d"});
    let secret = account.call("POST", "/v2/account/secrets", secret).await.ok();
    let pod = json!({
        "registry": registry["id"], "mounts": {"network": [{"volumeId": volume["id"], "path": "/v"}]},
        "globalNetworking": true, "startSsh": true, "startJupyter": true,
    });
    let pod = account.create(pod).await;
    let cpu = account.create(json!({"gpu": null, "cpu": {"id": "cpu3m", "vcpuCount": 8}})).await;
    let (volume, registry, secret) = (&volume["id"], &registry["id"], &secret["id"]);
    let text = |id: &Value| id.as_str().unwrap().to_owned();
    let (volume, registry, secret) = (text(volume), text(registry), text(secret));
    account.until_up(&pod).await;
    let mut shown = String::new();
    for path in [
        "/v2/pods".to_owned(),
        format!("/v2/pods/{pod}"),
        format!("/v2/pods/{cpu}"),
        "/v2/network-volumes".to_owned(),
        format!("/v2/network-volumes/{volume}"),
        "/v2/registries".to_owned(),
        format!("/v2/registries/{registry}"),
        "/v2/account/secrets".to_owned(),
        "/v2/account/secrets?name=HF".to_owned(),
        format!("/v2/account/secrets/{secret}"),
        "/v2/account/ssh-keys".to_owned(),
        "/v2/catalog/gpus".to_owned(),
        "/v2/catalog/gpus?include=AVAILABILITY&product=POD,SERVERLESS&count=2&cloud=COMMUNITY".to_owned(),
        "/v2/catalog/gpus/NVIDIA%20RTX%20PRO%206000%20Blackwell%20Max-Q%2FWorkstation%20Edition".to_owned(),
        "/v2/catalog/cpus?include=AVAILABILITY&product=POD&vcpuCount=4".to_owned(),
        "/v2/catalog/cpus/cpu5c".to_owned(),
        "/v2/catalog/datacenters?include=GPU_AVAILABILITY,CPU_AVAILABILITY&regions=EUROPE".to_owned(),
        "/v2/catalog/datacenters/EUR-IS-1?include=GPU_AVAILABILITY".to_owned(),
        "/v2/billing/pods?bucketSize=hour&lastN=2".to_owned(),
    ] {
        shown.push_str(&account.get(&path).await.ok().to_string());
    }
    assert!(!shown.contains("secret-"), "{shown}");
    account.call("PATCH", &format!("/v2/network-volumes/{volume}"), json!({"size": 60})).await.ok();
    account.call("PATCH", &format!("/v2/account/secrets/{secret}"), json!({"description": null})).await.ok();
    let keys = json!({"keys": ["ssh-ed25519 AAAA me"]});
    assert_eq!(account.call("PUT", "/v2/account/ssh-keys", keys.clone()).await.ok(), keys);
    for (path, in_use) in [
        (format!("/v2/network-volumes/{volume}"), true),
        (format!("/v2/registries/{registry}"), true),
        (format!("/v2/account/secrets/{secret}"), false),
        (format!("/v2/pods/{pod}"), false),
        (format!("/v2/network-volumes/{volume}"), false),
        (format!("/v2/registries/{registry}"), false),
    ] {
        let status = account.call("DELETE", &path, Value::Null).await.status;
        assert_eq!(status, if in_use { 400 } else { 204 }, "{path}");
    }
    let smaller =
        account.call("POST", "/v2/network-volumes", json!({"name": "v", "size": 9, "dataCenter": "x"})).await;
    assert_eq!(smaller.body["errors"], json!(["$.size: minimum: got 9, want 10"]));
    let taken = json!({"name": "a", "value": "b"});
    account.call("POST", "/v2/account/secrets", taken.clone()).await.ok();
    assert_eq!(account.call("POST", "/v2/account/secrets", taken).await.status, 409);
}

#[tokio::test(start_paused = true)]
async fn the_catalog_is_filtered_and_its_parameters_are_held_to_their_rules() {
    let account = TestAccount::start();
    let gpus = "/v2/catalog/gpus";
    for (query, status) in [
        ("?include=AVAILABILITY", 400),
        ("?product=POD", 400),
        ("?count=2", 400),
        ("?include=EVERYTHING&product=POD", 422),
        ("?include=AVAILABILITY&product=MOON", 422),
        ("?include=AVAILABILITY&product=POD&count=0", 422),
        ("?include=AVAILABILITY&product=POD&cloud=ALL", 422),
        ("?include=AVAILABILITY&product=POD&countryCodes=fr", 422),
        ("?include=AVAILABILITY&product=POD&cudaVersions=12", 422),
        ("?include=AVAILABILITY&product=POD&cudaVersions=12.8&minCudaVersion=12", 400),
        ("/NVIDIA%20Nothing", 404),
    ] {
        assert_eq!(account.get(&format!("{gpus}{query}")).await.status, status, "{query}");
    }
    for query in
        ["?regions=MOON", "?include=AVAILABILITY", "?networkVolumeTypes=TAPE", "?globalNetwork=perhaps"]
    {
        assert_eq!(account.get(&format!("/v2/catalog/datacenters{query}")).await.status, 422, "{query}");
    }
    let gpu = async |query: &str| {
        let path = format!("{gpus}/NVIDIA%20GeForce%20RTX%204090?include=AVAILABILITY&product=POD{query}");
        let shown = account.get(&path).await.ok();
        let count = |name: &str| shown[name].as_array().map_or(0, Vec::len);
        (shown["availability"].as_str().unwrap().to_owned(), count("dataCenters"), count("cudaVersions"))
    };
    let of = |level: &str, centers, versions| (level.to_owned(), centers, versions);
    assert_eq!(gpu("").await, of("HIGH", 8, 3));
    assert_eq!(gpu("&countryCodes=RO,SE&minCudaVersion=12.5").await, of("HIGH", 2, 2));
    assert_eq!(gpu("&count=9").await, of("NONE", 0, 3));
    assert_eq!(gpu("&cudaVersions=11.8").await, of("NONE", 0, 0));
    let place = json!({"id": "NVIDIA GeForce RTX 4090", "cloud": "SECURE", "dataCenter": "EU-RO-1"});
    account.control("PUT", "stock", json!({"place": place, "supply": {"free": 0}})).await;
    assert_eq!(gpu("&countryCodes=RO").await, of("NONE", 0, 3));
    account.control("PUT", "stock", json!({"place": place, "supply": {"free": 0, "shown": "HIGH"}})).await;
    assert_eq!(gpu("&countryCodes=RO").await, of("HIGH", 1, 3));
    let body = with(mk_pod(), json!({"dataCenterIds": ["EU-RO-1"]}));
    let refused = account.call("POST", "/v2/pods", body).await.refusal();
    assert!(refused.starts_with("400 There are no longer any instances available"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn lists_are_paged_and_the_older_server_has_none_and_no_secrets() {
    let account = TestAccount::start();
    account.control("PATCH", "settings", json!({"pageSize": 2})).await;
    for n in 1..=3 {
        account.create(json!({"name": format!("a-{n}")})).await;
    }
    let names = |page: &Value| {
        let pods = page["pods"].as_array().unwrap();
        pods.iter().map(|pod| pod["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = account.get("/v2/pods").await.ok();
    assert_eq!(
        (names(&first), &first["pagination"]["hasNextPage"]),
        (vec!["a-1".into(), "a-2".into()], &json!(true))
    );
    let cursor = first["pagination"]["nextCursor"].as_str().unwrap();
    let second = account.get(&format!("/v2/pods?cursor={cursor}")).await.ok();
    assert_eq!(names(&second), ["a-3"]);
    assert_eq!(second["pagination"], json!({"hasNextPage": false, "nextCursor": null}));
    account.control("PATCH", "settings", json!({"api": "2026-08"})).await;
    let all = account.get("/v2/pods").await.ok();
    assert_eq!((names(&all).len(), all.get("pagination")), (3, None));
    assert!(all["pods"][0].get("cmd").is_none());
    assert_eq!(account.get("/v2/pods?cursor=x").await.status, 422);
    assert_eq!(account.get("/v2/account/secrets").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn money_is_told_by_graphql_with_200_also_for_errors() {
    let account = TestAccount::start();
    account.create(json!({})).await;
    let ask = async |key: &str, query: &str| {
        let answer = account.send(keyed("POST", "/graphql", key, &json!({ "query": query }))).await;
        (answer.status, answer.body)
    };
    let (status, body) = ask("rpa_test", "{ myself { clientBalance currentSpendPerHr spendLimit } }").await;
    let spend = body["data"]["myself"]["currentSpendPerHr"].as_f64().unwrap();
    assert!(status == 200 && (0.69..0.70).contains(&spend), "{body}");
    let (status, body) = ask("rpa_test", "{ pods { id } }").await;
    assert!(status == 200 && body["errors"][0]["message"].as_str().unwrap().contains("pods"), "{body}");
    assert_eq!(ask("rpa_other", "{ myself { id } }").await.0, 401);
}

#[tokio::test]
async fn over_a_socket_what_is_cut_ends_in_the_middle_and_a_log_goes_on() {
    let account = TestAccount::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server =
        tokio::spawn(crate::app::serve(listener, account.router.clone(), async { drop(stopped.await) }));
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer rpa_test\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let rest = async |mut stream: TcpStream| {
        let mut bytes = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.unwrap().ok();
        String::from_utf8(bytes).unwrap()
    };
    let id = account.create(json!({})).await;
    account.scenario(json!({"scenario": {"kind": "truncate"}, "times": 1})).await;
    let text = rest(ask("/v2/pods").await).await;
    let length = text.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap().0;
    let body = text.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body.len(), length.parse::<usize>().unwrap() / 2, "{text}");
    account.scenario(json!({"scenario": {"kind": "drop"}, "times": 1})).await;
    assert_eq!(rest(ask("/v2/pods").await).await, "");
    let mut log = ask(&format!("/v2/pods/{id}/logs?tail=5000")).await;
    let mut seen = String::new();
    let mut read = async |word: &str| {
        while !seen.contains(word) {
            let mut buffer = [0; 4096];
            let count =
                tokio::time::timeout(Duration::from_secs(10), log.read(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(count, 0, "the stream ended: {seen}");
            seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    };
    read("create pod").await;
    account.control("POST", &format!("pods/{id}/line"), json!({"line": "played"})).await;
    read("played").await;
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
}
