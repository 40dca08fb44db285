//! The whole cloud in a test's process: signed calls without a socket, instances that are states.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::app;
use crate::aws::encoding::encode;
use crate::aws::signer::Signer;
use crate::clock;
use crate::machine::none::NoMachines;
use crate::ssm::Ssm;
use crate::world::defaults::{AMI_X86_64, GROUP_ORCA, SUBNET_A};
use crate::world::{World, WorldConfig};

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// A cloud of its own.
#[derive(Debug)]
pub struct TestCloud {
    pub world: Arc<World>,
    pub machines: Arc<NoMachines>,
    pub router: Router,
}

/// Status and text of an answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    pub dropped: bool,
}

impl Answer {
    /// The texts of all elements of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        self.text.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap()).collect()
    }

    pub fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert!(!all.is_empty(), "no <{name}> in {}", self.text);
        all[0]
    }

    /// The answer, which must be a success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text);
        self
    }

    /// `status code` of a refusal.
    #[track_caller]
    pub fn refusal(&self) -> String {
        assert_ne!(self.status, 200, "{}", self.text);
        let bare: String = self.text.split('\n').skip(1).collect();
        assert!(bare.starts_with("<Response><Errors><Error><Code>"), "{}", self.text);
        format!("{} {}", self.status, self.one("Code"))
    }
}

/// Everything a launch must have, as pairs that tests replace or add to.
pub fn mk_launch() -> Vec<(&'static str, String)> {
    [
        ("Action", "RunInstances"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("ImageId", AMI_X86_64),
        ("InstanceType", "t3.medium"),
        ("NetworkInterface.1.DeviceIndex", "0"),
        ("NetworkInterface.1.SubnetId", SUBNET_A),
        ("NetworkInterface.1.SecurityGroupId.1", GROUP_ORCA),
        ("InstanceInitiatedShutdownBehavior", "terminate"),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

/// These pairs with others in place of theirs; an empty value removes a pair.
pub fn with(
    base: &[(&'static str, String)],
    changes: &[(&'static str, &str)],
) -> Vec<(&'static str, String)> {
    let changed = |name: &str| changes.iter().any(|(other, _)| *other == name);
    let mut pairs: Vec<_> = base.iter().filter(|(name, _)| !changed(name)).cloned().collect();
    pairs.extend(
        changes
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    pairs
}

pub fn form<V: AsRef<str>>(pairs: &[(&str, V)]) -> String {
    let pair = |(name, value): &(&str, V)| {
        format!("{}={}", encode(name.as_bytes(), b""), encode(value.as_ref().as_bytes(), b""))
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

impl TestCloud {
    pub fn start() -> Self {
        let machines = Arc::new(NoMachines::default());
        let world = World::start(WorldConfig::default(), machines.clone());
        let router = app::router(world.clone(), Ssm::new(world.clone(), "http://127.0.0.1:4566".to_owned()));
        Self { world, machines, router }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response = self.router.clone().oneshot(request).await.unwrap();
        let dropped = response.extensions().get::<app::DropConnection>().is_some();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, text: String::from_utf8(bytes.to_vec()).unwrap(), dropped }
    }

    /// A signed request.
    pub async fn signed(&self, signer: &Signer, headers: &[(&'static str, &str)], body: String) -> Answer {
        let mut all = HeaderMap::new();
        all.insert("host", HeaderValue::from_static("127.0.0.1:4566"));
        for (name, value) in headers {
            all.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        signer.sign("POST", "/", "", &mut all, body.as_bytes(), clock::now());
        let mut request = Request::post("/").body(Body::from(body)).unwrap();
        *request.headers_mut() = all;
        self.send(request).await
    }

    /// A signed EC2 call. The version is added.
    pub async fn ec2<V: AsRef<str>>(&self, pairs: &[(&str, V)]) -> Answer {
        let body = format!("Version=2016-11-15&{}", form(pairs));
        self.signed(&Signer::test("ec2"), &[("content-type", FORM)], body).await
    }

    /// A control request.
    pub async fn control(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(format!("/_local/{path}")).body(body).unwrap();
        let answer = self.send(request).await;
        (answer.status, serde_json::from_str(&answer.text).unwrap_or(Value::Null))
    }

    /// Launches one instance; its id.
    pub async fn launch(&self, changes: &[(&'static str, &str)]) -> String {
        self.ec2(&with(&mk_launch(), changes)).await.ok().one("instanceId").to_owned()
    }

    /// The state of an instance.
    pub async fn state(&self, id: &str) -> String {
        let answer = self.ec2(&[("Action", "DescribeInstances"), ("InstanceId.1", id)]).await.ok();
        answer.one("instanceState").split("<name>").nth(1).unwrap().split('<').next().unwrap().to_owned()
    }

    /// Waits for a state. The clock is paused: no time passes but the cloud's.
    pub async fn until(&self, id: &str, state: &str) {
        for _ in 0..1000 {
            if self.state(id).await == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} is {} and not {state}", self.state(id).await);
    }
}
