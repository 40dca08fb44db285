//! The machine image for a type.

use super::super::calls::call;
use super::super::{Ec2, decode};
use crate::cloud::{CloudError, Image, ImageWish, InstanceType};
use crate::config::ImageSource;

/// How an image is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
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
    let request = ec2.calls.client.describe_images().image_ids(&id);
    let answer = ec2.calls.read("DescribeImages", || request.clone().send()).await?;
    answer.images().iter().filter_map(decode::image).find(|image| image.id == id).ok_or_else(|| {
        CloudError::NotFound {
            code: "InvalidAMIID.NotFound".to_owned(),
            message: format!("the image `{id}` is not there, or not shared with this account"),
        }
    })
}

async fn parameter(ec2: &Ec2, name: &str) -> Result<String, CloudError> {
    let answer = call(&ec2.calls.counted, "GetParameter", ec2.ssm.get_parameter().name(name).send()).await?;
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
