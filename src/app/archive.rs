//! The archive of logs, if there is one: where it is kept, and who fills it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;

use crate::config::Config;
use crate::informer::PodInformer;
use crate::leader::Fence;
use crate::link::LiveLinks;
use crate::logs::archiver::{self, Archiver};
use crate::logs::names;
use crate::logs::store::Store;
use crate::logs::store::cloudwatch::{CloudWatch, Group};

/// Where logs are kept, and whoever fills it; nothing where they are not archived.
pub(super) struct Archive {
    pub(super) store: Option<Arc<dyn Store>>,
    pub(super) archiver: Option<Arc<Archiver>>,
}

impl Archive {
    pub(super) fn new(
        config: &Config,
        sdk: &aws_config::SdkConfig,
        cluster_id: &str,
        fence: &Fence,
        (links, pods): (&Arc<LiveLinks>, &Arc<PodInformer>),
        metrics: archiver::Metrics,
    ) -> Result<Self> {
        let Some(logs) = &config.logs else {
            return Ok(Self { store: None, archiver: None });
        };
        let group = Group {
            name: logs.group.clone().map_or_else(|| names::group(cluster_id), Ok)?,
            retention_days: logs.retention_days,
            kms_key: logs.kms_key_id.clone(),
            tags: config.aws.tags.clone(),
        };
        let store: Arc<dyn Store> = Arc::new(CloudWatch::new(sdk, group).behind(fence));
        let archiver = Archiver::new(archiver::Deps {
            store: store.clone(),
            links: links.clone(),
            pods: pods.clone(),
            retention: logs.retention_days.map(|days| Duration::from_hours(24 * u64::from(days))),
            metrics,
        });
        Ok(Self { store: Some(store), archiver: Some(archiver) })
    }

    pub(super) fn health(&self) -> watch::Receiver<archiver::Health> {
        let off = || watch::channel(archiver::Health::Off).1;
        self.archiver.as_ref().map_or_else(off, |archiver| archiver.health())
    }
}
