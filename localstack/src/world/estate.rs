//! What an account has beside instances: network, images, profiles. It does not change while the cloud runs.

use std::net::Ipv4Addr;

/// Everything fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estate {
    pub vpc: Vpc,
    pub subnets: Vec<Subnet>,
    pub groups: Vec<Group>,
    pub images: Vec<Image>,
    pub profiles: Vec<Profile>,
}

/// The one VPC. It is not a default VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    pub id: String,
    pub cidr: Cidr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: String,
    pub vpc: String,
    pub cidr: Cidr,
    /// Such as `us-east-1a`.
    pub zone: String,
    /// Such as `use1-az1`.
    pub zone_id: String,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub name: String,
    pub description: String,
}

/// A machine image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub name: String,
    pub description: String,
    /// `x86_64` or `arm64`.
    pub architecture: &'static str,
    /// Account id.
    pub owner: String,
    pub owner_alias: String,
    /// Device name, such as `/dev/xvda`.
    pub root_device: String,
    pub snapshot: String,
    pub snapshot_gib: u32,
    /// Creation date in EC2's form.
    pub created: String,
}

/// An instance profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    pub id: String,
    pub role: String,
}

/// A block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: Ipv4Addr,
    pub bits: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

impl Estate {
    #[must_use]
    pub fn subnet(&self, id: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == id)
    }

    #[must_use]
    pub fn image(&self, id: &str) -> Option<&Image> {
        self.images.iter().find(|image| image.id == id)
    }

    #[must_use]
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// Names of all zones.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.first_subnets().map(|subnet| subnet.zone.as_str())
    }

    /// One subnet of each zone: a zone may have more than one.
    pub fn first_subnets(&self) -> impl Iterator<Item = &Subnet> {
        let is_first =
            |(n, subnet): &(usize, &Subnet)| self.subnets[..*n].iter().all(|other| other.zone != subnet.zone);
        self.subnets.iter().enumerate().filter(is_first).map(|(_, subnet)| subnet)
    }
}
