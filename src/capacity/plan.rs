//! Ask × offers → ordered candidates. Pure.
//!
//! Capacity is explicit here: the type of the annotation, else the configuration's default, in the first subnet
//! that has room. A type that was asked for is never replaced by another.

use jiff::Timestamp;

use super::blocked::Blocked;
use crate::cloud::{Image, InstanceType, Subnet};
use crate::pod::ask::{Ask, Problem, Rejection};
use crate::pod::reasons;

/// Addresses of a subnet that one machine takes: its own and its pod's.
const ADDRESSES: u32 = 2;

/// One machine that could be launched for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub instance_type: InstanceType,
    pub subnet_id: String,
    pub zone: String,
    pub image: Image,
}

impl From<&Candidate> for super::candidate::Candidate {
    fn from(candidate: &Candidate) -> Self {
        Self {
            instance_type: candidate.instance_type.name.clone(),
            subnet_id: candidate.subnet_id.clone(),
            zone: candidate.zone.clone(),
            image: candidate.image.clone(),
            ..Self::default()
        }
    }
}

/// What the market has of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers<'a> {
    pub instance_type: &'a InstanceType,
    /// Zones that offer the type.
    pub zones: &'a [String],
    /// In the configured order.
    pub subnets: &'a [Subnet],
    pub image: &'a Image,
    /// Size of the root volume that the machine is launched with.
    pub root_volume_gib: u32,
}

/// What is to be done about a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Try these, in this order. Never empty.
    Candidates(Vec<Candidate>),
    /// The pod asks for what this type cannot give.
    Refuse(Rejection),
    /// Nothing to be had now.
    Wait { message: String, until: Option<Timestamp> },
}

/// The instance type that the pod is to get.
///
/// # Errors
/// Nobody names a type.
pub fn wanted_type(ask: &Ask) -> Result<&str, Rejection> {
    ask.wishes.instance_types.first().map(String::as_str).ok_or_else(|| {
        let message = "is missing, expected an instance type, as `instances.defaultInstanceType` is not set";
        Rejection::single(reasons::INVALID_ANNOTATION, annotation_path(), message)
    })
}

/// The rejection of a pod whose type the cloud does not know.
#[must_use]
pub fn unknown_type(name: &str) -> Rejection {
    let message = format!("is `{name}`, which is not an instance type of this region");
    Rejection::single(reasons::UNKNOWN_INSTANCE_TYPE, annotation_path(), message)
}

/// The candidates for a pod, best first.
#[must_use]
pub fn plan(ask: &Ask, offers: &Offers<'_>, blocked: &Blocked, now: Timestamp) -> Plan {
    if let Some(rejection) = Rejection::of(too_large(ask, offers)) {
        return Plan::Refuse(rejection);
    }
    let name = &offers.instance_type.name;
    let mut candidates = Vec::new();
    let mut against = Vec::new();
    let mut until: Option<Timestamp> = None;
    for subnet in offers.subnets {
        if !offers.zones.contains(&subnet.zone) {
            against.push(format!("{} ({}) does not offer it", subnet.id, subnet.zone));
        } else if subnet.free_addresses < ADDRESSES {
            against.push(format!("{} has {} free addresses", subnet.id, subnet.free_addresses));
        } else if let Some(end) = blocked.until(name, &subnet.zone, &subnet.id, now) {
            against.push(format!("{} ({}) had none a moment ago", subnet.id, subnet.zone));
            until = Some(until.map_or(end, |other| other.min(end)));
        } else {
            candidates.push(Candidate {
                instance_type: offers.instance_type.clone(),
                subnet_id: subnet.id.clone(),
                zone: subnet.zone.clone(),
                image: offers.image.clone(),
            });
        }
    }
    if candidates.is_empty() {
        let message = format!("no subnet has room for a {name} now: {}", against.join(", "));
        return Plan::Wait { message, until };
    }
    Plan::Candidates(candidates)
}

fn too_large(ask: &Ask, offers: &Offers<'_>) -> Vec<Problem> {
    let offer = offers.instance_type;
    let gpus = offer.gpus.as_ref().map_or(0, |gpus| u64::from(gpus.count));
    let memory_bytes = offer.memory_mib.saturating_mul(1 << 20);
    let cpu_milli = u64::from(offer.vcpus) * 1000;
    let mut problems = Vec::new();
    let disk_bytes = u64::from(offers.root_volume_gib) << 30;
    let volume = "the root volume (`instances.rootVolume.sizeGiB`)";
    let mut check = |reason, resource: &str, unit: &str, asked: u64, has: u64, of: &str| {
        if asked > has {
            problems.push(Problem {
                reason,
                path: format!("spec.containers[*].resources.requests[{resource}]"),
                message: format!("sum is `{asked}{unit}`, expected at most the `{has}{unit}` of {of}"),
            });
        }
    };
    check(reasons::OUT_OF_GPU, &ask.gpu_resource, "", ask.gpus, gpus, &offer.name);
    check(reasons::OUT_OF_CPU, "cpu", "m", ask.cpu_milli, cpu_milli, &offer.name);
    check(reasons::OUT_OF_MEMORY, "memory", "", ask.memory_bytes, memory_bytes, &offer.name);
    check(reasons::OUT_OF_DISK, "ephemeral-storage", "", ask.ephemeral_bytes, disk_bytes, volume);
    problems
}

fn annotation_path() -> String {
    "metadata.annotations[orca.research/instance-type]".to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cloud::Gpus;

    pub(crate) fn mk_type(name: &str) -> InstanceType {
        InstanceType {
            name: name.to_owned(),
            vcpus: 4,
            memory_mib: 16 << 10,
            arch: "amd64".to_owned(),
            gpus: Some(Gpus {
                count: 1,
                share_of: 1,
                model: "A10G".to_owned(),
                manufacturer: "NVIDIA".to_owned(),
                memory_mib: 24 << 10,
            }),
            nitro: true,
            ..InstanceType::default()
        }
    }

    pub(crate) fn mk_candidate(name: &str, subnet: &str, zone: &str) -> Candidate {
        Candidate {
            instance_type: mk_type(name),
            subnet_id: subnet.to_owned(),
            zone: zone.to_owned(),
            image: Image { id: "ami-1".to_owned(), root_device_name: "/dev/xvda".to_owned() },
        }
    }

    fn mk_subnet(id: &str, zone: &str, free_addresses: u32) -> Subnet {
        Subnet {
            id: id.to_owned(),
            zone: zone.to_owned(),
            zone_id: zone.to_owned(),
            cidr: "10.0.0.0/24".to_owned(),
            free_addresses,
        }
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    /// The subnets of the plan, or what else it says.
    fn run(ask: &Ask, subnets: &[Subnet], blocked: &Blocked) -> String {
        let instance_type = mk_type("g5.xlarge");
        let image = mk_candidate("", "", "").image;
        let zones = ["a".to_owned(), "b".to_owned()];
        let offers = Offers {
            instance_type: &instance_type,
            zones: &zones,
            subnets,
            image: &image,
            root_volume_gib: 100,
        };
        match plan(ask, &offers, blocked, now()) {
            Plan::Candidates(all) => {
                all.iter().map(|one| one.subnet_id.as_str()).collect::<Vec<_>>().join(" ")
            }
            Plan::Refuse(rejection) => format!("{}: {rejection}", rejection.reason()),
            Plan::Wait { message, until } => {
                format!("wait {}: {message}", until.map_or(-1, Timestamp::as_second))
            }
        }
    }

    #[test]
    fn subnets_are_tried_in_their_order_where_there_is_room_and_the_type() {
        let subnets = [
            mk_subnet("s-c", "c", 9),
            mk_subnet("s-1", "a", 1),
            mk_subnet("s-b", "b", 2),
            mk_subnet("s-a", "a", 50),
        ];
        assert_eq!(run(&Ask::default(), &subnets, &Blocked::default()), "s-b s-a");
    }

    #[test]
    fn what_failed_a_moment_ago_is_left_out_and_awaited() {
        let subnets = [mk_subnet("s-a", "a", 9), mk_subnet("s-b", "b", 9)];
        let mut blocked = Blocked::default();
        blocked.note("InsufficientInstanceCapacity", &mk_candidate("g5.xlarge", "s-a", "a"), now());
        assert_eq!(run(&Ask::default(), &subnets, &blocked), "s-b");
        blocked.note("InsufficientFreeAddressesInSubnet", &mk_candidate("g5.xlarge", "s-b", "b"), now());
        assert_eq!(
            run(&Ask::default(), &subnets, &blocked),
            "wait 180: no subnet has room for a g5.xlarge now: s-a (a) had none a moment ago, s-b (b) had none a moment ago"
        );
        assert_eq!(
            run(&Ask::default(), &[mk_subnet("s-c", "c", 9), mk_subnet("s-a", "a", 1)], &Blocked::default()),
            "wait -1: no subnet has room for a g5.xlarge now: s-c (c) does not offer it, s-a has 1 free addresses"
        );
    }

    #[test]
    fn a_pod_that_does_not_fit_its_type_is_refused_with_every_reason() {
        let subnets = [mk_subnet("s-a", "a", 9)];
        let fits = Ask {
            cpu_milli: 4000,
            memory_bytes: 16 << 30,
            ephemeral_bytes: 100 << 30,
            gpus: 1,
            ..Ask::default()
        };
        assert_eq!(run(&fits, &subnets, &Blocked::default()), "s-a");
        let large = Ask {
            cpu_milli: 4001,
            memory_bytes: (16 << 30) + 1,
            ephemeral_bytes: (100 << 30) + 1,
            gpus: 2,
            gpu_resource: "nvidia.com/gpu".to_owned(),
            ..Ask::default()
        };
        assert_eq!(
            run(&large, &subnets, &Blocked::default()),
            "OutOfGPU: spec.containers[*].resources.requests[nvidia.com/gpu]: sum is `2`, expected at most the `1` of g5.xlarge; \
             spec.containers[*].resources.requests[cpu]: sum is `4001m`, expected at most the `4000m` of g5.xlarge; \
             spec.containers[*].resources.requests[memory]: sum is `17179869185`, expected at most the `17179869184` of g5.xlarge; \
             spec.containers[*].resources.requests[ephemeral-storage]: sum is `107374182401`, \
             expected at most the `107374182400` of the root volume (`instances.rootVolume.sizeGiB`)"
        );
    }
}
