//! Volumes and network interfaces without a machine: listing and deleting them.

use aws_sdk_ec2::types::{self as sdk, Filter, NetworkInterfaceStatus, VolumeState};

use super::calls::Calls;
use super::{decode, filter};
use crate::cloud::{CloudError, Disk, Leftover, LeftoverKind};

/// Everything of a kind that these filters leave and that nothing has.
pub(super) async fn list(
    calls: &Calls,
    kind: LeftoverKind,
    ours: [Filter; 2],
) -> Result<Vec<Leftover>, CloudError> {
    let filters: Vec<Filter> = ours.into_iter().chain([filter("status", ["available".to_owned()])]).collect();
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let next = match kind {
            LeftoverKind::Volume => {
                let request = calls.client.describe_volumes().set_filters(Some(filters.clone()));
                let request = request.max_results(500).set_next_token(token);
                let page = calls.read("DescribeVolumes", || request.clone().send()).await?;
                found.extend(page.volumes().iter().filter_map(volume));
                page.next_token
            }
            LeftoverKind::NetworkInterface => {
                let request = calls.client.describe_network_interfaces().set_filters(Some(filters.clone()));
                let request = request.max_results(1000).set_next_token(token);
                let page = calls.read("DescribeNetworkInterfaces", || request.clone().send()).await?;
                found.extend(page.network_interfaces().iter().filter_map(interface));
                page.next_token
            }
        };
        token = next.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(found);
        }
    }
}

/// Deletes one; one that is gone already is a success.
pub(super) async fn delete(calls: &Calls, kind: LeftoverKind, id: &str) -> Result<(), CloudError> {
    let change = &calls.rates.change;
    let done = match kind {
        LeftoverKind::Volume => {
            let request = calls.client.delete_volume().volume_id(id);
            calls.repeat(change, 1, "DeleteVolume", || request.clone().send()).await.map(drop)
        }
        LeftoverKind::NetworkInterface => {
            let request = calls.client.delete_network_interface().network_interface_id(id);
            calls.repeat(change, 1, "DeleteNetworkInterface", || request.clone().send()).await.map(drop)
        }
    };
    match done {
        Err(CloudError::NotFound { .. }) => Ok(()),
        done => done,
    }
}

/// `None` for one that has no id, or that is not free.
fn volume(volume: &sdk::Volume) -> Option<Leftover> {
    let is_free = volume.state() == Some(&VolumeState::Available) && volume.attachments().is_empty();
    is_free.then_some(())?;
    let disk = Disk {
        kind: volume.volume_type().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        size_gib: decode::unsigned(volume.size()),
        iops: decode::unsigned(volume.iops()),
        throughput: decode::unsigned(volume.throughput()),
    };
    Some(Leftover {
        kind: LeftoverKind::Volume,
        id: volume.volume_id()?.to_owned(),
        created_at: volume.create_time().and_then(decode::timestamp),
        place: decode::owned(volume.availability_zone()),
        disk: Some(disk),
        tags: decode::tags(volume.tags()),
    })
}

/// The same. What another service of AWS made is never ours.
fn interface(interface: &sdk::NetworkInterface) -> Option<Leftover> {
    let is_free = interface.status() == Some(&NetworkInterfaceStatus::Available)
        && interface.attachment().is_none()
        && interface.requester_managed() != Some(true);
    is_free.then_some(())?;
    Some(Leftover {
        kind: LeftoverKind::NetworkInterface,
        id: interface.network_interface_id()?.to_owned(),
        created_at: None,
        place: decode::owned(interface.subnet_id()),
        disk: None,
        tags: decode::tags(interface.tag_set()),
    })
}
