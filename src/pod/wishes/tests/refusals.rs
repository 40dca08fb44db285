//! What is refused, and in which words.

use std::time::Duration;

use super::support::{check, mk_rules, read, with_mode};
use crate::config::{Instances, SelectionMode};
use crate::pod::wishes::CapacityType;

#[test]
fn values_of_one_layer_that_exclude_each_other_are_a_mistake() {
    check(
        &mk_rules(),
        &[
            (
                "spot in a reservation",
                "pod: capacity-type=spot; capacity-reservation-id=cr-0a1b2c3d",
                "ConflictingAnnotations: metadata.annotations[orca.research/capacity-type]: is `spot`, and a spot machine is \
                 never in a reservation: expected no `spot`, or no metadata.annotations[orca.research/capacity-reservation-id]",
            ),
            (
                "spot in a block",
                "namespace: capacity-type=spot,capacity-block; capacity-block-id=cb-0a1b2c3d",
                "ConflictingAnnotations: Namespace ml metadata.annotations[orca.research/capacity-type]: is \
                 `spot,capacity-block`, and a spot machine is never in a reservation: expected no `spot`, or no \
                 Namespace ml metadata.annotations[orca.research/capacity-block-id]",
            ),
            (
                "spot, and a reservation required",
                "pod: launch-type=spot; capacity-reservation-preference=targeted",
                "ConflictingAnnotations: metadata.annotations[orca.research/launch-type]: is `spot`, and a spot machine is never \
                 in a reservation: expected no `spot`, or no metadata.annotations[orca.research/capacity-reservation-preference]",
            ),
            (
                "a block on demand",
                "pod: capacity-type=on-demand; capacity-block-id=cb-0a1b2c3d",
                "ConflictingAnnotations: metadata.annotations[orca.research/capacity-type]: is `on-demand`, and a Capacity Block \
                 is bought as `capacity-block`: expected that in the list, or no metadata.annotations[orca.research/capacity-block-id]",
            ),
            (
                "a reservation, and none",
                "pod: capacity-reservation-preference=none; capacity-reservation-ids=cr-0a1b2c3d",
                "ConflictingAnnotations: metadata.annotations[orca.research/capacity-reservation-preference]: is `none`, and who \
                 is never in a reservation names none: expected another preference, or no \
                 metadata.annotations[orca.research/capacity-reservation-ids]",
            ),
            (
                "reserved, and none",
                "pod: capacity-reservation-preference=none; capacity-type=reserved",
                "ConflictingAnnotations: metadata.annotations[orca.research/capacity-reservation-preference]: is `none`, and who \
                 is never in a reservation does not buy one: expected another preference, or another \
                 metadata.annotations[orca.research/capacity-type]",
            ),
            (
                "a limit for spot without spot",
                "pod: max-spot-price=2",
                "ConflictingAnnotations: metadata.annotations[orca.research/max-spot-price]: is `2`, and no spot machine is asked \
                 for: expected `spot` in `capacity-type`",
            ),
            (
                "longer than it lives",
                "pod: min-runtime=12h; max-lifetime=1h",
                "ConflictingAnnotations: metadata.annotations[orca.research/min-runtime]: is `12h`, and \
                 metadata.annotations[orca.research/max-lifetime] ends it after 3600s: expected less",
            ),
            (
                "longer than the namespace lets it live: a limit does not give way",
                "pod: estimated-duration=12h | namespace: max-lifetime=1h",
                "ConflictingAnnotations: metadata.annotations[orca.research/estimated-duration]: is `12h`, and Namespace ml \
                 metadata.annotations[orca.research/max-lifetime] ends it after 3600s: expected less",
            ),
            (
                "types and patterns",
                "pod: instance-types=g6.xlarge,g5.*",
                "InvalidAnnotation: metadata.annotations[orca.research/instance-types]: is `g6.xlarge,g5.*`, which mixes types and \
                 patterns: expected only the one or only the other",
            ),
            (
                "something twice",
                "pod: zones=us-east-1a,us-east-1a",
                "InvalidAnnotation: metadata.annotations[orca.research/zones]: is `us-east-1a,us-east-1a`, which names something \
                 twice: expected each entry once",
            ),
            (
                "a key and its alias",
                "pod: capacity-type=on-demand; launch-type=spot",
                "ConflictingAnnotations: metadata.annotations[orca.research/launch-type]: is `spot`, and \
                 metadata.annotations[orca.research/capacity-type] is `on-demand`: expected only one of them",
            ),
            (
                "a type and other types",
                "pod: instance-type=g6.xlarge; instance-types=g5.xlarge",
                "ConflictingAnnotations: metadata.annotations[orca.research/instance-types]: is `g5.xlarge`, and \
                 metadata.annotations[orca.research/instance-type] is `g6.xlarge`: expected only one of them",
            ),
            (
                "a volume that EC2 would refuse",
                "pod: root-volume=throughput=1000",
                "ConflictingAnnotations: metadata.annotations[orca.research/root-volume]: is `throughput=1000`, and with it and \
                 `instances.rootVolume` the volume's throughput is `1000`, expected at most 750, a quarter of the IOPS",
            ),
        ],
    );
}

#[test]
fn what_is_not_for_this_orca_is_refused_with_a_sentence() {
    check(
        &mk_rules(),
        &[
            (
                "another cloud",
                "pod: provider=runpod,ec2",
                "InvalidAnnotation: metadata.annotations[orca.research/provider]: is `runpod,ec2`, and this ORCA launches on EC2 only: expected `ec2`",
            ),
            (
                "its keys",
                "pod: runpod-cloud=SECURE",
                "InvalidAnnotation: metadata.annotations[orca.research/runpod-cloud]: is for RunPod, and this ORCA launches on EC2 only",
            ),
            (
                "budgets",
                "namespace: budget-daily=100",
                "InvalidAnnotation: Namespace ml metadata.annotations[orca.research/budget-daily]: is for budgets, which this ORCA \
                 does not have; use `max-price`, `max-lifetime` or a ResourceQuota",
            ),
            (
                "user data",
                "pod: user-data=IyEvYmluL3No",
                "InvalidAnnotation: metadata.annotations[orca.research/user-data]: is not for pods: ORCA's own bootstrap is the \
                 user data of every machine; use an init container, or an image of your own",
            ),
            (
                "a machine that outlives its pod",
                "pod: termination-protection=true",
                "InvalidAnnotation: metadata.annotations[orca.research/termination-protection]: is `true`, and the machine ends \
                 with its pod: expected `false`",
            ),
            (
                "local disks",
                "pod: instance-store=raid0",
                "InvalidAnnotation: metadata.annotations[orca.research/instance-store]: is `raid0`, and local disks are not used: \
                 ask for a larger `root-volume`",
            ),
            (
                "another region",
                "pod: region=eu-west-1",
                "InvalidAnnotation: metadata.annotations[orca.research/region]: is `eu-west-1`, and `eu-west-1` is not the region \
                 of this ORCA: expected `us-east-1`",
            ),
            (
                "a zone of another region",
                "pod: zones=eu-west-1a,use1-az1",
                "InvalidAnnotation: metadata.annotations[orca.research/zones]: is `eu-west-1a,use1-az1`, and `eu-west-1` is not \
                 the region of this ORCA: expected `us-east-1`",
            ),
            (
                "a group of another region",
                "pod: capacity-reservation-group=arn:aws:resource-groups:eu-west-1:111122223333:group/ml",
                "InvalidAnnotation: metadata.annotations[orca.research/capacity-reservation-group]: is \
                 `arn:aws:resource-groups:eu-west-1:111122223333:group/ml`, and `eu-west-1` is not the region of this ORCA: \
                 expected `us-east-1`",
            ),
            (
                "a key with a typing error",
                "pod: max-prize=1",
                "UnknownAnnotation: metadata.annotations[orca.research/max-prize]: is not an annotation of ORCA, did you mean \
                 `orca.research/max-price`?",
            ),
            (
                "an unknown template",
                "pod: template=gpu | template cpu: max-price=1",
                "UnknownTemplate: metadata.annotations[orca.research/template]: is `gpu`, expected one of `instances.templates`: `cpu`",
            ),
            (
                "a template where there is none",
                "namespace: workload-template=gpu",
                "UnknownTemplate: Namespace ml metadata.annotations[orca.research/workload-template]: is `gpu`, but \
                 `instances.templates` has none",
            ),
        ],
    );
}

#[test]
fn what_only_the_operator_may_choose_is_refused_from_annotations() {
    check(
        &mk_rules(),
        &[
            (
                "an image that nobody listed",
                "pod: ami=ami-0a1b2c3d",
                "AnnotationNotAllowed: metadata.annotations[orca.research/ami]: is `ami-0a1b2c3d`, and `instances.allowedAMIs` \
                 allows annotations none: ask the operator to list `ami-0a1b2c3d`, or for a template",
            ),
            (
                "a profile, from the namespace",
                "namespace: instance-profile=admin",
                "AnnotationNotAllowed: Namespace ml metadata.annotations[orca.research/instance-profile]: is `admin`, and \
                 `instances.allowedInstanceProfiles` allows annotations none: ask the operator to list `admin`, or for a template",
            ),
            (
                "hardware of one's own",
                "pod: tenancy=dedicated",
                "AnnotationNotAllowed: metadata.annotations[orca.research/tenancy]: is `dedicated`, and \
                 `instances.allowedTenancies` does not list `dedicated`: expected one of `default`",
            ),
            (
                "a huge volume",
                "pod: root-volume=size=2Ti",
                "AnnotationNotAllowed: metadata.annotations[orca.research/root-volume]: is `size=2Ti`, and \
                 `instances.maxRootVolumeSizeGiB` is `1024`: expected at most 1024Gi",
            ),
            (
                "a KMS key",
                "pod: root-volume=kms=alias/mine",
                "AnnotationNotAllowed: metadata.annotations[orca.research/root-volume]: is `kms=alias/mine`, and only templates \
                 and node defaults may name a KMS key: expected no `kms=`",
            ),
            (
                "a subnet that is not configured",
                "pod: subnets=subnet-cccc",
                "AnnotationNotAllowed: metadata.annotations[orca.research/subnets]: is `subnet-cccc`, and `aws.subnetIDs` does \
                 not list `subnet-cccc`: expected some of `subnet-aaaa`, `subnet-bbbb`",
            ),
            (
                "all of it is right in a template",
                "pod: template=t | template t: ami=ami-0a1b2c3d; instance-profile=admin; tenancy=dedicated; \
                 placement-group=pg; security-groups=sg-aaaa; root-volume=size=2Ti,kms=alias/mine",
                "template=t placement=pg tenancy=dedicated image=ami-0a1b2c3d profile=admin groups=sg-aaaa volume=2048/-/-/alias/mine",
            ),
        ],
    );
    let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let rules = Instances {
        allowed_amis: listed(&["ami-0a1b2c3d", "/ml/*"]),
        allowed_security_group_ids: listed(&["sg-aaaa"]),
        allowed_placement_groups: listed(&["ml-*"]),
        ..mk_rules()
    };
    check(
        &rules,
        &[
            ("what is listed", "pod: ami=ami-0a1b2c3d", "image=ami-0a1b2c3d"),
            ("what begins with what is listed", "pod: ami-ssm-parameter=/ml/image", "image=/ml/image"),
            (
                "every entry must be listed",
                "pod: security-groups=sg-aaaa,sg-bbbb",
                "AnnotationNotAllowed: metadata.annotations[orca.research/security-groups]: is `sg-aaaa,sg-bbbb`, and \
                 `instances.allowedSecurityGroupIDs` does not list `sg-bbbb`: expected one of `sg-aaaa`",
            ),
            ("a placement group", "pod: placement-group=ml-1", "placement=ml-1"),
        ],
    );
}

#[test]
fn the_operators_lists_hold_for_types_and_markets() {
    let rules = Instances {
        allowed_instance_types: Some(vec!["g6.*".to_owned(), "t3.large".to_owned()]),
        allowed_capacity_types: vec![CapacityType::OnDemand, CapacityType::Reserved],
        ..mk_rules()
    };
    check(
        &rules,
        &[
            ("an allowed type", "pod: instance-types=g6.xlarge,t3.large", "types=g6.xlarge,t3.large"),
            (
                "another",
                "pod: instance-types=g6.xlarge,p5.48xlarge",
                "InstanceTypeNotAllowed: metadata.annotations[orca.research/instance-types]: is `g6.xlarge,p5.48xlarge`, and \
                 `p5.48xlarge` is not allowed: expected one of `g6.*`, `t3.large`",
            ),
            (
                "a market, which is never left out quietly",
                "pod: capacity-type=spot,on-demand",
                "AnnotationNotAllowed: metadata.annotations[orca.research/capacity-type]: is `spot,on-demand`, and \
                 `instances.allowedCapacityTypes` does not list `spot`: expected `on-demand`, `reserved`",
            ),
            (
                "a block",
                "pod: capacity-block-id=cb-0a1b2c3d",
                "AnnotationNotAllowed: metadata.annotations[orca.research/capacity-block-id]: is `cb-0a1b2c3d`, and \
                 `instances.allowedCapacityTypes` does not list `capacity-block`: expected `on-demand`, `reserved`",
            ),
            (
                "a reservation",
                "pod: capacity-reservation-id=cr-0a1b2c3d",
                "reservation=required ids=cr-0a1b2c3d",
            ),
        ],
    );
}

#[test]
fn limits_of_the_configuration_hold() {
    let rules = Instances {
        max_lifetime: Duration::from_secs(3600),
        capacity_wait: Some(Duration::from_secs(600)),
        ..mk_rules()
    };
    check(
        &rules,
        &[
            ("a limit holds where nothing is said", "", "wait=600s"),
            ("and may be undercut", "pod: capacity-wait=5m", "wait=300s"),
            (
                "but not exceeded",
                "pod: capacity-wait=1h",
                "InvalidAnnotation: metadata.annotations[orca.research/capacity-wait]: is `1h`, expected at most the 600s of `limits.capacityWait`",
            ),
            (
                "least of all for ever",
                "pod: capacity-wait=0s",
                "InvalidAnnotation: metadata.annotations[orca.research/capacity-wait]: is `0s`, expected at most the 600s of `limits.capacityWait`",
            ),
            (
                "nor the lifetime",
                "pod: max-lifetime=2h",
                "InvalidAnnotation: metadata.annotations[orca.research/max-lifetime]: is `2h`, expected at most the 3600s of `limits.maxInstanceLifetime`",
            ),
        ],
    );
}

#[test]
fn the_selection_mode_is_the_most_that_is_allowed() {
    const TEMPLATE: &str = "| template t: gpu-models=l4";
    check(
        &with_mode(SelectionMode::Explicit),
        &[
            ("a type", "pod: instance-type=g6.xlarge", "types=g6.xlarge"),
            ("a type of the defaults", "defaults: instance-type=g6.xlarge", "types=g6.xlarge"),
            (
                "a reservation",
                "pod: capacity-reservation-id=cr-0a1b2c3d",
                "reservation=required ids=cr-0a1b2c3d",
            ),
            ("a block", "pod: capacity-block-id=cb-0a1b2c3d", "markets=capacity-block block=cb-0a1b2c3d"),
            (
                "nothing",
                "",
                "SelectionNotAllowed: metadata.annotations[orca.research/instance-types]: is missing, expected an instance type, \
                 or a reservation that is `required`, as `instances.selectionMode` is `explicit`",
            ),
            (
                "a reservation that is only preferred: outside it, ORCA would have to choose",
                "pod: capacity-reservation-id=cr-0a1b2c3d; capacity-reservation-preference=prefer",
                "SelectionNotAllowed: metadata.annotations[orca.research/instance-types]: is missing, expected an instance type, \
                 or a reservation that is `required`, as `instances.selectionMode` is `explicit`",
            ),
            (
                "a pattern",
                "pod: instance-types=g6.*",
                "SelectionNotAllowed: metadata.annotations[orca.research/instance-types]: is `g6.*`, but \
                 `instances.selectionMode` is `explicit`, and only `auto` chooses by pattern: expected types in full",
            ),
        ],
    );
    let refused = read(
        &format!("pod: template=t; instance-type=g6.xlarge {TEMPLATE}"),
        &with_mode(SelectionMode::Explicit),
    );
    assert_eq!(
        refused,
        "SelectionNotAllowed: metadata.annotations[orca.research/template]: is `t`, but `instances.selectionMode` is `explicit`, \
         and only `template` and `auto` allow templates: expected an instance type or a reservation"
    );
    let mode = with_mode(SelectionMode::Template);
    assert_eq!(read(&format!("pod: template=t {TEMPLATE}"), &mode), "template=t models=l4");
    assert_eq!(
        read("pod: gpu-models=l4", &mode),
        "SelectionNotAllowed: metadata.annotations[orca.research/instance-types]: is missing, expected an instance type, a \
         reservation that is `required`, or a template, as `instances.selectionMode` is `template`"
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    assert_eq!(
        read(
            "pod: max-price=cheap; zonse=us-east-1a; capacity-type=spot; capacity-reservation-id=cr-0a1b2c3d \
             | owner: efa=99 | namespace: max-price=free; budget=ml",
            &mk_rules()
        ),
        "InvalidAnnotation: metadata.annotations[orca.research/max-price]: is `cheap`, expected US dollars per hour such as `1.25`; \
         metadata.annotations[orca.research/zonse]: is not an annotation of ORCA, did you mean `orca.research/zone`?; \
         Job train metadata.annotations[orca.research/efa]: is `99`, expected `true`, `false` or 0 to 32; \
         Namespace ml metadata.annotations[orca.research/budget]: is for budgets, which this ORCA does not have; use `max-price`, \
         `max-lifetime` or a ResourceQuota; \
         Namespace ml metadata.annotations[orca.research/max-price]: is `free`, expected US dollars per hour such as `1.25`; \
         metadata.annotations[orca.research/capacity-type]: is `spot`, and a spot machine is never in a reservation: expected no \
         `spot`, or no metadata.annotations[orca.research/capacity-reservation-id]"
    );
}

#[test]
fn what_is_very_long_is_refused_and_shown_in_part() {
    let many: Vec<String> = (0..65).map(|at| format!("g6.{at}xlarge")).collect();
    let refused = read(&format!("pod: instance-types={}", many.join(",")), &mk_rules());
    assert!(refused.ends_with("…`, which has more than 64 entries: expected at most so many"), "{refused}");
    assert!(refused.len() < 300, "{refused}");
    assert_eq!(
        read(&format!("pod: instance-types={}", many[..64].join(",")), &mk_rules()).matches(',').count(),
        63
    );
    let refused = read(&format!("pod: zones=a-{}", "a".repeat(100_000)), &mk_rules());
    assert!(refused.len() < 400, "{refused}");
}
