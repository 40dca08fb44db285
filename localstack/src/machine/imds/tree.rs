//! What an instance is told about itself, as a flat map from path to text; folders are where paths share a beginning.
//!
//! Paths and forms are those of EC2's instance metadata categories. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::json;

use crate::clock;
use crate::machine::{MachineSpec, Notices};

/// Role credentials last this long on EC2.
const CREDENTIALS_LIFE: std::time::Duration = std::time::Duration::from_secs(6 * 60 * 60);

/// Everything below `latest/` but user data.
#[derive(Debug)]
pub(super) struct Tree(BTreeMap<String, String>);

/// One place in the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(String),
    /// Names, one a line, folders with a slash at their end.
    Folder(String),
    Missing,
}

impl Tree {
    pub(super) fn of(spec: &MachineSpec, started: Timestamp) -> Self {
        let hostname = hostname(spec);
        let mut tree = BTreeMap::new();
        let mut put = |path: String, value: &str| {
            tree.insert(path, value.to_owned());
        };
        for (path, value) in [
            ("ami-id", spec.image_id.as_str()),
            ("ami-launch-index", "0"),
            ("hostname", &hostname),
            ("instance-action", "none"),
            ("instance-id", &spec.id),
            ("instance-life-cycle", spec.life_cycle),
            ("instance-type", &spec.instance_type),
            ("local-hostname", &hostname),
            ("local-ipv4", &spec.private_ip.to_string()),
            ("mac", &spec.mac),
            ("placement/availability-zone", &spec.zone),
            ("placement/availability-zone-id", &spec.zone_id),
            ("placement/region", &spec.region),
            ("reservation-id", &spec.id.replacen("i-", "r-", 1)),
            ("security-groups", &spec.security_group_ids.join("\n")),
            ("services/domain", "amazonaws.com"),
            ("services/partition", "aws"),
        ] {
            put(format!("meta-data/{path}"), value);
        }

        let mut addresses = spec.private_ip.to_string();
        for secondary in &spec.secondary_ips {
            write!(addresses, "\n{secondary}").expect("writing to a string does not fail");
        }
        let interface = format!("meta-data/network/interfaces/macs/{}", spec.mac);
        for (path, value) in [
            ("device-number", "0"),
            ("interface-id", &spec.id.replacen("i-", "eni-", 1)),
            ("local-hostname", &hostname),
            ("local-ipv4s", &addresses),
            ("mac", &spec.mac),
            ("network-card-index", "0"),
            ("owner-id", &spec.account),
            ("security-group-ids", &spec.security_group_ids.join("\n")),
            ("security-groups", &spec.security_group_ids.join("\n")),
            ("subnet-id", &spec.subnet_id),
            ("subnet-ipv4-cidr-block", &cidr(spec.subnet_cidr)),
            ("vpc-ipv4-cidr-block", &cidr(spec.vpc_cidr)),
            ("vpc-ipv4-cidr-blocks", &cidr(spec.vpc_cidr)),
        ] {
            put(format!("{interface}/{path}"), value);
        }

        if let Some(role) = &spec.role {
            let profile = json!({
                "Code": "Success",
                "LastUpdated": seconds(started),
                "InstanceProfileArn": format!("arn:aws:iam::{}:instance-profile/{role}", spec.account),
                "InstanceProfileId": "AIPALOCALCLOUD0000000",
            });
            put("meta-data/iam/info".to_owned(), &format!("{profile:#}"));
            // Credentials of nobody: the local cloud knows no roles, and nothing accepts them.
            let credentials = json!({
                "Code": "Success",
                "LastUpdated": seconds(started),
                "Type": "AWS-HMAC",
                "AccessKeyId": "ASIALOCALCLOUD000000",
                "SecretAccessKey": "local-cloud-instance-role",
                "Token": spec.id,
                "Expiration": seconds(clock::after(started, CREDENTIALS_LIFE)),
            });
            put(format!("meta-data/iam/security-credentials/{role}"), &format!("{credentials:#}"));
        }

        let document = json!({
            "accountId": spec.account,
            "architecture": "x86_64",
            "availabilityZone": spec.zone,
            "billingProducts": null,
            "devpayProductCodes": null,
            "imageId": spec.image_id,
            "instanceId": spec.id,
            "instanceType": spec.instance_type,
            "kernelId": null,
            "marketplaceProductCodes": null,
            "pendingTime": seconds(started),
            "privateIp": spec.private_ip.to_string(),
            "ramdiskId": null,
            "region": spec.region,
            "version": "2017-09-30",
        });
        put("dynamic/instance-identity/document".to_owned(), &format!("{document:#}"));
        Self(tree)
    }

    /// Says what EC2 has announced, and nothing of what it has not: without a notice there is no such path.
    pub(super) fn notify(&mut self, notices: Notices) {
        let Notices { interruption, rebalance } = notices;
        let action = |at| json!({ "action": "terminate", "time": seconds(at) }).to_string();
        let noticed = |at| json!({ "noticeTime": seconds(at) }).to_string();
        for (path, text) in [
            ("spot/instance-action", interruption.map(action)),
            ("spot/termination-time", interruption.map(seconds)),
            ("events/recommendations/rebalance", rebalance.map(noticed)),
        ] {
            let path = format!("meta-data/{path}");
            match text {
                Some(text) => drop(self.0.insert(path, text)),
                None => drop(self.0.remove(&path)),
            }
        }
    }

    /// `path` without a leading slash; a closing one is a folder asked for as such.
    pub(super) fn get(&self, path: &str) -> Entry {
        let path = path.trim_end_matches('/');
        if let Some(value) = self.0.get(path) {
            return Entry::File(value.clone());
        }
        let folder = format!("{path}/");
        let names: BTreeSet<String> = self
            .0
            .range(folder.clone()..)
            .map_while(|(found, _)| found.strip_prefix(&folder))
            .map(|rest| match rest.split_once('/') {
                Some((child, _)) => format!("{child}/"),
                None => rest.to_owned(),
            })
            .collect();
        if names.is_empty() { Entry::Missing } else { Entry::Folder(Vec::from_iter(names).join("\n")) }
    }
}

/// The name that the VPC's DNS gives a primary address.
pub(in crate::machine) fn short_hostname(spec: &MachineSpec) -> String {
    format!("ip-{}", spec.private_ip.to_string().replace('.', "-"))
}

fn hostname(spec: &MachineSpec) -> String {
    let zone = if spec.region == "us-east-1" { "ec2".to_owned() } else { format!("{}.compute", spec.region) };
    format!("{}.{zone}.internal", short_hostname(spec))
}

fn cidr((network, bits): (std::net::Ipv4Addr, u8)) -> String {
    format!("{network}/{bits}")
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
