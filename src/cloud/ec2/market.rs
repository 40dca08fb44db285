//! Types, zones, subnets and images, remembered for as long as they are good for.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_ec2::types::LocationType;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::cache::Cached;
use super::{Ec2, decode, filter};
use crate::cloud::{CloudError, Image, ImageWish, InstanceType, Subnet};
use crate::config::{Aws, ImageSource};

/// What is remembered, and the part of the configuration that is asked for.
#[derive(Debug)]
pub(super) struct Memory {
    subnet_ids: Vec<String>,
    image: ImageSource,
    minor: u32,
    types: Mutex<HashMap<String, (Instant, Option<InstanceType>)>>,
    zones: Cached<String, Vec<String>>,
    subnets: Cached<(), Vec<Subnet>>,
    images: Cached<Wanted, Image>,
}

const HOUR: Duration = Duration::from_secs(3600);
/// A name that EC2 does not know may be a type that is about to be launched in the region.
const KEPT_UNKNOWN: Duration = Duration::from_secs(300);
/// Free addresses change with every launch; a burst of pods still needs one answer, not one each.
const KEPT_SUBNETS: Duration = Duration::from_secs(5);
/// EC2's most for one filter.
const FILTER_VALUES: usize = 200;

impl Memory {
    pub(super) fn new(aws: &Aws, minor: u32) -> Self {
        Self {
            subnet_ids: aws.subnet_ids.clone(),
            image: aws.image.clone(),
            minor,
            types: Mutex::default(),
            zones: Cached::new(HOUR),
            subnets: Cached::new(KEPT_SUBNETS),
            images: Cached::new(24 * HOUR),
        }
    }
}

pub(super) async fn instance_types(ec2: &Ec2, names: &[String]) -> Result<Vec<InstanceType>, CloudError> {
    // Held while asking, on purpose: see `Cached`.
    let mut types = ec2.market.types.lock().await;
    let now = Instant::now();
    types.retain(|_, (until, _)| now < *until);
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| !types.contains_key(*name))
        // Filters take wildcards; names do not.
        .filter(|name| !name.contains(['*', '?']))
        .cloned()
        .collect();
    for names in unknown.chunks(FILTER_VALUES) {
        let found = describe_types(ec2, names).await?;
        for name in names {
            let answer = found.iter().find(|kind| kind.name == *name).cloned();
            let kept = if answer.is_some() { HOUR } else { KEPT_UNKNOWN };
            types.insert(name.clone(), (now + kept, answer));
        }
    }
    Ok(names.iter().filter_map(|name| types.get(name).and_then(|(_, kind)| kind.clone())).collect())
}

/// By filter and not by name: one unknown name makes EC2 refuse the whole call.
async fn describe_types(ec2: &Ec2, names: &[String]) -> Result<Vec<InstanceType>, CloudError> {
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let request = ec2
            .client
            .describe_instance_types()
            .filters(filter("instance-type", names.to_vec()))
            .set_next_token(token);
        let page = ec2.call("DescribeInstanceTypes", request.send()).await?;
        found.extend(page.instance_types().iter().filter_map(decode::instance_type));
        token = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if token.is_none() {
            return Ok(found);
        }
    }
}

pub(super) async fn zones_of(ec2: &Ec2, instance_type: &str) -> Result<Vec<String>, CloudError> {
    let ask = async {
        let request = ec2
            .client
            .describe_instance_type_offerings()
            .location_type(LocationType::AvailabilityZone)
            .filters(filter("instance-type", [instance_type.to_owned()]));
        let answer = ec2.call("DescribeInstanceTypeOfferings", request.send()).await?;
        let mut zones: Vec<String> = answer
            .instance_type_offerings()
            .iter()
            .filter_map(|offering| offering.location().map(str::to_owned))
            .collect();
        zones.sort_unstable();
        Ok(zones)
    };
    ec2.market.zones.get(instance_type.to_owned(), ask).await
}

pub(super) async fn subnets(ec2: &Ec2) -> Result<Vec<Subnet>, CloudError> {
    let ids = &ec2.market.subnet_ids;
    let ask = async {
        let request = ec2.client.describe_subnets().set_subnet_ids(Some(ids.clone()));
        let answer = ec2.call("DescribeSubnets", request.send()).await?;
        let found: Vec<Subnet> = answer.subnets().iter().filter_map(decode::subnet).collect();
        Ok(ids.iter().filter_map(|id| found.iter().find(|subnet| subnet.id == *id).cloned()).collect())
    };
    ec2.market.subnets.get((), ask).await
}

/// How an image is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    Id(String),
    Parameter(String),
}

pub(super) async fn image_for(
    ec2: &Ec2,
    instance_type: &InstanceType,
    wish: Option<&ImageWish>,
) -> Result<Image, CloudError> {
    let configured = || match &ec2.market.image {
        ImageSource::Id(id) => Wanted::Id(id.clone()),
        ImageSource::Parameter(name) => Wanted::Parameter(name.clone()),
        ImageSource::EksOptimized => Wanted::Parameter(eks_parameter(ec2.market.minor, instance_type)),
    };
    let wanted = match wish {
        Some(ImageWish::Id(id)) => Wanted::Id(id.clone()),
        Some(ImageWish::Parameter(name)) => Wanted::Parameter(name.clone()),
        None => configured(),
    };
    ec2.market.images.get(wanted.clone(), find_image(ec2, wanted)).await
}

async fn find_image(ec2: &Ec2, wanted: Wanted) -> Result<Image, CloudError> {
    let id = match wanted {
        Wanted::Id(id) => id,
        Wanted::Parameter(name) => parameter(ec2, &name).await?,
    };
    let request = ec2.client.describe_images().image_ids(&id);
    let answer = ec2.call("DescribeImages", request.send()).await?;
    answer.images().iter().filter_map(decode::image).find(|image| image.id == id).ok_or_else(|| {
        CloudError::NotFound {
            code: "InvalidAMIID.NotFound".to_owned(),
            message: format!("the image `{id}` is not there, or not shared with this account"),
        }
    })
}

async fn parameter(ec2: &Ec2, name: &str) -> Result<String, CloudError> {
    let answer = ec2.call("GetParameter", ec2.ssm.get_parameter().name(name).send()).await?;
    let value = answer.parameter().and_then(|parameter| parameter.value()).unwrap_or_default().trim();
    if value.starts_with("ami-") {
        return Ok(value.to_owned());
    }
    Err(CloudError::Invalid {
        code: "InvalidParameterValue".to_owned(),
        message: format!("the SSM parameter `{name}` holds `{value}`, expected the id of an image"),
    })
}

/// The public parameter of the EKS-optimized Amazon Linux 2023 image. CPU types take `standard`.
fn eks_parameter(minor: u32, instance_type: &InstanceType) -> String {
    let arch = if instance_type.arch == "arm64" { "arm64" } else { "x86_64" };
    let is_nvidia =
        instance_type.gpus.as_ref().is_some_and(|gpus| gpus.manufacturer.eq_ignore_ascii_case("nvidia"));
    let variant = if is_nvidia { "nvidia" } else { "standard" };
    format!(
        "/aws/service/eks/optimized-ami/1.{minor}/amazon-linux-2023/{arch}/{variant}/recommended/image_id"
    )
}
