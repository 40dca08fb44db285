//! What SSM may know of the world.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::instance::State;
use super::{InstanceView, World};
use crate::aws::{Dialect, auth_refusal};
use crate::machine::Machines;
use crate::ssm::{Cut, InstanceFacts, JsonError, SsmWorld};

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
            Ok(_) => Ok(()),
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
