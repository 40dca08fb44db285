//! What SSM may know of the world.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::instance::State;
use super::{InstanceView, World};
use crate::aws::{Dialect, auth_refusal};
use crate::faults::Then;
use crate::machine::Machines;
use crate::ssm::{Cut, InstanceFacts, JsonError, SsmWorld};

/// What a fault of data channels is called; they are refused or not.
const DATA_CHANNEL: &str = "OpenDataChannel";

impl SsmWorld for World {
    fn region(&self) -> String {
        self.region.clone()
    }

    fn instance(&self, id: &str) -> Option<InstanceFacts> {
        facts(self.instance(id)?)
    }

    fn instances(&self) -> Vec<InstanceFacts> {
        self.instances().into_iter().filter_map(facts).collect()
    }

    fn machines(&self) -> Option<Arc<dyn Machines>> {
        Some(self.machines().clone())
    }

    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.get(name).map(|parameter| parameter.value)
    }

    fn verify_upgrade(&self, parts: &http::request::Parts) -> Result<(), JsonError> {
        match self.verify(parts, b"", "ssmmessages") {
            Ok(_) => match self.faults.take_named(DATA_CHANNEL).filter(|fault| fault.then == Then::Refuse) {
                Some(fault) => Err(fault.refusal().into()),
                None => Ok(()),
            },
            Err(error) => Err(auth_refusal(&error, Dialect::Sts).into()),
        }
    }

    fn cuts(&self) -> broadcast::Receiver<Cut> {
        self.cuts.subscribe()
    }
}

/// Of a running instance.
fn facts(view: InstanceView) -> Option<InstanceFacts> {
    let private_ip = view.private_ip.filter(|_| view.state == State::Running)?;
    let host_name = format!("ip-{}", private_ip.to_string().replace('.', "-"));
    Some(InstanceFacts { id: view.id, private_ip, host_name })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Request};

    use super::*;
    use crate::aws::signer::Signer;
    use crate::clock;
    use crate::faults::Fault;
    use crate::testing::TestCloud;

    #[tokio::test]
    async fn data_channels_are_refused_as_a_test_asks_and_are_no_calls() {
        let cloud = TestCloud::start();
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:4566"));
        let signer = Signer::test("ssmmessages");
        signer.sign("GET", "/v1/data-channel/s-1", "", &mut headers, b"", clock::now());
        let mut request = Request::get("/v1/data-channel/s-1").body(()).unwrap();
        *request.headers_mut() = headers;
        let (parts, ()) = request.into_parts();
        let add = |action: &str| {
            let fault = serde_json::json!({"action": action, "then": "refuse", "code": "AccessDenied", "status": 403});
            cloud.world.faults.add(serde_json::from_value::<Fault>(fault).unwrap());
        };
        add("*");
        assert!(cloud.world.verify_upgrade(&parts).is_ok());
        add("OpenDataChannel");
        let refused = cloud.world.verify_upgrade(&parts).unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (403, "AccessDenied"));
        assert!(cloud.world.verify_upgrade(&parts).is_ok());
        assert_eq!(cloud.world.faults.list().len(), 1, "the one for any call is not meant");
    }
}
