//! Volumes and network interfaces: those that instances have, and those that an instance left behind. Pure.
//!
//! What is attached belongs to its instance and follows its state. When that is terminated, what is to be deleted with
//! it is gone, and the rest is the account's until somebody deletes it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::estate::Subnet;
use super::ids;
use super::instance::{Instance, State};
use super::state::Cloud;

/// The primary network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub id: String,
    pub attachment_id: String,
    pub mac: String,
    pub description: String,
    pub delete_on_termination: bool,
    pub primary: Ipv4Addr,
    pub secondary: Vec<Ipv4Addr>,
    pub tags: BTreeMap<String, String>,
    pub efa: bool,
    pub efa_only: Vec<EfaOnly>,
}

impl Interface {
    /// As descriptions name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.efa { "efa" } else { "interface" }
    }
}

/// An EFA-only interface: no addresses, and nothing that the machine here could see of it. It goes with its instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EfaOnly {
    pub id: String,
    pub attachment_id: String,
    pub mac: String,
    pub card: u32,
    pub tags: BTreeMap<String, String>,
}

impl EfaOnly {
    /// A new one on a network card.
    #[must_use]
    pub fn fresh(card: u32, tags: &BTreeMap<String, String>) -> Self {
        Self {
            id: ids::fresh("eni"),
            attachment_id: ids::fresh("eni-attach"),
            mac: ids::fresh_mac(),
            card,
            tags: tags.clone(),
        }
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub id: String,
    pub device: String,
    pub size_gib: u32,
    /// Such as `gp3`.
    pub kind: String,
    /// What it was provisioned with, or has by its type; `None` for types that count none.
    pub iops: Option<u32>,
    /// MiB/s; of gp3 alone.
    pub throughput: Option<u32>,
    /// What it was made from.
    pub snapshot: Option<String>,
    pub encrypted: bool,
    pub delete_on_termination: bool,
    pub tags: BTreeMap<String, String>,
}

/// What stays when its instance ends although it was to be deleted: a fault that a test asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaves {
    pub volumes: bool,
    pub interfaces: bool,
}

/// A volume, as descriptions show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenVolume {
    pub volume: Volume,
    pub zone: String,
    pub zone_id: String,
    pub created: Timestamp,
    pub attachment: Option<Attachment>,
}

/// A network interface, as descriptions show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenInterface {
    pub id: String,
    pub kind: &'static str,
    pub mac: String,
    pub description: String,
    pub subnet: Subnet,
    pub groups: Vec<String>,
    /// The primary one first.
    pub addresses: Vec<Ipv4Addr>,
    /// For the order of descriptions; EC2 tells nobody.
    pub created: Timestamp,
    pub tags: BTreeMap<String, String>,
    pub attachment: Option<Plug>,
}

/// What has a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub instance_id: String,
    pub status: &'static str,
    pub at: Timestamp,
}

/// What has an interface, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    pub id: String,
    pub attachment: Attachment,
    pub device_index: u8,
    pub card: u32,
    pub delete_on_termination: bool,
}

/// What instances left behind, by id.
#[derive(Debug, Default)]
pub struct Left {
    pub volumes: BTreeMap<String, SeenVolume>,
    pub interfaces: BTreeMap<String, SeenInterface>,
}

/// `in-use` or `available`.
#[must_use]
pub fn status(is_attached: bool) -> &'static str {
    if is_attached { "in-use" } else { "available" }
}

impl Cloud {
    /// Every volume that descriptions show.
    #[must_use]
    pub fn volumes(&self, now: Timestamp) -> Vec<SeenVolume> {
        let attached = self.visible(now).into_iter().flat_map(volumes_of);
        self.left.volumes.values().cloned().chain(attached).collect()
    }

    /// Every network interface that descriptions show.
    #[must_use]
    pub fn interfaces(&self, now: Timestamp) -> Vec<SeenInterface> {
        let attached = self.visible(now).into_iter().flat_map(interfaces_of);
        self.left.interfaces.values().cloned().chain(attached).collect()
    }

    /// Deletes a volume that nothing has.
    pub fn delete_volume(&mut self, id: &str) {
        self.left.volumes.remove(id);
    }

    /// Deletes an interface that nothing has, and gives its addresses back.
    pub fn delete_interface(&mut self, id: &str) {
        if let Some(gone) = self.left.interfaces.remove(id) {
            let subnet = self.subnet_mut(&gone.subnet.id);
            gone.addresses.into_iter().for_each(|address| subnet.give_back(address));
        }
    }

    /// Parts a terminated instance from what it had, as it was a moment before its end.
    pub(super) fn part(&mut self, had: &Instance) {
        for volume in volumes_of(had) {
            if had.leaves.volumes || !volume.volume.delete_on_termination {
                let left = SeenVolume { attachment: None, ..volume };
                self.left.volumes.insert(left.volume.id.clone(), left);
            }
        }
        for interface in interfaces_of(had) {
            let is_deleted = interface.attachment.as_ref().is_none_or(|plug| plug.delete_on_termination);
            let left = SeenInterface { attachment: None, ..interface };
            self.left.interfaces.insert(left.id.clone(), left.clone());
            if is_deleted && !had.leaves.interfaces {
                self.delete_interface(&left.id);
            }
        }
    }
}

fn attachment(instance: &Instance) -> Attachment {
    let status = if instance.state == State::Pending { "attaching" } else { "attached" };
    Attachment { instance_id: instance.id.clone(), status, at: instance.launched }
}

/// The volumes that an instance has.
fn volumes_of(instance: &Instance) -> Vec<SeenVolume> {
    if instance.state == State::Terminated {
        return Vec::new();
    }
    let seen = |volume: &Volume| SeenVolume {
        volume: volume.clone(),
        zone: instance.subnet.zone.clone(),
        zone_id: instance.subnet.zone_id.clone(),
        created: instance.launched,
        attachment: Some(attachment(instance)),
    };
    instance.volumes.iter().map(seen).collect()
}

/// The network interfaces that an instance has, the primary one first.
fn interfaces_of(instance: &Instance) -> Vec<SeenInterface> {
    if instance.state == State::Terminated {
        return Vec::new();
    }
    let own = &instance.interface;
    let plug = |id: &str, device_index, card, delete_on_termination| Plug {
        id: id.to_owned(),
        attachment: attachment(instance),
        device_index,
        card,
        delete_on_termination,
    };
    let primary = SeenInterface {
        id: own.id.clone(),
        kind: own.kind(),
        mac: own.mac.clone(),
        description: own.description.clone(),
        subnet: instance.subnet.clone(),
        groups: instance.groups.clone(),
        addresses: instance.addresses().collect(),
        created: instance.launched,
        tags: own.tags.clone(),
        attachment: Some(plug(&own.attachment_id, 0, 0, own.delete_on_termination)),
    };
    let further = own.efa_only.iter().map(|one| SeenInterface {
        id: one.id.clone(),
        kind: "efa-only",
        mac: one.mac.clone(),
        description: String::new(),
        addresses: Vec::new(),
        tags: one.tags.clone(),
        attachment: Some(plug(&one.attachment_id, 1, one.card, true)),
        ..primary.clone()
    });
    std::iter::once(primary.clone()).chain(further).collect()
}
