//! EC2 as a [`Cloud`] and a [`Market`]: translation and nothing more.
//!
//! It decides nothing about pods. Every call is counted, and every refusal becomes the [`CloudError`] that says what
//! the caller does next; what was done and why is for the caller to record ([`super::audit`]).
//! RunInstances is never repeated by the SDK: what a failed launch means is for the caller to decide.

mod cache;
mod calls;
mod decode;
mod errors;
mod launch;
mod limiter;
mod market;
pub mod probe;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::types::Filter;
use base64::Engine as _;

use super::{
    Block, Cloud, CloudError, Image, ImageWish, Instance, InstanceType, LaunchSpec, Market, Reservation,
    SpotPrice, Subnet, TAG_CLUSTER, TAG_NODE,
};
use crate::capacity::money::MicroUsd;
use crate::config::{Aws, Config};
use crate::telemetry::CloudCalls;
use limiter::Bucket;

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
    client: aws_sdk_ec2::Client,
    ssm: aws_sdk_ssm::Client,
    calls: CloudCalls,
    cluster_id: String,
    node: String,
    /// `aws.tags`.
    extra_tags: BTreeMap<String, String>,
    launches: Bucket,
    market: market::Memory,
}

impl Ec2 {
    /// `cluster_id` is the cluster's identity (see [`TAG_CLUSTER`]), `minor` the minor version of its API server,
    /// which chooses the EKS-optimized image.
    #[must_use]
    pub fn new(sdk: &SdkConfig, config: &Config, cluster_id: &str, minor: u32, calls: CloudCalls) -> Self {
        Self {
            client: aws_sdk_ec2::Client::new(sdk),
            ssm: aws_sdk_ssm::Client::new(sdk),
            calls,
            cluster_id: cluster_id.to_owned(),
            node: config.node.name.clone(),
            extra_tags: config.aws.tags.clone(),
            // EC2's own bucket for instances: 1000, refilled by 2 a second.
            launches: Bucket::new(1000, 2.0),
            market: market::Memory::new(&config.aws, minor),
        }
    }

    /// Asks whether `launch` would be allowed, without launching.
    ///
    /// # Errors
    /// What EC2 would refuse it with.
    pub async fn launch_dry_run(&self, spec: &LaunchSpec) -> Result<(), CloudError> {
        let request = launch::request(&self.client, &self.tagged(spec))?;
        match self.call("RunInstances(dry run)", request.dry_run(true).send()).await {
            Ok(_) => Ok(()),
            Err(CloudError::Invalid { code, .. }) if code == "DryRunOperation" => Ok(()),
            Err(error) => Err(error),
        }
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

    fn of_this_cluster(&self) -> Filter {
        filter(&format!("tag:{TAG_CLUSTER}"), [self.cluster_id.clone()])
    }
}

#[async_trait]
impl Cloud for Ec2 {
    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        let request = launch::request(&self.client, &self.tagged(spec))?;
        self.launches.take().await?;
        let request = request.customize().config_override(launch::no_retries());
        let answer = self.call("RunInstances", request.send()).await?;
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
                .client
                .describe_instances()
                .filters(self.of_this_cluster())
                .filters(filter(&format!("tag:{TAG_NODE}"), [self.node.clone()]))
                .max_results(1000)
                .set_next_token(token);
            let page = self.call("DescribeInstances", request.send()).await?;
            instances
                .extend(page.reservations().iter().flat_map(|r| r.instances()).filter_map(decode::instance));
            token = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(instances);
            }
        }
    }

    async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError> {
        let request = self.client.describe_instances().instance_ids(id).filters(self.of_this_cluster());
        match self.call("DescribeInstances", request.send()).await {
            Ok(page) => Ok(page
                .reservations()
                .iter()
                .flat_map(|reservation| reservation.instances())
                .filter_map(decode::instance)
                .find(|instance| instance.id == id)),
            Err(CloudError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn terminate(&self, id: &str) -> Result<(), CloudError> {
        let request = self.client.terminate_instances().instance_ids(id);
        match self.call("TerminateInstances", request.send()).await {
            Ok(_) | Err(CloudError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        let request = self.client.create_tags().resources(id).set_tags(Some(launch::tags(tags)));
        self.call("CreateTags", request.send()).await.map(|_| ())
    }

    async fn console(&self, id: &str) -> Result<String, CloudError> {
        let request = self.client.get_console_output().instance_id(id).latest(true);
        let answer = self.call("GetConsoleOutput", request.send()).await?;
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
}

#[async_trait]
impl Market for Ec2 {
    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>, CloudError> {
        market::instance_types(self, names).await
    }

    async fn zones_of(&self, instance_type: &str) -> Result<Vec<String>, CloudError> {
        market::zones_of(self, instance_type).await
    }

    async fn subnets(&self) -> Result<Vec<Subnet>, CloudError> {
        market::subnets(self).await
    }

    async fn image_for(
        &self,
        instance_type: &InstanceType,
        wish: Option<&ImageWish>,
    ) -> Result<Image, CloudError> {
        market::image_for(self, instance_type, wish).await
    }

    async fn all_instance_types(&self) -> Result<Vec<InstanceType>, CloudError> {
        Ok(Vec::new())
    }

    async fn all_offerings(&self) -> Result<BTreeMap<String, Vec<String>>, CloudError> {
        Ok(BTreeMap::new())
    }

    async fn on_demand_prices(&self) -> Result<BTreeMap<String, MicroUsd>, CloudError> {
        Ok(BTreeMap::new())
    }

    async fn spot_prices(&self) -> Result<Vec<SpotPrice>, CloudError> {
        Ok(Vec::new())
    }

    async fn reservations(&self) -> Result<Vec<Reservation>, CloudError> {
        Ok(Vec::new())
    }

    async fn blocks(&self) -> Result<Vec<Block>, CloudError> {
        Ok(Vec::new())
    }
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}
