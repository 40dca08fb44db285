//! What exists in the cloud before anybody launches anything. The ids are fixed, so that configurations can name them.
//!
//! | thing | id |
//! |---|---|
//! | region, account | `us-east-1`, `000000000000` |
//! | VPC 10.88.0.0/16 | `vpc-0c10ad00000000001` |
//! | subnet 10.88.1.0/24 in us-east-1a (use1-az1) | `subnet-0c10ad0000000000a` |
//! | subnet 10.88.2.0/24 in us-east-1b (use1-az2) | `subnet-0c10ad0000000000b` |
//! | subnet 10.88.3.0/24 in us-east-1c (use1-az3) | `subnet-0c10ad0000000000c` |
//! | another, 10.88.4.0/24 in us-east-1a | `subnet-0c10ad0000000001a` |
//! | security group `default` | `sg-0c10ad0000000000d` |
//! | security group `orca` | `sg-0c10ad0000000000e` |
//! | EKS-optimized AL2023, x86_64 standard | `ami-0c10ad0000000000a` |
//! | EKS-optimized AL2023, x86_64 nvidia | `ami-0c10ad0000000000b` |
//! | EKS-optimized AL2023, arm64 standard | `ami-0c10ad0000000000c` |
//! | instance profile and its role | `orca-machine` |
//! | access key and secret | `test`, `test` |

use std::net::Ipv4Addr;

use super::estate::{Cidr, Estate, Group, Image, Profile, Subnet, Vpc};

pub const REGION: &str = "us-east-1";
pub const ACCOUNT: &str = "000000000000";
pub const VPC: &str = "vpc-0c10ad00000000001";
pub const SUBNET_A: &str = "subnet-0c10ad0000000000a";
pub const SUBNET_B: &str = "subnet-0c10ad0000000000b";
pub const SUBNET_C: &str = "subnet-0c10ad0000000000c";
pub const SUBNET_A2: &str = "subnet-0c10ad0000000001a";
/// With room for two thousand machines of two addresses each.
pub const SUBNET_WIDE: &str = "subnet-0c10ad0000000001b";
pub const GROUP_DEFAULT: &str = "sg-0c10ad0000000000d";
pub const GROUP_ORCA: &str = "sg-0c10ad0000000000e";
pub const AMI_X86_64: &str = "ami-0c10ad0000000000a";
pub const AMI_NVIDIA: &str = "ami-0c10ad0000000000b";
pub const AMI_ARM64: &str = "ami-0c10ad0000000000c";
pub const PROFILE: &str = "orca-machine";
pub const ACCESS_KEY: &str = "test";
pub const SECRET_KEY: &str = "test";

/// Kubernetes minor versions that EKS has images for.
const MINORS: [&str; 3] = ["1.36", "1.35", "1.34"];

/// The network, images and profiles.
#[must_use]
pub fn estate() -> Estate {
    let cidr = |third, bits| Cidr { address: Ipv4Addr::new(10, 88, third, 0), bits };
    let subnet = |id: &str, third: u8, letter: char, zone: u8| Subnet {
        id: id.to_owned(),
        vpc: VPC.to_owned(),
        cidr: cidr(third, if id == SUBNET_WIDE { 20 } else { 24 }),
        zone: format!("{REGION}{letter}"),
        zone_id: format!("use1-az{zone}"),
    };
    let group = |id: &str, name: &str, description: &str| Group {
        id: id.to_owned(),
        name: name.to_owned(),
        description: description.to_owned(),
    };
    let image = |id: &str, kind: &str, architecture: &'static str| Image {
        id: id.to_owned(),
        name: format!("amazon-eks-node-al2023-{architecture}-{kind}-1.36-v20260801"),
        description: format!(
            "EKS-optimized Kubernetes node based on Amazon Linux 2023, {kind} ({architecture})"
        ),
        architecture,
        owner: "602401143452".to_owned(),
        owner_alias: "amazon".to_owned(),
        root_device: "/dev/xvda".to_owned(),
        snapshot: id.replacen("ami-", "snap-", 1),
        snapshot_gib: 20,
        created: "2026-08-01T00:00:00.000Z".to_owned(),
    };
    Estate {
        vpc: Vpc { id: VPC.to_owned(), cidr: cidr(0, 16) },
        subnets: vec![
            subnet(SUBNET_A, 1, 'a', 1),
            subnet(SUBNET_B, 2, 'b', 2),
            subnet(SUBNET_C, 3, 'c', 3),
            subnet(SUBNET_A2, 4, 'a', 1),
            subnet(SUBNET_WIDE, 16, 'b', 2),
        ],
        groups: vec![
            group(GROUP_DEFAULT, "default", "default VPC security group"),
            group(GROUP_ORCA, "orca", "machines that run pods"),
        ],
        images: vec![
            image(AMI_X86_64, "standard", "x86_64"),
            image(AMI_NVIDIA, "nvidia", "x86_64"),
            image(AMI_ARM64, "standard", "arm64"),
        ],
        profiles: vec![Profile {
            name: PROFILE.to_owned(),
            id: "AIPA0C10AD00000000001".to_owned(),
            role: PROFILE.to_owned(),
        }],
    }
}

/// Names and values of the public SSM parameters.
#[must_use]
pub fn parameters() -> Vec<(String, String)> {
    let kinds =
        [("x86_64/standard", AMI_X86_64), ("x86_64/nvidia", AMI_NVIDIA), ("arm64/standard", AMI_ARM64)];
    MINORS
        .iter()
        .flat_map(|minor| {
            kinds.map(|(kind, ami)| {
                let name = format!(
                    "/aws/service/eks/optimized-ami/{minor}/amazon-linux-2023/{kind}/recommended/image_id"
                );
                (name, ami.to_owned())
            })
        })
        .collect()
}
