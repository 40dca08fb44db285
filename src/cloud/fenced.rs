//! A cloud that changes nothing while the fence is closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Cloud, CloudError, Instance, LaunchSpec, Leftover, LeftoverKind, ScheduledEvent};
use crate::leader;
use crate::leader::Fence;

/// Passes on what only looks, and the rest while the fence is open: it is asked before a call is begun, and each time it
/// goes on.
#[derive(Debug)]
pub struct Fenced {
    cloud: Arc<dyn Cloud>,
    fence: Fence,
}

impl Fenced {
    /// `cloud` behind this fence.
    #[must_use]
    pub fn new(cloud: Arc<dyn Cloud>, fence: &Fence) -> Self {
        Self { cloud, fence: fence.clone() }
    }

    async fn change<T>(&self, call: impl Future<Output = Result<T, CloudError>>) -> Result<T, CloudError> {
        self.fence.clone().guard(call).await?
    }
}

impl From<leader::Fenced> for CloudError {
    /// Whether a call that was under way has been made is for the next leader to find out.
    fn from(fenced: leader::Fenced) -> Self {
        Self::Transient { code: "NotLeading".to_owned(), message: fenced.to_string() }
    }
}

#[async_trait]
impl Cloud for Fenced {
    async fn admit(&self, spec: &LaunchSpec) -> Result<(), CloudError> {
        self.change(self.cloud.admit(spec)).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        self.change(self.cloud.launch(spec)).await
    }

    async fn instances(&self) -> Result<Vec<Instance>, CloudError> {
        self.cloud.instances().await
    }

    fn trouble(&self) -> Option<CloudError> {
        self.cloud.trouble()
    }

    async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError> {
        self.cloud.instance(id).await
    }

    async fn scheduled_events(&self) -> Result<Vec<ScheduledEvent>, CloudError> {
        self.cloud.scheduled_events().await
    }

    async fn terminate(&self, id: &str) -> Result<(), CloudError> {
        self.change(self.cloud.terminate(id)).await
    }

    async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        self.change(self.cloud.tag(id, tags)).await
    }

    async fn console(&self, id: &str) -> Result<String, CloudError> {
        self.cloud.console(id).await
    }

    async fn leftovers(&self, kind: LeftoverKind) -> Result<Vec<Leftover>, CloudError> {
        self.cloud.leftovers(kind).await
    }

    async fn discard(&self, kind: LeftoverKind, id: &str) -> Result<(), CloudError> {
        self.change(self.cloud.discard(kind, id)).await
    }
}
