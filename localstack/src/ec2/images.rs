//! DescribeImages.

use std::collections::BTreeMap;

use super::Call;
use super::filter::{Field, Filtered, Filters};
use super::ids::Kind;
use super::page::Page;
use super::render;
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::world::estate::Image;

type Tagged = (Image, BTreeMap<String, String>);

pub(super) fn describe_images(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("ImageId");
    let owners = scope.texts("Owner");
    let users = scope.texts("ExecutableBy");
    scope.flag("IncludeDeprecated")?;
    scope.flag("IncludeDisabled")?;
    let filters = Filters::parse::<Tagged>(&scope)?;
    Page::not_with(call.params, "ImageId", "imagesSet")?;
    let page = Page::parse(call.params, 1..=1000)?;
    call.ready()?;
    let estate = &call.world.estate;
    let images: Vec<Image> = if ids.is_empty() {
        estate.images.clone()
    } else {
        Kind::Image.find_all(&ids, |id| estate.image(id).cloned())?
    };
    let owned = |image: &Image| {
        owners.is_empty() || owners.iter().any(|owner| *owner == image.owner || *owner == image.owner_alias)
    };
    // All are public.
    let allowed = users.is_empty() || users.contains(&"all") || users.contains(&"self");
    let passing: Vec<Tagged> = call.world.view(|cloud, _| {
        images
            .into_iter()
            .filter(|image| allowed && owned(image))
            .map(|image| {
                let tags = cloud.tags.get(&image.id).cloned().unwrap_or_default();
                (image, tags)
            })
            .filter(|image| filters.pass(image))
            .collect()
    });
    let (shown, next) = page.cut(passing, |(image, _)| image.id.clone());
    let mut xml = Xml::default();
    xml.list("imagesSet", shown, |xml, (image, tags)| {
        xml.text("imageId", &image.id);
        xml.text("imageLocation", format!("{}/{}", image.owner_alias, image.name));
        xml.text("imageState", "available");
        xml.text("imageOwnerId", &image.owner);
        xml.text("imageOwnerAlias", &image.owner_alias);
        xml.text("isPublic", true);
        xml.text("architecture", image.architecture);
        xml.text("imageType", "machine");
        xml.text("name", &image.name);
        xml.text("description", &image.description);
        xml.text("creationDate", &image.created);
        xml.text("rootDeviceType", "ebs");
        xml.text("rootDeviceName", &image.root_device);
        xml.list("blockDeviceMapping", [&image], |xml, image| {
            xml.text("deviceName", &image.root_device);
            xml.element("ebs", |xml| {
                xml.text("snapshotId", &image.snapshot);
                xml.text("volumeSize", image.snapshot_gib);
                xml.text("deleteOnTermination", true);
                xml.text("volumeType", "gp3");
                xml.text("iops", 3000);
                xml.text("throughput", 125);
                xml.text("encrypted", false);
            });
        });
        xml.text("virtualizationType", "hvm");
        xml.text("hypervisor", "xen");
        xml.text("enaSupport", true);
        xml.text("platformDetails", "Linux/UNIX");
        xml.text("usageOperation", "RunInstances");
        render::tags(xml, &tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

impl Filtered for Tagged {
    const TAGGED: bool = true;

    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.1)
    }

    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "architecture", values: |(image, _)| vec![image.architecture.to_owned()] },
        Field { name: "image-id", values: |(image, _)| vec![image.id.clone()] },
        Field { name: "image-type", values: |_| vec!["machine".to_owned()] },
        Field { name: "is-public", values: |_| vec!["true".to_owned()] },
        Field { name: "name", values: |(image, _)| vec![image.name.clone()] },
        Field { name: "description", values: |(image, _)| vec![image.description.clone()] },
        Field { name: "owner-alias", values: |(image, _)| vec![image.owner_alias.clone()] },
        Field { name: "owner-id", values: |(image, _)| vec![image.owner.clone()] },
        Field { name: "root-device-name", values: |(image, _)| vec![image.root_device.clone()] },
        Field { name: "root-device-type", values: |_| vec!["ebs".to_owned()] },
        Field { name: "state", values: |_| vec!["available".to_owned()] },
        Field { name: "virtualization-type", values: |_| vec!["hvm".to_owned()] },
        Field { name: "hypervisor", values: |_| vec!["xen".to_owned()] },
    ];
}
