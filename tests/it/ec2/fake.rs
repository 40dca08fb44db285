//! A loopback server that answers AWS calls as a test tells it to, and remembers what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use orca::cloud::ec2::{Ec2, sdk_config};
use orca::config::{Config, Facts};
use orca::telemetry::CloudCalls;
use tokio::task::JoinSet;

/// The parameters of one call, by name.
pub(crate) type Form = BTreeMap<String, String>;
type Answer = Box<dyn Fn(&str, &Form, usize) -> (u16, String) + Send + Sync>;

/// The server; it ends when this is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    asked: Mutex<Vec<(String, Form)>>,
    answer: Answer,
}

impl Fake {
    /// `answer` gets the action, its parameters, and how many calls of that action came before.
    pub(crate) async fn start(
        answer: impl Fn(&str, &Form, usize) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::new(Shared { asked: Mutex::default(), answer: Box::new(answer) });
        let router = axum::Router::new().fallback(serve).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, _server: server }
    }

    pub(crate) fn asked(&self, action: &str) -> Vec<Form> {
        let asked = self.state.asked.lock().unwrap();
        asked.iter().filter(|(of, _)| of == action).map(|(_, form)| form.clone()).collect()
    }

    pub(crate) async fn sdk(&self) -> SdkConfig {
        sdk(&config(self.address)).await
    }

    pub(crate) async fn ec2(&self) -> Ec2 {
        self.ec2_with(&config(self.address)).await
    }

    pub(crate) async fn ec2_with(&self, config: &Config) -> Ec2 {
        Ec2::new(&sdk(config).await, config, "cluster-1", 36, CloudCalls::default())
    }
}

async fn sdk(config: &Config) -> SdkConfig {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    let shared = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
    sdk_config(&config.aws).await.into_builder().credentials_provider(shared).build()
}

pub(crate) fn config(endpoint: SocketAddr) -> Config {
    let file = format!(
        "
aws:
  region: us-east-1
  vpcID: vpc-0001
  subnetIDs: [subnet-bbbb, subnet-aaaa]
  securityGroupIDs: [sg-0001]
  endpoint: http://{endpoint}
  tags: {{team: research}}
node: {{name: burst}}
instances: {{defaultInstanceType: g6.xlarge}}
kubelet: {{address: 127.0.0.1}}
"
    );
    Config::resolve(&file, &Facts::default()).unwrap().0
}

/// `<Name>inner</Name>`
pub(crate) fn xml(name: &str, inner: &str) -> (u16, String) {
    (
        200,
        format!(
            "<?xml version=\"1.0\"?><{name} xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">{inner}</{name}>"
        ),
    )
}

/// EC2's form of an error.
pub(crate) fn error(status: u16, code: &str, message: &str) -> (u16, String) {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>1</RequestID></Response>"
    );
    (status, body)
}

/// Query calls carry their action in the body, JSON calls in a header.
async fn serve(State(state): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let (action, form) = match headers.get("x-amz-target") {
        Some(target) => {
            let values: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&body).unwrap();
            let form = values.into_iter().map(|(key, value)| (key, value.to_string())).collect();
            (target.to_str().unwrap().rsplit('.').next().unwrap().to_owned(), form)
        }
        None => {
            let uri: Uri = format!("/?{}", std::str::from_utf8(&body).unwrap()).parse().unwrap();
            let Query(form) = Query::<Form>::try_from_uri(&uri).unwrap();
            (form["Action"].clone(), form)
        }
    };
    let before = {
        let mut asked = state.asked.lock().unwrap();
        let before = asked.iter().filter(|(of, _)| *of == action).count();
        asked.push((action.clone(), form.clone()));
        before
    };
    let (status, body) = (state.answer)(&action, &form, before);
    (StatusCode::from_u16(status).unwrap(), body)
}
