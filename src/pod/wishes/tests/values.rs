//! Single keys: what is read, and what is refused.

use super::support::{check, mk_rules, read};
use crate::cloud::Tenancy;
use crate::config::Instances;
use crate::pod::wishes::keys::KEYS;

#[test]
fn every_key_is_read_as_the_table_says() {
    check(
        &generous(),
        &[
            ("one type", "pod: instance-type=g6.xlarge", "types=g6.xlarge"),
            ("types in order", "pod: instance-types=p5.48xlarge, g6.xlarge", "types=p5.48xlarge,g6.xlarge"),
            ("patterns", "pod: instance-types=g6.*,g6e.*", "patterns=g6.*,g6e.*"),
            ("models in any case", "pod: gpu-models=H100,L40S", "models=h100,l40s"),
            ("GPU memory, rounded up", "pod: gpu-memory-min=40G", "memory=38147MiB"),
            ("shares of a GPU", "pod: accelerator-fraction=allow", "share=yes"),
            ("markets in order", "pod: capacity-type=spot,on-demand", "markets=spot,on-demand"),
            (
                "reservations by id are required",
                "pod: capacity-reservation-ids=cr-0a1b2c3d,cr-0b1c2d3e",
                "reservation=required ids=cr-0a1b2c3d,cr-0b1c2d3e",
            ),
            (
                "a group of reservations",
                "pod: capacity-reservation-group=arn:aws:resource-groups:us-east-1:111122223333:group/ml",
                "reservation=required group=arn:aws:resource-groups:us-east-1:111122223333:group/ml",
            ),
            (
                "reservations by tag and owner",
                "pod: capacity-reservation-selector=tag:team=ml,tag:shared,owner=111122223333",
                "reservation=required owner=111122223333 tags=team:ml,shared:*",
            ),
            (
                "any open reservation, or none",
                "pod: capacity-reservation-preference=required",
                "reservation=required",
            ),
            ("a block", "pod: capacity-block-id=cb-0a1b2c3d", "markets=capacity-block block=cb-0a1b2c3d"),
            (
                "prices",
                "pod: capacity-type=spot; max-price=5; max-spot-price=1.25",
                "markets=spot max=5.00 spot-max=1.25",
            ),
            (
                "place",
                "pod: region=us-east-1; zones=us-east-1a,use1-az2; subnets=subnet-bbbb; placement-group=pg; efa=true",
                "zones=us-east-1a,use1-az2 subnets=subnet-bbbb placement=pg efa=1",
            ),
            ("EFA interfaces", "pod: efa=16", "efa=16"),
            ("no EFA interface", "pod: efa=false", ""),
            ("tenancy", "pod: tenancy=dedicated", "tenancy=dedicated"),
            ("the usual tenancy", "pod: tenancy=default", ""),
            ("an image", "pod: ami=ami-0a1b2c3d", "image=ami-0a1b2c3d"),
            ("an image by parameter", "pod: ami-ssm-parameter=/ml/image", "image=/ml/image"),
            (
                "identity",
                "pod: instance-profile=ml; security-groups=sg-aaaa,sg-bbbb",
                "profile=ml groups=sg-aaaa,sg-bbbb",
            ),
            (
                "the root volume, over the configured one",
                "pod: root-volume=size=200Gi,iops=6000,throughput=500",
                "volume=200/6000/500/-",
            ),
            (
                "times",
                "pod: max-lifetime=1d; min-runtime=2h; estimated-duration=90m; capacity-wait=30m",
                "lifetime=86400s runtime=7200s estimate=5400s wait=1800s",
            ),
            (
                "what has no effect",
                "pod: debug=true; provider=ec2; termination-protection=false; instance-store=none",
                "",
            ),
        ],
    );
}

#[test]
fn orcas_older_names_and_values_mean_the_same() {
    check(
        &mk_rules(),
        &[
            (
                "workload-template",
                "pod: workload-template=a | template a: max-price=1",
                "template=a max=1.00",
            ),
            ("launch-type", "pod: launch-type=spot; spot-max-price=2", "markets=spot spot-max=2.00"),
            (
                "a single id",
                "pod: capacity-reservation-id=cr-0a1b2c3d",
                "reservation=required ids=cr-0a1b2c3d",
            ),
            (
                "`open`",
                "pod: capacity-reservation-id=cr-0a1b2c3d; capacity-reservation-preference=open",
                "reservation=prefer ids=cr-0a1b2c3d",
            ),
            ("`targeted`", "pod: capacity-reservation-preference=targeted", "reservation=required"),
            (
                "EC2's own word",
                "pod: capacity-reservation-preference=capacity-reservations-only",
                "reservation=required",
            ),
            (
                "a key and its alias may say the same",
                "pod: launch-type=spot; capacity-type=spot; instance-type=g6.xlarge; instance-types=g6.xlarge",
                "types=g6.xlarge markets=spot",
            ),
        ],
    );
}

#[test]
fn what_orca_writes_itself_is_nobodys_wish() {
    let line = "pod: launch={}; instance-id=i-1; launched-zone=a; hourly-usd=1; selection-reason=x";
    assert_eq!(read(line, &mk_rules()), "");
    let line = "pod: template=a | template a: instance-id=i-1";
    assert_eq!(read(line, &mk_rules()), "UnknownAnnotation: instances.templates.a.instance-id: is not a key");
}

/// The values are wrong for their key, and nothing else is.
#[test]
fn a_value_that_means_nothing_is_refused_with_what_was_expected() {
    for (key, bad) in [
        ("instance-type", "g6.xlarge,g5.xlarge g6.* G6.xlarge g6 "),
        ("instance-types", ", g6.xlarge, *.xlarge g6.x*large"),
        ("template", "a/b -a"),
        ("gpu-models", "h100,,a100 h100/a100"),
        ("gpu-memory-min", "40 40GB -1Gi much"),
        ("accelerator-fraction", "yes true"),
        ("capacity-type", "ondemand spot/on-demand spots"),
        ("capacity-reservation-ids", "cr-1 r-0a1b2c3d cr-0A1B2C3D"),
        (
            "capacity-reservation-group",
            "ml arn:aws:iam::111122223333:role/x arn:aws:resource-groups:us-east-1:11:group/ml arn:aws:resource-groups:us-east-1:111122223333:group/",
        ),
        (
            "capacity-reservation-selector",
            "team=ml tag: tag:=x owner=me owner=111122223333,owner=444455556666",
        ),
        ("capacity-reservation-preference", "always Open"),
        ("capacity-block-id", "block b-0a1b2c3d"),
        ("max-price", "0 -1 $5 1e3 1,5"),
        ("max-spot-price", "0.001 0"),
        ("region", "us-east-1a useast1"),
        ("zones", "a us-east-1a,,us-east-1b US-EAST-1A"),
        ("subnets", "subnet subnet-AAAA"),
        ("placement-group", "a!b"),
        ("tenancy", "shared-host"),
        ("efa", "33 -1 yes"),
        ("ami", "ami ami-XYZ /aws/service/x"),
        ("ami-ssm-parameter", "a!b"),
        ("instance-profile", "a!b"),
        ("security-groups", "sg web,sg-aaaa"),
        ("root-volume", "200Gi size=200 size=4Gi iops=1 throughput=9999 size=9Gi,size=9Gi colour=red"),
        ("instance-store", "raid5"),
        ("max-lifetime", "30s 5 forever -1h"),
        ("min-runtime", "5 soon"),
        ("estimated-duration", "5"),
        ("capacity-wait", "5 never"),
        ("termination-protection", "on"),
        ("debug", "1"),
    ] {
        let expected = KEYS.iter().find(|row| row.name == key).unwrap().expected;
        for bad in bad.split(' ') {
            // A limit for spot wants spot.
            let line = format!("pod: capacity-type=spot; {key}={bad}");
            let line = if key == "max-spot-price" { line } else { format!("pod: {key}={bad}") };
            let refused = format!(
                "InvalidAnnotation: metadata.annotations[orca.research/{key}]: is `{bad}`, expected {expected}"
            );
            assert_eq!(read(&line, &generous()), refused);
        }
    }
}

#[test]
fn the_example_of_every_key_is_accepted() {
    for key in KEYS {
        let rules = generous();
        let line = match key.name {
            "template" => format!("pod: template={} | template {}: max-price=1", key.example, key.example),
            "max-spot-price" => format!("pod: capacity-type=spot; {}={}", key.name, key.example),
            "subnets" => "pod: subnets=subnet-aaaa".to_owned(),
            name => format!("pod: {name}={}", key.example),
        };
        let answer = read(&line, &rules);
        assert!(!answer.contains("metadata"), "{line}: {answer}");
    }
}

#[test]
fn names_are_unique_and_no_alias_hides_a_key() {
    let names: Vec<&str> =
        KEYS.iter().flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied())).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
}

/// Allows annotations everything.
fn generous() -> Instances {
    let any = || vec!["*".to_owned()];
    Instances {
        allowed_amis: any(),
        allowed_instance_profiles: any(),
        allowed_security_group_ids: any(),
        allowed_placement_groups: any(),
        allowed_tenancies: vec![Tenancy::Dedicated],
        ..mk_rules()
    }
}
