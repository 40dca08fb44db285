//! DescribeVolumes and DeleteVolume. Volumes are made by launches alone.

use std::collections::BTreeMap;

use super::filter::{Field, Filtered, Filters};
use super::ids::Kind;
use super::page::Page;
use super::{Call, render};
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::clock;
use crate::world::devices::{self, SeenVolume};

pub(super) fn describe_volumes(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("VolumeId");
    scope.flag("IncludeManagedResources")?;
    let filters = Filters::parse::<SeenVolume>(&scope)?;
    Page::not_with(call.params, "VolumeId", "volumeSet")?;
    let page = Page::parse(call.params, 5..=1000)?;
    call.ready()?;
    let mut all = call.world.view(|cloud, now| cloud.volumes(now));
    if !ids.is_empty() {
        all = Kind::Volume.find_all(&ids, |id| all.iter().find(|seen| seen.volume.id == id).cloned())?;
    }
    let passing = all.into_iter().filter(|seen| filters.pass(seen)).collect();
    let (shown, next) = page.cut(passing, |seen: &SeenVolume| format!("{} {}", seen.created, seen.volume.id));
    let mut xml = Xml::default();
    xml.list("volumeSet", &shown, volume);
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn volume(xml: &mut Xml, seen: &SeenVolume) {
    let SeenVolume { volume, zone, zone_id, created, attachment } = seen;
    xml.text("volumeId", &volume.id);
    xml.text("size", volume.size_gib);
    xml.text("snapshotId", volume.snapshot.as_deref().unwrap_or(""));
    xml.text("availabilityZone", zone);
    xml.text("availabilityZoneId", zone_id);
    xml.text("status", devices::status(attachment.is_some()));
    xml.text("createTime", clock::iso(*created));
    xml.list("attachmentSet", attachment, |xml, attachment| {
        xml.text("volumeId", &volume.id);
        xml.text("instanceId", &attachment.instance_id);
        xml.text("device", &volume.device);
        xml.text("status", attachment.status);
        xml.text("attachTime", clock::iso(attachment.at));
        xml.text("deleteOnTermination", volume.delete_on_termination);
    });
    render::tags(xml, &volume.tags);
    xml.text("volumeType", &volume.kind);
    xml.maybe("iops", volume.iops);
    xml.maybe("throughput", volume.throughput);
    xml.text("encrypted", volume.encrypted);
    xml.text("multiAttachEnabled", false);
}

pub(super) fn delete_volume(call: &Call<'_>) -> Result<Xml, Refusal> {
    let id = call.params.root().required("VolumeId");
    call.known()?;
    let id = id?;
    Kind::Volume.check(id)?;
    call.world.change(|cloud, now| {
        let all = cloud.volumes(now);
        let found = all.iter().find(|seen| seen.volume.id == id);
        let found = found.ok_or_else(|| Kind::Volume.not_found(&[id]))?;
        if let Some(attachment) = &found.attachment {
            let message = format!("Volume {id} is currently attached to {}", attachment.instance_id);
            return Err(Refusal::new("VolumeInUse", message));
        }
        call.wet()?;
        cloud.delete_volume(id);
        Ok(())
    })?;
    let mut xml = Xml::default();
    xml.text("return", true);
    Ok(xml)
}

fn attached(seen: &SeenVolume, value: fn(&SeenVolume, &devices::Attachment) -> String) -> Vec<String> {
    seen.attachment.iter().map(|attachment| value(seen, attachment)).collect()
}

impl Filtered for SeenVolume {
    const TAGGED: bool = true;

    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.volume.tags)
    }

    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "attachment.attach-time", values: |s| attached(s, |_, it| clock::iso(it.at)) },
        Field {
            name: "attachment.delete-on-termination",
            values: |s| attached(s, |s, _| s.volume.delete_on_termination.to_string()),
        },
        Field { name: "attachment.device", values: |s| attached(s, |s, _| s.volume.device.clone()) },
        Field { name: "attachment.instance-id", values: |s| attached(s, |_, it| it.instance_id.clone()) },
        Field { name: "attachment.status", values: |s| attached(s, |_, it| it.status.to_owned()) },
        Field { name: "availability-zone", values: |s| vec![s.zone.clone()] },
        Field { name: "availability-zone-id", values: |s| vec![s.zone_id.clone()] },
        Field { name: "create-time", values: |s| vec![clock::iso(s.created)] },
        Field { name: "encrypted", values: |s| vec![s.volume.encrypted.to_string()] },
        Field { name: "multi-attach-enabled", values: |_| vec!["false".to_owned()] },
        Field { name: "size", values: |s| vec![s.volume.size_gib.to_string()] },
        Field { name: "snapshot-id", values: |s| s.volume.snapshot.iter().cloned().collect() },
        Field { name: "status", values: |s| vec![devices::status(s.attachment.is_some()).to_owned()] },
        Field { name: "volume-id", values: |s| vec![s.volume.id.clone()] },
        Field { name: "volume-type", values: |s| vec![s.volume.kind.clone()] },
    ];
}
