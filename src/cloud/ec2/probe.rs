//! Tries, for `orca check`, everything that ORCA will need of AWS.

use aws_config::SdkConfig;

use super::Ec2;
use crate::cloud::{CloudError, Image, InstanceType, LaunchSpec, Market as _};
use crate::config::{Config, ImageSource, TunnelKind};
use crate::telemetry::CloudCalls;

/// One line of a check: what was tried, and what was found or what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    /// A detail worth knowing, or what to do about it.
    pub outcome: Result<String, String>,
}

impl Finding {
    /// One line of a check.
    pub fn new(what: impl Into<String>, outcome: Result<String, String>) -> Self {
        Self { what: what.into(), outcome }
    }
}

/// Tries credentials, VPC, subnets, groups, types, image, the permission to launch, and SSM. Nothing is changed.
/// `minor` is the cluster's minor version, if it is known.
pub async fn probe(sdk: &SdkConfig, config: &Config, cluster_id: &str, minor: Option<u32>) -> Vec<Finding> {
    let calls = CloudCalls::default();
    let ec2 = Ec2::new(sdk, config, cluster_id, minor.unwrap_or_default(), calls.clone());
    let credentials = credentials(sdk, &calls).await;
    let usable = credentials.outcome.is_ok();
    let mut findings = vec![credentials];
    if !usable {
        // All others would say the same, each after its own timeout.
        return findings;
    }
    findings.push(vpc(&ec2, config).await);
    findings.extend(subnets(&ec2, config).await);
    findings.extend(security_groups(&ec2, config).await);
    let (types, default_type) = instance_types(&ec2, config).await;
    findings.extend(types);
    if let Some(default_type) = default_type {
        let image = if minor.is_none() && config.aws.image == ImageSource::EksOptimized {
            Err("it follows the version of the API server, which is not known; set aws.amiID otherwise"
                .to_owned())
        } else {
            ec2.image_for(&default_type, None).await.map_err(|error| {
                advice(&error, "set aws.amiID or aws.amiSSMParameter to an image that exists")
            })
        };
        findings.push(Finding::new(
            format!("image for {}", default_type.name),
            image
                .as_ref()
                .map(|image| format!("{} on {}", image.id, image.root_device_name))
                .map_err(Clone::clone),
        ));
        if let Ok(image) = image {
            findings.push(launch_permission(&ec2, config, &default_type, image).await);
        }
    }
    if config.aws.tunnel == TunnelKind::Ssm {
        findings.push(ssm(&ec2).await);
    }
    findings
}

async fn credentials(sdk: &SdkConfig, calls: &CloudCalls) -> Finding {
    let sts = aws_sdk_sts::Client::new(sdk);
    let answer = super::calls::call(calls, "GetCallerIdentity", sts.get_caller_identity().send()).await;
    Finding::new(
        "AWS credentials",
        answer.map(|identity| identity.arn().unwrap_or_default().to_owned()).map_err(|error| {
            advice(
                &error,
                "give ORCA credentials (IRSA, Pod Identity, an instance role or environment variables)",
            )
        }),
    )
}

async fn vpc(ec2: &Ec2, config: &Config) -> Finding {
    let id = &config.aws.vpc_id;
    let request = ec2.calls.client.describe_vpcs().vpc_ids(id);
    let answer = ec2.calls.read("DescribeVpcs", || request.clone().send()).await;
    let outcome = match answer {
        Ok(answer) => match answer.vpcs().first() {
            Some(vpc) => Ok(vpc.cidr_block().unwrap_or_default().to_owned()),
            None => Err(format!("no such VPC in {}: set aws.vpcID", config.aws.region)),
        },
        Err(error) => Err(advice(&error, "set aws.vpcID to a VPC of this account and region")),
    };
    Finding::new(format!("VPC {id}"), outcome)
}

async fn subnets(ec2: &Ec2, config: &Config) -> Vec<Finding> {
    let request = ec2.calls.client.describe_subnets().set_subnet_ids(Some(config.aws.subnet_ids.clone()));
    let answer = ec2.calls.read("DescribeSubnets", || request.clone().send()).await;
    let line = |id: &String| {
        let outcome = match &answer {
            Err(error) => Err(advice(error, "set aws.subnetIDs to subnets of this account and region")),
            Ok(answer) => match answer.subnets().iter().find(|subnet| subnet.subnet_id() == Some(id)) {
                None => Err("no such subnet: set aws.subnetIDs".to_owned()),
                Some(subnet) if subnet.vpc_id() != Some(&config.aws.vpc_id) => Err(format!(
                    "it belongs to {}, not to aws.vpcID",
                    subnet.vpc_id().unwrap_or("another VPC")
                )),
                Some(subnet) => match subnet.available_ip_address_count().unwrap_or_default() {
                    free @ ..2 => Err(format!("{free} free addresses, a machine takes two")),
                    free => {
                        Ok(format!("{}, {free} free addresses", subnet.availability_zone().unwrap_or("?")))
                    }
                },
            },
        };
        Finding::new(format!("subnet {id}"), outcome)
    };
    config.aws.subnet_ids.iter().map(line).collect()
}

async fn security_groups(ec2: &Ec2, config: &Config) -> Vec<Finding> {
    let ids = &config.aws.security_group_ids;
    let request = ec2.calls.client.describe_security_groups().set_group_ids(Some(ids.clone()));
    let answer = ec2.calls.read("DescribeSecurityGroups", || request.clone().send()).await;
    let line = |id: &String| {
        let outcome = match &answer {
            Err(error) => Err(advice(error, "set aws.securityGroupIDs to groups of this account and region")),
            Ok(answer) => match answer.security_groups().iter().find(|group| group.group_id() == Some(id)) {
                None => Err("no such security group: set aws.securityGroupIDs".to_owned()),
                Some(group) if group.vpc_id() != Some(&config.aws.vpc_id) => Err(format!(
                    "it belongs to {}, not to aws.vpcID",
                    group.vpc_id().unwrap_or("another VPC")
                )),
                Some(group) => Ok(group.group_name().unwrap_or_default().to_owned()),
            },
        };
        Finding::new(format!("security group {id}"), outcome)
    };
    ids.iter().map(line).collect()
}

/// Every type that the configuration names in full: does it exist, and is it offered where a subnet is?
async fn instance_types(ec2: &Ec2, config: &Config) -> (Vec<Finding>, Option<InstanceType>) {
    let allowed = config.instances.allowed_instance_types.iter().flatten().map(String::as_str);
    let mut names: Vec<String> = Vec::new();
    for name in config.instances.named_types().into_iter().chain(allowed).filter(|name| !name.ends_with('*'))
    {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        let detail = "none is named in full, so image and permission to launch are not tried";
        return (vec![Finding::new("instance types", Ok(detail.to_owned()))], None);
    }
    let known = match ec2.instance_types(&names).await {
        Ok(known) => known,
        Err(error) => {
            let outcome = Err(advice(&error, "allow ec2:DescribeInstanceTypes"));
            return (vec![Finding::new("instance types", outcome)], None);
        }
    };
    let our_zones: Vec<String> =
        ec2.subnets().await.unwrap_or_default().into_iter().map(|subnet| subnet.zone).collect();
    let mut findings = Vec::new();
    for name in &names {
        let outcome = if known.iter().any(|kind| kind.name == *name) {
            match ec2.zones_of(name).await {
                Err(error) => Err(advice(&error, "allow ec2:DescribeInstanceTypeOfferings")),
                Ok(zones) if zones.iter().any(|zone| our_zones.contains(zone)) => Ok(zones.join(", ")),
                Ok(zones) => Err(format!(
                    "offered in {}, but no subnet is there: add one to aws.subnetIDs",
                    if zones.is_empty() { "no zone".to_owned() } else { zones.join(", ") }
                )),
            }
        } else {
            Err(format!("{} has no such type", config.aws.region))
        };
        findings.push(Finding::new(format!("instance type {name}"), outcome));
    }
    (findings, known.into_iter().find(|kind| names.first() == Some(&kind.name)))
}

async fn launch_permission(ec2: &Ec2, config: &Config, kind: &InstanceType, image: Image) -> Finding {
    let spec = LaunchSpec {
        token: "orca-check".to_owned(),
        instance_type: kind.name.clone(),
        image,
        subnet_id: config.aws.subnet_ids.first().cloned().unwrap_or_default(),
        purchase: crate::cloud::Purchase::default(),
        placement: crate::cloud::Placement::default(),
        security_group_ids: config.aws.security_group_ids.clone(),
        instance_profile: config.aws.instance_profile.clone(),
        user_data: String::new(),
        root_volume: config.instances.root_volume.clone(),
        efa: 0,
        ..LaunchSpec::default()
    };
    Finding::new(
        "permission to launch (dry run)",
        ec2.launch_dry_run(&spec)
            .await
            .map(|()| "RunInstances would have succeeded".to_owned())
            .map_err(|error| advice(&error, "see the provider's IAM policy in the documentation")),
    )
}

async fn ssm(ec2: &Ec2) -> Finding {
    let request = ec2.ssm.describe_instance_information().max_results(5);
    let answer = super::calls::call(&ec2.calls.counted, "DescribeInstanceInformation", request.send()).await;
    Finding::new(
        "SSM",
        answer.map(|_| "reachable".to_owned()).map_err(|error| {
            advice(
                &error,
                "allow ssm:DescribeInstanceInformation and ssm:StartSession, or set aws.tunnel to `direct`",
            )
        }),
    )
}

fn advice(error: &CloudError, what_to_do: &str) -> String {
    match error {
        CloudError::Transient { .. } | CloudError::Throttled { .. } => {
            format!("{error}; is aws.endpoint or aws.region right, and reachable from here?")
        }
        CloudError::NoCapacity { .. }
        | CloudError::Quota { .. }
        | CloudError::Denied { .. }
        | CloudError::NotFound { .. }
        | CloudError::Invalid { .. }
        | CloudError::TokenMismatch { .. }
        | CloudError::TokenSpent { .. } => format!("{error}; {what_to_do}"),
    }
}
