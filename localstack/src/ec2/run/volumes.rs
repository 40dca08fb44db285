//! `BlockDeviceMapping.N`: what EBS takes and what it refuses.

use std::collections::BTreeMap;

use super::not_played;
use crate::aws::Refusal;
use crate::aws::query::Scope;
use crate::ec2::ids::Kind;
use crate::world::devices::Volume;
use crate::world::estate::Image;

/// One mapping as it was asked for.
#[derive(Debug)]
pub(super) struct Drive<'a> {
    device: &'a str,
    snapshot: Option<&'a str>,
    size: Option<i64>,
    kind: Option<&'a str>,
    iops: Option<i64>,
    throughput: Option<i64>,
    encrypted: bool,
    deleted: Option<bool>,
}

/// What a volume type takes.
struct Limits {
    name: &'static str,
    gib: (i64, i64),
    iops: Option<(i64, i64)>,
    iops_per_gib: i64,
    iops_required: bool,
}

const fn limits(name: &'static str, gib: (i64, i64)) -> Limits {
    Limits { name, gib, iops: None, iops_per_gib: 0, iops_required: false }
}

/// As the EC2 API reference of 2026 says.
const LIMITS: [Limits; 7] = [
    Limits { iops: Some((3000, 80_000)), iops_per_gib: 500, ..limits("gp3", (1, 65_536)) },
    limits("gp2", (1, 16_384)),
    Limits { iops: Some((100, 64_000)), iops_per_gib: 50, iops_required: true, ..limits("io1", (4, 16_384)) },
    Limits {
        iops: Some((100, 256_000)),
        iops_per_gib: 1000,
        iops_required: true,
        ..limits("io2", (4, 65_536))
    },
    limits("st1", (125, 16_384)),
    limits("sc1", (125, 16_384)),
    limits("standard", (1, 1024)),
];

/// Of gp3, in MiB/s; at most a quarter of its IOPS.
const THROUGHPUT: (i64, i64) = (125, 2000);
const GP3_IOPS: i64 = 3000;

pub(super) fn parse<'a>(scope: &Scope<'a>) -> Result<Vec<Drive<'a>>, Refusal> {
    let mut drives: Vec<Drive<'a>> = Vec::new();
    for mapping in scope.list("BlockDeviceMapping") {
        let device = mapping.required("DeviceName")?;
        for name in ["NoDevice", "VirtualName"] {
            if mapping.given(name) {
                return Err(not_played(&mapping.name(name)));
            }
        }
        let ebs = mapping.scope("Ebs");
        for name in [
            "OutpostArn",
            "VolumeInitializationRate",
            "AvailabilityZone",
            "AvailabilityZoneId",
            "EbsCardIndex",
        ] {
            if ebs.given(name) {
                return Err(not_played(&ebs.name(name)));
            }
        }
        let encrypted = ebs.flag("Encrypted")?.unwrap_or(false);
        if ebs.text("KmsKeyId").is_some() && !encrypted {
            let message = "The parameter KmsKeyId requires the parameter Encrypted to be set.";
            return Err(Refusal::new("InvalidParameterDependency", message));
        }
        if drives.iter().any(|drive| drive.device == device) {
            let message = format!("The device '{device}' is used in more than one block-device mapping");
            return Err(Refusal::new("InvalidBlockDeviceMapping", message));
        }
        drives.push(Drive {
            device,
            snapshot: ebs.text("SnapshotId"),
            size: ebs.number("VolumeSize")?,
            kind: ebs.text("VolumeType"),
            iops: ebs.number("Iops")?,
            throughput: ebs.number("Throughput")?,
            encrypted,
            deleted: ebs.flag("DeleteOnTermination")?,
        });
    }
    Ok(drives)
}

/// The volumes of a launch from this image, the root's first.
pub(super) fn resolve(mut drives: Vec<Drive<'_>>, image: &Image) -> Result<Vec<Volume>, Refusal> {
    let root = drives.iter().position(|drive| drive.device == image.root_device).map(|at| drives.remove(at));
    let root = root.unwrap_or(Drive {
        device: &image.root_device,
        snapshot: None,
        size: None,
        kind: None,
        iops: None,
        throughput: None,
        encrypted: false,
        deleted: None,
    });
    std::iter::once(root).chain(drives).map(|drive| drive.volume(image)).collect()
}

/// The IOPS of a volume for which none were asked, where its type has any: those of gp2 follow its size.
fn usual_iops(kind: &str, gib: i64) -> Option<i64> {
    match kind {
        "gp3" => Some(GP3_IOPS),
        "gp2" => Some(gib.saturating_mul(3).clamp(100, 16_000)),
        _ => None,
    }
}

impl Drive<'_> {
    fn volume(&self, image: &Image) -> Result<Volume, Refusal> {
        let is_root = self.device == image.root_device;
        if let Some(snapshot) = self.snapshot {
            Kind::Snapshot.check(snapshot)?;
            if snapshot != image.snapshot {
                return Err(Kind::Snapshot.not_found(&[snapshot]));
            }
        }
        let least = (is_root || self.snapshot.is_some()).then_some(i64::from(image.snapshot_gib));
        let Some(size) = self.size.or(least) else {
            return Err(Refusal::new(
                "MissingParameter",
                "The request must contain the parameter size or snapshotId",
            ));
        };
        if let Some(least) = least.filter(|least| size < *least) {
            let message = format!(
                "Volume of size {size}GB is smaller than snapshot '{}', expect size >= {least}GB",
                image.snapshot
            );
            return Err(Refusal::new("InvalidBlockDeviceMapping", message));
        }
        // Images say gp3; EC2's own default for further volumes is gp2.
        let limits = self.limits(if is_root { "gp3" } else { "gp2" }, size)?;
        self.check_throughput(limits)?;
        Ok(Volume {
            id: String::new(),
            device: self.device.to_owned(),
            size_gib: u32::try_from(size).unwrap_or(u32::MAX),
            kind: limits.name.to_owned(),
            iops: self
                .iops
                .or_else(|| usual_iops(limits.name, size))
                .and_then(|iops| u32::try_from(iops).ok()),
            throughput: (limits.name == "gp3")
                .then(|| self.throughput.unwrap_or(THROUGHPUT.0))
                .and_then(|throughput| u32::try_from(throughput).ok()),
            snapshot: least.map(|_| image.snapshot.clone()),
            encrypted: self.encrypted,
            delete_on_termination: self.deleted.unwrap_or(is_root),
            tags: BTreeMap::new(),
        })
    }

    fn limits(&self, default: &str, size: i64) -> Result<&'static Limits, Refusal> {
        let name = self.kind.unwrap_or(default);
        let limits = LIMITS.iter().find(|limits| limits.name == name).ok_or_else(|| {
            Refusal::value("volumeType", name, "Expected gp3, gp2, io1, io2, st1, sc1 or standard.")
        })?;
        let (least, most) = limits.gib;
        if !(least..=most).contains(&size) {
            let why = format!("Volumes of type {name} have from {least} to {most} GiB.");
            return Err(Refusal::value("volumeSize", &size.to_string(), &why));
        }
        match (self.iops, limits.iops) {
            (Some(_), None) => {
                let message = format!("The parameter iops is not supported for {name} volumes.");
                Err(Refusal::new("InvalidParameterCombination", message))
            }
            (None, Some(_)) if limits.iops_required => Err(Refusal::new(
                "MissingParameter",
                format!("The request must contain the parameter iops for {name} volumes"),
            )),
            (Some(iops), Some((least, most))) if !(least..=most).contains(&iops) => {
                let why = format!("Volumes of type {name} have from {least} to {most} IOPS.");
                Err(Refusal::value("iops", &iops.to_string(), &why))
            }
            // What every gp3 volume has needs no ratio.
            (Some(iops), Some((least, _)))
                if iops > least && iops > size.saturating_mul(limits.iops_per_gib) =>
            {
                let why = format!(
                    "Iops to volume size ratio of {name} is too high; maximum is {}",
                    limits.iops_per_gib
                );
                Err(Refusal::value("iops", &iops.to_string(), &why))
            }
            (Some(_) | None, Some(_)) | (None, None) => Ok(limits),
        }
    }

    fn check_throughput(&self, limits: &Limits) -> Result<(), Refusal> {
        let Some(throughput) = self.throughput else { return Ok(()) };
        if limits.name != "gp3" {
            let message = format!("The parameter throughput is not supported for {} volumes.", limits.name);
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        let (least, most) = THROUGHPUT;
        if !(least..=most).contains(&throughput) {
            let why = format!("Volumes of type gp3 have from {least} to {most} MiB/s.");
            return Err(Refusal::value("throughput", &throughput.to_string(), &why));
        }
        if throughput * 4 > self.iops.unwrap_or(GP3_IOPS) {
            let why = "Throughput (MiB/s) to iops ratio is too high; maximum is 0.25 MiB/s per iops.";
            return Err(Refusal::value("throughput", &throughput.to_string(), why));
        }
        Ok(())
    }
}
