//! EC2 as a [`Cloud`] and a [`Market`](super::Market): translation and nothing more.
//!
//! It decides nothing about pods. Every call is counted, and every refusal becomes the [`CloudError`] that says what
//! the caller does next; what was done and why is for the caller to record ([`super::audit`]).
//! RunInstances is repeated only when EC2 says that it did not look at it: what a failed launch means is for the
//! caller to decide.

mod batch;
mod cache;
mod calls;
mod decode;
mod errors;
pub mod fenced;
mod launch;
mod leftovers;
mod market;
pub mod probe;
mod rates;
mod scheduled;
mod together;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::types::Filter;
use base64::Engine as _;

use super::{
    Cloud, CloudError, Instance, LaunchSpec, Leftover, LeftoverKind, ScheduledEvent, TAG_CLUSTER, TAG_NODE,
};
use crate::config::{Aws, Config};
use crate::leader::Fence;
use crate::telemetry::CloudCalls;
use batch::Batch;
use calls::Calls;
pub use errors::classify;
pub(crate) use errors::{chain, is_about_credentials};
use fenced::Fenced;
use rates::Rates;

/// What every client of AWS is made from: region, endpoint, credentials by the SDK's usual chain, deadlines and
/// the SDK's standard retries.
pub async fn sdk_config(aws: &Aws) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(aws.region.clone()))
        .retry_config(RetryConfig::standard())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(5))
                .operation_attempt_timeout(Duration::from_secs(20))
                .operation_timeout(Duration::from_secs(60))
                .build(),
        );
    match &aws.endpoint {
        Some(endpoint) => loader.endpoint_url(endpoint).load().await,
        None => loader.load().await,
    }
}

/// EC2 in one region, as far as it concerns one virtual node of one cluster.
#[derive(Debug)]
pub struct Ec2 {
    calls: Calls,
    ssm: aws_sdk_ssm::Client,
    sts: aws_sdk_sts::Client,
    pricing: aws_sdk_pricing::Client,
    cluster_id: String,
    node: String,
    /// `aws.tags`.
    extra_tags: BTreeMap<String, String>,
    describes: Batch<String, Option<Instance>>,
    terminations: Batch<String, ()>,
    market: market::Memory,
}

impl Ec2 {
    /// `cluster_id` is the cluster's identity (see [`TAG_CLUSTER`]), `minor` the minor version of its API server,
    /// which chooses the EKS-optimized image.
    ///
    /// # Panics
    /// Outside a tokio runtime: it owns tasks.
    #[must_use]
    pub fn new(sdk: &SdkConfig, config: &Config, cluster_id: &str, minor: u32, calls: CloudCalls) -> Self {
        let ec2 = aws_sdk_ec2::config::Builder::from(sdk).retry_config(RetryConfig::disabled()).build();
        let calls = Calls {
            client: aws_sdk_ec2::Client::from_conf(ec2),
            counted: calls,
            rates: Arc::new(Rates::new(config.limits.launch_rate)),
        };
        Self {
            ssm: aws_sdk_ssm::Client::new(sdk),
            sts: aws_sdk_sts::Client::new(sdk),
            pricing: market::pricing_client(sdk, &config.aws.region),
            cluster_id: cluster_id.to_owned(),
            node: config.node.name.clone(),
            extra_tags: config.aws.tags.clone(),
            describes: together::describes(calls.clone(), of_cluster(cluster_id)),
            terminations: together::terminations(calls.clone()),
            market: market::Memory::new(&config.aws, minor),
            calls,
        }
    }

    /// The same, whose calls that change something are not sent while the fence is closed.
    #[must_use]
    pub fn behind(mut self, fence: &Fence) -> Self {
        let config = self.calls.client.config().to_builder().interceptor(Fenced::by(fence)).build();
        self.calls.client = aws_sdk_ec2::Client::from_conf(config);
        self.terminations = together::terminations(self.calls.clone());
        self
    }

    /// Asks whether `launch` would be allowed, without launching.
    ///
    /// # Errors
    /// What EC2 would refuse it with.
    pub async fn launch_dry_run(&self, spec: &LaunchSpec) -> Result<(), CloudError> {
        let request = launch::request(&self.calls.client, &self.tagged(spec))?.dry_run(true);
        match self.calls.read("RunInstances(dry run)", || request.clone().send()).await {
            Ok(_) => Ok(()),
            Err(CloudError::Invalid { code, .. }) if code == "DryRunOperation" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Leaves what carries the tags of this cluster and node.
    fn ours(&self) -> [Filter; 2] {
        [of_cluster(&self.cluster_id), filter(&format!("tag:{TAG_NODE}"), [self.node.clone()])]
    }

    /// The spec with the tags that every machine of ours carries.
    fn tagged(&self, spec: &LaunchSpec) -> LaunchSpec {
        let mut spec = spec.clone();
        for (key, value) in &self.extra_tags {
            spec.tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
        spec.tags.insert(TAG_CLUSTER.to_owned(), self.cluster_id.clone());
        spec.tags.insert(TAG_NODE.to_owned(), self.node.clone());
        spec
    }
}

#[async_trait]
impl Cloud for Ec2 {
    async fn admit(&self, _spec: &LaunchSpec) -> Result<(), CloudError> {
        self.calls.turn(&self.calls.rates.launch, 1).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        let request = launch::request(&self.calls.client, &self.tagged(spec))?;
        let send = || request.clone().customize().config_override(launch::patience()).send();
        let launches = &self.calls.rates.launch;
        let answer = self.calls.admitted(launches, 1, "RunInstances", send).await?;
        answer.instances().first().and_then(decode::instance).ok_or_else(|| CloudError::Transient {
            code: "EmptyAnswer".to_owned(),
            message: "RunInstances answered without an instance".to_owned(),
        })
    }

    async fn instances(&self) -> Result<Vec<Instance>, CloudError> {
        let mut instances = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .calls
                .client
                .describe_instances()
                .set_filters(Some(self.ours().into()))
                .max_results(1000)
                .set_next_token(token);
            let page = self.calls.read("DescribeInstances", || request.clone().send()).await?;
            instances
                .extend(page.reservations().iter().flat_map(|r| r.instances()).filter_map(decode::instance));
            token = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(instances);
            }
        }
    }

    async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError> {
        self.describes.ask(id.to_owned()).await
    }

    async fn scheduled_events(&self) -> Result<Vec<ScheduledEvent>, CloudError> {
        scheduled::events(&self.calls).await
    }

    async fn terminate(&self, id: &str) -> Result<(), CloudError> {
        self.terminations.ask(id.to_owned()).await
    }

    async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        let request = self.calls.client.create_tags().resources(id).set_tags(Some(launch::tags(tags)));
        let send = || request.clone().send();
        self.calls.repeat(&self.calls.rates.change, 1, "CreateTags", send).await.map(|_| ())
    }

    async fn console(&self, id: &str) -> Result<String, CloudError> {
        let request = self.calls.client.get_console_output().instance_id(id).latest(true);
        let answer = self.calls.read("GetConsoleOutput", || request.clone().send()).await?;
        let encoded: String =
            answer.output().unwrap_or_default().chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|error| {
            CloudError::Transient {
                code: "InvalidAnswer".to_owned(),
                message: format!("the console output of `{id}` is not base64: {error}"),
            }
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn leftovers(&self, kind: LeftoverKind) -> Result<Vec<Leftover>, CloudError> {
        leftovers::list(&self.calls, kind, self.ours()).await
    }

    async fn discard(&self, kind: LeftoverKind, id: &str) -> Result<(), CloudError> {
        leftovers::delete(&self.calls, kind, id).await
    }
}

fn of_cluster(cluster_id: &str) -> Filter {
    filter(&format!("tag:{TAG_CLUSTER}"), [cluster_id.to_owned()])
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}
