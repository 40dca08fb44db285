//! The service as a caller feels it, signatures, faults and control endpoint included.

use serde_json::{Value, json};

use crate::aws::signer::Signer;
use crate::clock;
use crate::testing::TestCloud;

mod control;
mod describe;
mod events;
mod refusals;

const DAY: i64 = 24 * 3600 * 1000;

/// A cloud whose events can be read at once.
async fn mk_cloud() -> TestCloud {
    let cloud = TestCloud::start();
    set(&cloud, json!({"ingestionDelayMs": 0})).await;
    cloud
}

/// One with a group `g` and a stream `s` in it.
async fn mk_stream() -> TestCloud {
    let cloud = mk_cloud().await;
    ok(&cloud, "CreateLogGroup", json!({"logGroupName": "g"})).await;
    ok(&cloud, "CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
    cloud
}

async fn set(cloud: &TestCloud, settings: Value) {
    let (status, answer) = cloud.control("PATCH", "logs", settings).await;
    assert_eq!(status, 200, "{answer}");
}

/// Status and body, which is `null` where there is none.
async fn call(cloud: &TestCloud, operation: &str, body: Value) -> (u16, Value) {
    let target = format!("Logs_20140328.{operation}");
    let headers = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
    let answer = cloud.signed(&Signer::test("logs"), &headers, body.to_string()).await;
    (answer.status, serde_json::from_str(&answer.text).unwrap_or(Value::Null))
}

async fn ok(cloud: &TestCloud, operation: &str, body: Value) -> Value {
    let (status, answer) = call(cloud, operation, body).await;
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

/// `code: message` of a refusal, which must be the caller's fault.
async fn refused(cloud: &TestCloud, operation: &str, body: Value) -> String {
    let (status, answer) = call(cloud, operation, body).await;
    assert_eq!(status, 400, "{operation}: {answer}");
    format!("{}: {}", answer["__type"].as_str().unwrap(), answer["message"].as_str().unwrap())
}

fn now() -> i64 {
    clock::now().as_millisecond()
}

fn event(timestamp: i64, message: &str) -> Value {
    json!({"timestamp": timestamp, "message": message})
}

/// Puts events into `g` and a stream.
fn mk_put(stream: &str, events: &[Value]) -> Value {
    json!({"logGroupName": "g", "logStreamName": stream, "logEvents": events})
}

/// A request about `g` with other members.
fn about(mut members: Value) -> Value {
    members["logGroupName"] = json!("g");
    members
}

fn texts(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap()).collect()
}
