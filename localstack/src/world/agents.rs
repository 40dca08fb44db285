//! What SSM may know of the world: instances that run, and the machines that its agents are in.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::instance::{Instance, State};
use super::{World, host_name};
use crate::aws::{Dialect, Refusal, auth_refusal};
use crate::machine::Machines;
use crate::ssm::{Cut, InstanceFacts, JsonError, SsmWorld};

impl SsmWorld for World {
    fn region(&self) -> String {
        self.region.clone()
    }

    fn instance(&self, id: &str) -> Option<InstanceFacts> {
        self.view(|cloud, _| cloud.instances.get(id).and_then(facts))
    }

    fn instances(&self) -> Vec<InstanceFacts> {
        self.view(|cloud, _| cloud.instances.values().filter_map(facts).collect())
    }

    fn machines(&self) -> Option<Arc<dyn Machines>> {
        Some(self.machines.clone())
    }

    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.get(name).map(|parameter| parameter.value)
    }

    fn verify_upgrade(&self, request: &http::request::Parts) -> Result<(), JsonError> {
        let Err(error) = self.verify(request, b"", &["ssmmessages"]) else { return Ok(()) };
        // The status must not be 400: clients take that for a broken upgrade.
        let Refusal { status, code, message } = auth_refusal(&error, Dialect::Sts);
        Err(JsonError { status, code, message })
    }

    fn cuts(&self) -> broadcast::Receiver<Cut> {
        self.cuts.subscribe()
    }
}

fn facts(instance: &Instance) -> Option<InstanceFacts> {
    (instance.state == State::Running).then(|| InstanceFacts {
        id: instance.id.clone(),
        private_ip: instance.interface.primary,
        host_name: host_name(instance.interface.primary),
    })
}
