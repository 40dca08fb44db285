//! What descriptions answer.

use std::collections::BTreeSet;

use crate::testing::TestCloud;
use crate::world::defaults::{self, AMI_NVIDIA, SUBNET_A, SUBNET_B, VPC};

async fn ids(cloud: &TestCloud, filters: &[(&str, &[&str])]) -> Vec<String> {
    let mut pairs = vec![("Action".to_owned(), "DescribeInstances".to_owned())];
    for (n, (name, values)) in filters.iter().enumerate() {
        pairs.push((format!("Filter.{}.Name", n + 1), (*name).to_owned()));
        let values = values.iter().enumerate();
        pairs.extend(
            values.map(|(m, value)| (format!("Filter.{}.Value.{}", n + 1, m + 1), (*value).to_owned())),
        );
    }
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = cloud.ec2(&pairs).await.ok();
    answer.all("instanceId").into_iter().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn instances_are_found_by_each_thing_that_is_known_of_them() {
    let cloud = TestCloud::start();
    let one = cloud
        .launch(&[
            ("ClientToken", "token-1"),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.1.Tag.1.Key", "orca.research/cluster"),
            ("TagSpecification.1.Tag.1.Value", "c-1"),
        ])
        .await;
    let two = cloud.launch(&[("InstanceType", "t3.micro"), ("NetworkInterface.1.SubnetId", SUBNET_B)]).await;
    cloud.until(&two, "running").await;
    for (name, value, expected) in [
        ("instance-id", one.as_str(), vec![&one]),
        ("client-token", "token-1", vec![&one]),
        ("tag:orca.research/cluster", "c-?", vec![&one]),
        ("tag-key", "orca.*", vec![&one]),
        ("instance-type", "t3.*", vec![&one, &two]),
        ("subnet-id", SUBNET_A, vec![&one]),
        ("availability-zone", "us-east-1b", vec![&two]),
        ("vpc-id", VPC, vec![&one, &two]),
        ("instance-state-name", "running", vec![&one, &two]),
        ("instance-state-code", "0", vec![]),
        ("private-ip-address", "10.88.2.4", vec![&two]),
        ("network-interface.addresses.private-ip-address", "10.88.1.4", vec![&one]),
        ("architecture", "arm64", vec![]),
    ] {
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(ids(&cloud, &[(name, &[value])]).await, expected, "{name}={value}");
    }
    let states: &[&str] = &["pending", "running"];
    assert_eq!(
        ids(&cloud, &[("instance-state-name", states), ("client-token", &["token-1"])]).await,
        [one.as_str()]
    );
}

#[tokio::test(start_paused = true)]
async fn pages_show_every_instance_once_and_belong_to_their_query() {
    let cloud = TestCloud::start();
    let mut made = BTreeSet::new();
    for _ in 0..12 {
        made.insert(cloud.launch(&[]).await);
    }
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let mut pairs = vec![("Action", "DescribeInstances"), ("MaxResults", "5")];
        if !token.is_empty() {
            pairs.push(("NextToken", token.as_str()));
        }
        let answer = cloud.ec2(&pairs).await.ok();
        seen.extend(answer.all("instanceId").into_iter().map(str::to_owned));
        pages += 1;
        let Some(next) = answer.all("nextToken").first().map(|next| (*next).to_owned()) else { break };
        token = next;
    }
    assert_eq!((pages, seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (3, 12, made));
    let other = [
        ("Action", "DescribeInstances"),
        ("NextToken", token.as_str()),
        ("Filter.1.Name", "instance-type"),
        ("Filter.1.Value.1", "*"),
    ];
    assert_eq!(cloud.ec2(&other).await.refusal(), "400 InvalidNextToken");
}

#[tokio::test(start_paused = true)]
async fn tags_given_at_launch_are_on_each_resource_and_replaced_by_new_ones() {
    let cloud = TestCloud::start();
    let mut changes = Vec::new();
    let specifications = [
        (
            "TagSpecification.1.ResourceType",
            "TagSpecification.1.Tag.1.Key",
            "TagSpecification.1.Tag.1.Value",
            "instance",
        ),
        (
            "TagSpecification.2.ResourceType",
            "TagSpecification.2.Tag.1.Key",
            "TagSpecification.2.Tag.1.Value",
            "volume",
        ),
        (
            "TagSpecification.3.ResourceType",
            "TagSpecification.3.Tag.1.Key",
            "TagSpecification.3.Tag.1.Value",
            "network-interface",
        ),
    ];
    for (kind_name, key_name, value_name, kind) in specifications {
        changes.extend([(kind_name, kind), (key_name, "k"), (value_name, kind)]);
    }
    let id = cloud.launch(&changes).await;
    let tags = cloud
        .ec2(&[("Action", "DescribeTags"), ("Filter.1.Name", "key"), ("Filter.1.Value.1", "k")])
        .await
        .ok();
    assert_eq!(tags.all("resourceType"), tags.all("value"));
    assert_eq!(tags.all("value"), ["network-interface", "instance", "volume"]);
    let change = [
        ("Action", "CreateTags"),
        ("ResourceId.1", &id),
        ("ResourceId.2", SUBNET_A),
        ("Tag.1.Key", "k"),
        ("Tag.1.Value", "<new>"),
    ];
    cloud.ec2(&change).await.ok();
    let of = async |resource: &str| {
        let pairs =
            [("Action", "DescribeTags"), ("Filter.1.Name", "resource-id"), ("Filter.1.Value.1", resource)];
        cloud.ec2(&pairs).await.ok().one("value").to_owned()
    };
    assert_eq!((of(&id).await.as_str(), of(SUBNET_A).await.as_str()), ("&lt;new&gt;", "&lt;new&gt;"));
    let subnet = [("Action", "DescribeSubnets"), ("Filter.1.Name", "tag:k"), ("Filter.1.Value.1", "<new>")];
    assert_eq!(cloud.ec2(&subnet).await.ok().all("subnetId"), [SUBNET_A]);
}

#[tokio::test(start_paused = true)]
async fn the_documented_ids_exist() {
    let cloud = TestCloud::start();
    for (action, ids, id) in [
        ("DescribeVpcs", "VpcId.1", VPC),
        ("DescribeSubnets", "SubnetId.1", defaults::SUBNET_C),
        ("DescribeSecurityGroups", "GroupId.1", defaults::GROUP_DEFAULT),
        ("DescribeImages", "ImageId.1", AMI_NVIDIA),
    ] {
        let answer = cloud.ec2(&[("Action", action), (ids, id)]).await.ok();
        assert!(answer.text.contains(&format!(">{id}<")), "{action}");
    }
    for kind in ["x86_64/standard", "x86_64/nvidia", "arm64/standard"] {
        for minor in ["1.36", "1.35", "1.34"] {
            let name = format!(
                "/aws/service/eks/optimized-ami/{minor}/amazon-linux-2023/{kind}/recommended/image_id"
            );
            let parameter = cloud.world.parameters.get(&name).unwrap();
            assert!(cloud.world.estate.image(&parameter.value).is_some(), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_with_two_subnets_is_one_zone() {
    let cloud = TestCloud::start();
    let zones = cloud.ec2(&[("Action", "DescribeAvailabilityZones")]).await.ok();
    assert_eq!(zones.all("zoneName"), ["us-east-1a", "us-east-1b", "us-east-1c"]);
    let in_a = [
        ("Action", "DescribeSubnets"),
        ("Filter.1.Name", "availability-zone"),
        ("Filter.1.Value.1", "us-east-1a"),
    ];
    assert_eq!(cloud.ec2(&in_a).await.ok().all("subnetId"), [defaults::SUBNET_A, defaults::SUBNET_A2]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_in_xml() {
    let cloud = TestCloud::start();
    let id = cloud
        .launch(&[
            ("IamInstanceProfile.Name", "orca-machine"),
            ("MetadataOptions.HttpPutResponseHopLimit", "1"),
        ])
        .await;
    cloud.until(&id, "running").await;
    let answer = cloud.ec2(&[("Action", "DescribeInstances")]).await.ok();
    assert_eq!(
        answer.one("iamInstanceProfile"),
        "<arn>arn:aws:iam::000000000000:instance-profile/orca-machine</arn><id>AIPA0C10AD00000000001</id>"
    );
    assert_eq!(
        answer.one("metadataOptions"),
        "<state>applied</state><httpTokens>required</httpTokens><httpPutResponseHopLimit>1</httpPutResponseHopLimit><httpEndpoint>enabled</httpEndpoint><httpProtocolIpv6>disabled</httpProtocolIpv6><instanceMetadataTags>disabled</instanceMetadataTags>"
    );
    assert_eq!(
        answer.one("placement"),
        "<availabilityZone>us-east-1a</availabilityZone><availabilityZoneId>use1-az1</availabilityZoneId><groupName></groupName><tenancy>default</tenancy>"
    );
    assert_eq!(answer.one("privateDnsName"), "ip-10-88-1-4.ec2.internal");
    assert!(answer.one("launchTime").ends_with('Z') && answer.one("launchTime").len() == 24);
    assert!(answer.one("macAddress").starts_with("02:"));
}
