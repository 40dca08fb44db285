//! Volumes and network interfaces: with an instance, left behind by one, and deleted.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::testing::{Answer, TestCloud};
use crate::world::defaults::{GROUP_ORCA, SUBNET_A, SUBNET_B, VPC};

/// The tags of a launch, on whatever it makes.
const TAGS: [(&str, &str); 6] = [
    ("TagSpecification.1.ResourceType", "volume"),
    ("TagSpecification.1.Tag.1.Key", "owner"),
    ("TagSpecification.1.Tag.1.Value", "a volume's"),
    ("TagSpecification.2.ResourceType", "network-interface"),
    ("TagSpecification.2.Tag.1.Key", "owner"),
    ("TagSpecification.2.Tag.1.Value", "an interface's"),
];
/// Nothing goes with the instance.
const KEPT: [(&str, &str); 3] = [
    ("BlockDeviceMapping.1.DeviceName", "/dev/xvda"),
    ("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "false"),
    ("NetworkInterface.1.DeleteOnTermination", "false"),
];

async fn volumes(cloud: &TestCloud, more: &[(&str, &str)]) -> Answer {
    cloud.ec2(&[&[("Action", "DescribeVolumes")], more].concat()).await
}

async fn interfaces(cloud: &TestCloud, more: &[(&str, &str)]) -> Answer {
    cloud.ec2(&[&[("Action", "DescribeNetworkInterfaces")], more].concat()).await
}

async fn end(cloud: &TestCloud, id: &str) {
    cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", id)]).await.ok();
    cloud.until(id, "terminated").await;
}

async fn delete(cloud: &TestCloud, id: &str) -> Answer {
    let (action, name) = match id.starts_with("vol-") {
        true => ("DeleteVolume", "VolumeId"),
        false => ("DeleteNetworkInterface", "NetworkInterfaceId"),
    };
    cloud.ec2(&[("Action", action), (name, id)]).await
}

async fn free(cloud: &TestCloud) -> String {
    let answer = cloud.ec2(&[("Action", "DescribeSubnets"), ("SubnetId.1", SUBNET_A)]).await.ok();
    answer.one("availableIpAddressCount").to_owned()
}

/// The ids of the one volume and the one interface that there are.
async fn ids(cloud: &TestCloud) -> (String, String) {
    let (volumes, interfaces) = (volumes(cloud, &[]).await.ok(), interfaces(cloud, &[]).await.ok());
    // A volume says its id twice while it is attached.
    let distinct: BTreeSet<&str> = volumes.all("volumeId").into_iter().collect();
    assert_eq!((distinct.len(), interfaces.all("networkInterfaceId").len()), (1, 1));
    (volumes.one("volumeId").to_owned(), interfaces.one("networkInterfaceId").to_owned())
}

#[tokio::test(start_paused = true)]
async fn deletions_are_refused_first() {
    let cloud = TestCloud::start();
    let instance = cloud.launch(&[]).await;
    let (volume, interface) = ids(&cloud).await;
    for (action, name, id, malformed, missing, in_use) in [
        (
            "DeleteVolume",
            "VolumeId",
            volume.as_str(),
            ("vol-1", "InvalidVolumeID.Malformed"),
            ("vol-00000000", "InvalidVolume.NotFound"),
            "VolumeInUse",
        ),
        (
            "DeleteNetworkInterface",
            "NetworkInterfaceId",
            interface.as_str(),
            ("eni-1", "InvalidNetworkInterfaceId.Malformed"),
            ("eni-00000000", "InvalidNetworkInterfaceID.NotFound"),
            "InvalidParameterValue",
        ),
    ] {
        for (pairs, expected) in [
            (vec![], "400 MissingParameter"),
            (vec![(name, "")], "400 MissingParameter"),
            (vec![(name, id), ("Colour", "red")], "400 UnknownParameter"),
            (vec![(name, malformed.0)], &*format!("400 {}", malformed.1)),
            (vec![(name, missing.0)], &*format!("400 {}", missing.1)),
            (vec![(name, id)], &*format!("400 {in_use}")),
            (vec![(name, id), ("DryRun", "true")], &*format!("400 {in_use}")),
        ] {
            let pairs = [vec![("Action", action)], pairs].concat();
            assert_eq!(cloud.ec2(&pairs).await.refusal(), expected, "{pairs:?}");
        }
    }
    let words = delete(&cloud, &volume).await;
    assert_eq!(words.one("Message"), format!("Volume {volume} is currently attached to {instance}"));
    let words = delete(&cloud, &interface).await;
    assert_eq!(
        words.one("Message"),
        format!("Network interface &apos;{interface}&apos; is currently in use.")
    );
    cloud.until(&instance, "running").await;
    assert_eq!(ids(&cloud).await, (volume, interface), "and nothing is gone");
}

#[tokio::test(start_paused = true)]
async fn they_are_made_attached_and_deleted_with_their_instance() {
    let cloud = TestCloud::start();
    let size = ("BlockDeviceMapping.1.Ebs.VolumeSize", "100");
    let instance = cloud.launch(&[&TAGS[..], &KEPT[..1], &[size]].concat()).await;
    let seen = volumes(&cloud, &[]).await.ok();
    assert_eq!((seen.all("status"), seen.one("size")), (vec!["in-use", "attaching"], "100"));
    cloud.until(&instance, "running").await;

    let described = cloud.ec2(&[("Action", "DescribeInstances"), ("InstanceId.1", &instance)]).await.ok();
    let (volume, interface) = ids(&cloud).await;
    assert_eq!(described.one("volumeId"), volume);
    assert_eq!(described.one("networkInterfaceId"), interface);

    let seen = volumes(&cloud, &[]).await.ok();
    assert_eq!(seen.all("status"), ["in-use", "attached"]);
    assert_eq!((seen.one("instanceId"), seen.one("device")), (instance.as_str(), "/dev/xvda"));
    assert_eq!((seen.one("volumeType"), seen.one("iops"), seen.one("throughput")), ("gp3", "3000", "125"));
    assert_eq!((seen.one("key"), seen.one("value")), ("owner", "a volume&apos;s"));
    assert_eq!(seen.one("availabilityZone"), "us-east-1a");
    let seen = interfaces(&cloud, &[]).await.ok();
    assert_eq!(seen.all("status"), ["in-use", "attached"]);
    assert_eq!((seen.one("instanceId"), seen.one("deviceIndex")), (instance.as_str(), "0"));
    assert_eq!((seen.one("subnetId"), seen.one("groupId")), (SUBNET_A, GROUP_ORCA));
    assert_eq!(seen.one("value"), "an interface&apos;s");

    end(&cloud, &instance).await;
    assert!(volumes(&cloud, &[]).await.ok().all("volumeId").is_empty());
    assert!(interfaces(&cloud, &[]).await.ok().all("networkInterfaceId").is_empty());
    assert_eq!(delete(&cloud, &volume).await.refusal(), "400 InvalidVolume.NotFound");
    assert_eq!(delete(&cloud, &interface).await.refusal(), "400 InvalidNetworkInterfaceID.NotFound");
    let tag = [("Action", "CreateTags"), ("ResourceId.1", &*volume), ("Tag.1.Key", "late")];
    assert_eq!(cloud.ec2(&tag).await.refusal(), "400 InvalidVolume.NotFound");
    assert_eq!(free(&cloud).await, "251");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_deleted_with_its_instance_is_available_until_somebody_deletes_it() {
    let cloud = TestCloud::start();
    let second = ("NetworkInterface.1.SecondaryPrivateIpAddressCount", "1");
    let instance = cloud.launch(&[&TAGS[..], &KEPT[..], &[second]].concat()).await;
    let (volume, interface) = ids(&cloud).await;
    end(&cloud, &instance).await;
    assert_eq!(ids(&cloud).await, (volume.clone(), interface.clone()));
    let seen = volumes(&cloud, &[]).await.ok();
    assert_eq!((seen.all("status"), seen.one("attachmentSet")), (vec!["available"], ""));
    let seen = interfaces(&cloud, &[]).await.ok();
    assert_eq!((seen.all("status"), seen.all("attachment").len()), (vec!["available"], 0));
    assert_eq!(seen.all("primary"), ["true", "false"], "its addresses are taken still");
    assert_eq!(free(&cloud).await, "249");

    // Tags stay, and can be changed.
    let change = [
        ("Action", "CreateTags"),
        ("ResourceId.1", &*volume),
        ("ResourceId.2", &*interface),
        ("Tag.1.Key", "owner"),
        ("Tag.1.Value", "nobody"),
    ];
    cloud.ec2(&change).await.ok();
    let tags = [("Action", "DescribeTags"), ("Filter.1.Name", "value"), ("Filter.1.Value.1", "nobody")];
    assert_eq!(cloud.ec2(&tags).await.ok().all("resourceType"), ["network-interface", "volume"]);

    let dry = [("Action", "DeleteVolume"), ("VolumeId", &*volume), ("DryRun", "true")];
    assert_eq!(cloud.ec2(&dry).await.refusal(), "412 DryRunOperation");
    assert_eq!(delete(&cloud, &volume).await.ok().one("return"), "true");
    assert_eq!(delete(&cloud, &volume).await.refusal(), "400 InvalidVolume.NotFound");
    assert_eq!(delete(&cloud, &interface).await.ok().one("return"), "true");
    assert_eq!(delete(&cloud, &interface).await.refusal(), "400 InvalidNetworkInterfaceID.NotFound");
    assert_eq!(free(&cloud).await, "251");
}

#[tokio::test(start_paused = true)]
async fn a_test_has_things_stay_that_were_to_go() {
    let cloud = TestCloud::start();
    let leave =
        async |id: &str, what: Value| cloud.control("POST", &format!("instances/{id}/leave"), what).await.0;
    for (what, left) in [
        (Value::Null, (1, 1)),
        (json!({"interfaces": false}), (1, 0)),
        (json!({"volumes": false}), (0, 1)),
        (json!({"volumes": false, "interfaces": false}), (0, 0)),
    ] {
        let instance = cloud.launch(&[]).await;
        cloud.until(&instance, "running").await;
        assert_eq!(leave(&instance, what.clone()).await, 200);
        end(&cloud, &instance).await;
        let (volumes, interfaces) = (volumes(&cloud, &[]).await.ok(), interfaces(&cloud, &[]).await.ok());
        let ids = [volumes.all("volumeId"), interfaces.all("networkInterfaceId")];
        assert_eq!(cloud.control("GET", "left", Value::Null).await.1, json!(ids.concat()));
        assert_eq!((ids[0].len(), ids[1].len()), left, "{what}");
        for id in ids.concat() {
            delete(&cloud, id).await.ok();
        }
        assert_eq!(leave(&instance, Value::Null).await, 409, "it has nothing more");
    }
    let instance = cloud.launch(&[]).await;
    assert_eq!(leave(&instance, json!({"disks": true})).await, 400);
    assert_eq!(leave("i-00000000", Value::Null).await, 404);
}

#[tokio::test(start_paused = true)]
async fn efa_only_interfaces_are_described_with_the_tags_of_the_launch() {
    let cloud = TestCloud::start();
    let more = [
        ("InstanceType", "p4d.24xlarge"),
        ("NetworkInterface.1.InterfaceType", "efa"),
        ("NetworkInterface.2.InterfaceType", "efa-only"),
        ("NetworkInterface.2.DeviceIndex", "1"),
        ("NetworkInterface.2.NetworkCardIndex", "1"),
        ("NetworkInterface.2.SubnetId", SUBNET_A),
        ("NetworkInterface.2.SecurityGroupId.1", GROUP_ORCA),
    ];
    cloud.launch(&[&TAGS[..], &more].concat()).await;
    let seen = interfaces(&cloud, &[]).await.ok();
    let kinds: BTreeSet<&str> = seen.all("interfaceType").into_iter().collect();
    assert_eq!(kinds, ["efa", "efa-only"].into());
    assert_eq!(seen.all("value"), ["an interface&apos;s"; 2]);
}

#[tokio::test(start_paused = true)]
async fn they_are_found_by_each_thing_that_is_known_of_them() {
    let cloud = TestCloud::start();
    let left = cloud.launch(&[&TAGS[..], &KEPT[..]].concat()).await;
    end(&cloud, &left).await;
    let (volume, interface) = ids(&cloud).await;
    let used = cloud.launch(&[("NetworkInterface.1.SubnetId", SUBNET_B)]).await;
    cloud.until(&used, "running").await;
    let filtered = async |action: &str, id: &str, name: &str, value: &str| -> Vec<bool> {
        let pairs = [("Action", action), ("Filter.1.Name", name), ("Filter.1.Value.1", value)];
        let answer = cloud.ec2(&pairs).await.ok();
        let found: BTreeSet<&str> = answer.all(id).into_iter().collect();
        let mut found: Vec<bool> =
            found.into_iter().map(|one| [volume.as_str(), interface.as_str()].contains(&one)).collect();
        found.sort_unstable();
        found
    };
    // Whether the one that was left behind is found, and the one that is attached.
    let (old, new, both, none) = (vec![true], vec![false], vec![false, true], Vec::new());
    for (name, value, expected) in [
        ("status", "available", &old),
        ("status", "in-use", &new),
        ("tag:owner", "a*", &old),
        ("tag-key", "owner", &old),
        ("tag-key", "colour", &none),
        ("attachment.instance-id", used.as_str(), &new),
        ("attachment.instance-id", left.as_str(), &none),
        ("attachment.status", "attached", &new),
        ("attachment.delete-on-termination", "true", &new),
        ("availability-zone", "us-east-1a", &old),
        ("availability-zone", "us-east-1?", &both),
    ] {
        for (action, id) in
            [("DescribeVolumes", "volumeId"), ("DescribeNetworkInterfaces", "networkInterfaceId")]
        {
            assert_eq!(filtered(action, id, name, value).await, *expected, "{action} {name}={value}");
        }
    }
    for (name, value, expected) in [
        ("volume-id", volume.as_str(), &old),
        ("size", "20", &both),
        ("volume-type", "gp2", &none),
        ("attachment.device", "/dev/xvda", &new),
        ("encrypted", "false", &both),
    ] {
        assert_eq!(filtered("DescribeVolumes", "volumeId", name, value).await, *expected, "{name}={value}");
    }
    for (name, value, expected) in [
        ("network-interface-id", interface.as_str(), &old),
        ("subnet-id", SUBNET_B, &new),
        ("vpc-id", VPC, &both),
        ("private-ip-address", "10.88.1.4", &old),
        ("addresses.private-ip-address", "10.88.2.4", &new),
        ("group-id", GROUP_ORCA, &both),
        ("interface-type", "interface", &both),
    ] {
        let seen = filtered("DescribeNetworkInterfaces", "networkInterfaceId", name, value).await;
        assert_eq!(seen, *expected, "{name}={value}");
    }
    let own = cloud
        .ec2(&[
            ("Action", "DescribeInstances"),
            ("Filter.1.Name", "block-device-mapping.volume-id"),
            ("Filter.1.Value.1", &volume),
        ])
        .await
        .ok();
    assert!(own.all("instanceId").is_empty(), "no instance has it any more");
    for (action, id, known) in [
        ("DescribeVolumes", "VolumeId.1", &volume),
        ("DescribeNetworkInterfaces", "NetworkInterfaceId.1", &interface),
    ] {
        let one = cloud.ec2(&[("Action", action), (id, known)]).await.ok();
        assert_eq!(one.all("status"), ["available"]);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_show_every_one_once_in_the_order_of_their_making() {
    let cloud = TestCloud::start();
    for _ in 0..12 {
        let instance = cloud.launch(&KEPT).await;
        cloud.control("POST", &format!("instances/{instance}/kill"), Value::Null).await;
    }
    for (action, id) in [("DescribeVolumes", "volumeId"), ("DescribeNetworkInterfaces", "networkInterfaceId")]
    {
        let all = cloud.ec2(&[("Action", action)]).await.ok();
        let mut whole: Vec<&str> = all.all(id);
        whole.dedup();
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let mut pairs = vec![("Action", action), ("MaxResults", "5")];
            if !token.is_empty() {
                pairs.push(("NextToken", token.as_str()));
            }
            let answer = cloud.ec2(&pairs).await.ok();
            seen.extend(answer.all(id).into_iter().map(str::to_owned));
            seen.dedup();
            pages += 1;
            let Some(next) = answer.all("nextToken").first().map(|next| (*next).to_owned()) else { break };
            token = next;
        }
        assert_eq!((pages, seen.len()), (3, 12), "{action}");
        assert_eq!(seen, whole, "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_description_lags_what_a_launch_made_is_not_there_either() {
    let cloud = TestCloud::start();
    cloud.control("PATCH", "settings", json!({"describe_lag_ms": 5000})).await;
    let launched = cloud.ec2(&crate::testing::mk_launch()).await.ok();
    let (volume, interface) =
        (launched.one("volumeId").to_owned(), launched.one("networkInterfaceId").to_owned());
    assert!(volumes(&cloud, &[]).await.ok().all("volumeId").is_empty());
    assert!(interfaces(&cloud, &[]).await.ok().all("networkInterfaceId").is_empty());
    assert_eq!(delete(&cloud, &volume).await.refusal(), "400 InvalidVolume.NotFound");
    assert_eq!(delete(&cloud, &interface).await.refusal(), "400 InvalidNetworkInterfaceID.NotFound");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(ids(&cloud).await, (volume, interface));
}
