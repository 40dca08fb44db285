//! One table a family: what is asked, and how EC2 refuses it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::testing::{TestCloud, mk_launch, with};
use crate::world::defaults::{AMI_ARM64, GROUP_ORCA, SUBNET_A};

/// A launch with these changes is refused with this status and code, and nothing was launched.
async fn check(cases: &[(&[(&'static str, &str)], &str)]) {
    let cloud = TestCloud::start();
    for (changes, expected) in cases {
        let answer = cloud.ec2(&with(&mk_launch(), changes)).await;
        assert_eq!(answer.refusal(), *expected, "{changes:?}: {}", answer.text);
    }
    assert_eq!(cloud.world.instances(), [], "nothing was launched");
    cloud.ec2(&mk_launch()).await.ok();
}

#[tokio::test(start_paused = true)]
async fn unknown_and_missing_parameters() {
    check(&[
        (&[("Colour", "red")], "400 UnknownParameter"),
        (&[("NetworkInterface.1.Colour", "red")], "400 UnknownParameter"),
        (
            &[("TagSpecification.1.Tags.1.Key", "a"), ("TagSpecification.1.ResourceType", "instance")],
            "400 UnknownParameter",
        ),
        (&[("SecurityGroupIds", "sg-1")], "400 UnknownParameter"),
        (&[("MinCount", "")], "400 MissingParameter"),
        (&[("MaxCount", "")], "400 MissingParameter"),
        (&[("ImageId", "")], "400 MissingParameter"),
        (&[("InstanceType", "")], "400 MissingParameter"),
        (&[("NetworkInterface.1.SubnetId", "")], "400 VPCIdNotSpecified"),
        (&[("LaunchTemplate.LaunchTemplateId", "lt-1")], "400 UnsupportedOperation"),
        (&[("InstanceMarketOptions.Colour", "red")], "400 UnknownParameter"),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn malformed_and_missing_ids() {
    check(&[
        (&[("ImageId", "ami-xyz")], "400 InvalidAMIID.Malformed"),
        (&[("ImageId", "ami-00000000")], "400 InvalidAMIID.NotFound"),
        (&[("NetworkInterface.1.SubnetId", "subnet")], "400 InvalidSubnetID.Malformed"),
        (&[("NetworkInterface.1.SubnetId", "subnet-00000000")], "400 InvalidSubnetID.NotFound"),
        (&[("NetworkInterface.1.SecurityGroupId.1", "orca")], "400 InvalidGroupId.Malformed"),
        (&[("NetworkInterface.1.SecurityGroupId.1", "sg-00000000")], "400 InvalidGroup.NotFound"),
        (&[("KeyName", "mine")], "400 InvalidKeyPair.NotFound"),
        (&[("Placement.GroupName", "mine")], "400 InvalidPlacementGroup.Unknown"),
        (&[("IamInstanceProfile.Name", "nobody")], "400 InvalidParameterValue"),
        (&[("IamInstanceProfile.Arn", "nobody")], "400 InvalidIamInstanceProfileArn.Malformed"),
        (
            &[("IamInstanceProfile.Arn", "arn:aws:iam::1:instance-profile/orca-machine")],
            "400 InvalidParameterValue",
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn bad_values() {
    let long_token = "x".repeat(65);
    check(&[
        (&[("InstanceType", "x9.huge")], "400 InvalidParameterValue"),
        (&[("ImageId", AMI_ARM64)], "400 InvalidParameterValue"),
        (&[("InstanceType", "p5.48xlarge")], "400 Unsupported"),
        (&[("MinCount", "0")], "400 InvalidParameterValue"),
        (&[("MinCount", "two")], "400 InvalidParameterValue"),
        (&[("MinCount", "2")], "400 InvalidParameterCombination"),
        (&[("InstanceInitiatedShutdownBehavior", "explode")], "400 InvalidParameterValue"),
        (&[("ClientToken", &long_token)], "400 InvalidClientToken"),
        (&[("ClientToken", "täken")], "400 InvalidClientToken"),
        (&[("Placement.AvailabilityZone", "us-east-1b")], "400 InvalidParameterValue"),
        (&[("Placement.Tenancy", "shared")], "400 InvalidParameterValue"),
        (&[("DisableApiTermination", "perhaps")], "400 InvalidParameterValue"),
        (&[("MetadataOptions.HttpTokens", "maybe")], "400 InvalidParameterValue"),
        (&[("MetadataOptions.HttpPutResponseHopLimit", "0")], "400 InvalidParameterValue"),
        (&[("MetadataOptions.HttpPutResponseHopLimit", "65")], "400 InvalidParameterValue"),
        (&[("MetadataOptions.HttpEndpoint", "off")], "400 InvalidParameterValue"),
        (&[("MetadataOptions.HttpEndpoint", "disabled")], "400 UnsupportedOperation"),
        (
            &[("CapacityReservationSpecification.CapacityReservationPreference", "some")],
            "400 InvalidParameterValue",
        ),
        (
            &[(
                "CapacityReservationSpecification.CapacityReservationPreference",
                "capacity-reservations-only",
            )],
            "400 ReservationCapacityExceeded",
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn user_data() {
    let (fits, long) = (STANDARD.encode(vec![b'x'; 16_384]), STANDARD.encode(vec![b'x'; 16_385]));
    check(&[
        (&[("UserData", "not base64!")], "400 InvalidUserData.Malformed"),
        (&[("UserData", &long)], "400 InvalidUserData.Malformed"),
    ])
    .await;
    let cloud = TestCloud::start();
    cloud.launch(&[("UserData", &fits)]).await;
}

#[tokio::test(start_paused = true)]
async fn the_mixes_of_interface_and_instance() {
    check(&[
        (&[("SubnetId", SUBNET_A)], "400 InvalidParameterCombination"),
        (&[("SecurityGroupId.1", GROUP_ORCA)], "400 InvalidParameterCombination"),
        (&[("SecurityGroup.1", "orca")], "400 InvalidParameterCombination"),
        (&[("PrivateIpAddress", "10.88.1.9")], "400 InvalidParameterCombination"),
        (&[("NetworkInterface.1.DeviceIndex", "")], "400 InvalidParameterValue"),
        (&[("NetworkInterface.1.DeviceIndex", "1")], "400 InvalidParameterCombination"),
        (&[("NetworkInterface.1.SecondaryPrivateIpAddressCount", "-1")], "400 InvalidParameterValue"),
        (&[("NetworkInterface.1.SecondaryPrivateIpAddressCount", "6")], "400 PrivateIpAddressLimitExceeded"),
        (&[("NetworkInterface.1.PrivateIpAddress", "10.88.2.9")], "400 InvalidParameterValue"),
        (&[("NetworkInterface.1.PrivateIpAddress", "10.88.1.3")], "400 InvalidParameterValue"),
        (&[("NetworkInterface.1.PrivateIpAddress", "here")], "400 InvalidParameterValue"),
        (
            &[("NetworkInterface.1.PrivateIpAddress", "10.88.1.9"), ("MaxCount", "2")],
            "400 InvalidParameterCombination",
        ),
        (&[("NetworkInterface.1.AssociatePublicIpAddress", "true")], "400 UnsupportedOperation"),
        (&[("NetworkInterface.2.DeviceIndex", "1")], "400 UnsupportedOperation"),
        (
            &[("IamInstanceProfile.Name", "a"), ("IamInstanceProfile.Arn", "b")],
            "400 InvalidParameterCombination",
        ),
    ])
    .await;
    let cloud = TestCloud::start();
    let without = [
        ("NetworkInterface.1.DeviceIndex", ""),
        ("NetworkInterface.1.SubnetId", ""),
        ("NetworkInterface.1.SecurityGroupId.1", ""),
    ];
    let plain =
        with(&with(&mk_launch(), &without), &[("SubnetId", SUBNET_A), ("SecurityGroupId.1", GROUP_ORCA)]);
    assert_eq!(cloud.ec2(&plain).await.ok().one("groupId"), GROUP_ORCA);
}

#[tokio::test(start_paused = true)]
async fn volumes() {
    const ROOT: (&str, &str) = ("BlockDeviceMapping.1.DeviceName", "/dev/xvda");
    const SIZE: &str = "BlockDeviceMapping.1.Ebs.VolumeSize";
    const KIND: &str = "BlockDeviceMapping.1.Ebs.VolumeType";
    const IOPS: &str = "BlockDeviceMapping.1.Ebs.Iops";
    const THROUGHPUT: &str = "BlockDeviceMapping.1.Ebs.Throughput";
    check(&[
        (&[(SIZE, "30")], "400 MissingParameter"),
        (&[ROOT, (SIZE, "19")], "400 InvalidBlockDeviceMapping"),
        (&[ROOT, (SIZE, "65537")], "400 InvalidParameterValue"),
        (&[ROOT, (KIND, "gp9")], "400 InvalidParameterValue"),
        (&[ROOT, (IOPS, "2999")], "400 InvalidParameterValue"),
        (&[ROOT, (IOPS, "80001"), (SIZE, "2000")], "400 InvalidParameterValue"),
        (&[ROOT, (IOPS, "10001")], "400 InvalidParameterValue"),
        (&[ROOT, (THROUGHPUT, "124")], "400 InvalidParameterValue"),
        (&[ROOT, (THROUGHPUT, "751")], "400 InvalidParameterValue"),
        (&[ROOT, (KIND, "gp2"), (IOPS, "3000")], "400 InvalidParameterCombination"),
        (&[ROOT, (KIND, "gp2"), (THROUGHPUT, "125")], "400 InvalidParameterCombination"),
        (&[ROOT, (KIND, "io2")], "400 MissingParameter"),
        (&[ROOT, ("BlockDeviceMapping.1.Ebs.KmsKeyId", "k")], "400 InvalidParameterDependency"),
        (&[ROOT, ("BlockDeviceMapping.1.Ebs.SnapshotId", "snap")], "400 InvalidSnapshotID.Malformed"),
        (&[ROOT, ("BlockDeviceMapping.1.Ebs.SnapshotId", "snap-00000000")], "400 InvalidSnapshot.NotFound"),
        (&[ROOT, ("BlockDeviceMapping.2.DeviceName", "/dev/xvda")], "400 InvalidBlockDeviceMapping"),
        (&[("BlockDeviceMapping.1.DeviceName", "/dev/xvdb")], "400 MissingParameter"),
    ])
    .await;
    let cloud = TestCloud::start();
    cloud.launch(&[ROOT, (SIZE, "100"), (KIND, "gp3"), (IOPS, "8000"), (THROUGHPUT, "2000")]).await;
    cloud.launch(&[ROOT, (THROUGHPUT, "750")]).await;
}

#[tokio::test(start_paused = true)]
async fn tags() {
    let (long_key, long_value) = ("k".repeat(129), "v".repeat(257));
    const KIND: (&str, &str) = ("TagSpecification.1.ResourceType", "instance");
    const KEY: &str = "TagSpecification.1.Tag.1.Key";
    const VALUE: &str = "TagSpecification.1.Tag.1.Value";
    check(&[
        (&[(KEY, "a")], "400 MissingParameter"),
        (&[KIND, (VALUE, "a")], "400 MissingParameter"),
        (&[KIND, (KEY, &long_key)], "400 InvalidParameterValue"),
        (&[KIND, (KEY, "a"), (VALUE, &long_value)], "400 InvalidParameterValue"),
        (&[KIND, (KEY, "aws:a")], "400 InvalidParameterValue"),
        (&[KIND, (KEY, "a\u{1}")], "400 InvalidParameterValue"),
        (&[KIND, (KEY, "a"), ("TagSpecification.1.Tag.2.Key", "a")], "400 InvalidParameterValue"),
        (&[("TagSpecification.1.ResourceType", "snapshot"), (KEY, "a")], "400 InvalidParameterValue"),
        (&[KIND, (KEY, "a"), ("TagSpecification.2.ResourceType", "instance")], "400 InvalidParameterValue"),
    ])
    .await;
    let cloud = TestCloud::start();
    let many: Vec<(String, String)> =
        (1..=51).map(|n| (format!("TagSpecification.1.Tag.{n}.Key"), format!("k{n}"))).collect();
    let launch = mk_launch();
    let mut pairs: Vec<(&str, &str)> = launch.iter().map(|(name, value)| (*name, value.as_str())).collect();
    pairs.push(KIND);
    pairs.extend(many.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    assert_eq!(cloud.ec2(&pairs).await.refusal(), "400 TagLimitExceeded");
    pairs.pop();
    let id = cloud.ec2(&pairs).await.ok().one("instanceId").to_owned();
    let more = |key| [("Action", "CreateTags"), ("ResourceId.1", id.as_str()), ("Tag.1.Key", key)];
    assert_eq!(cloud.ec2(&more("new")).await.refusal(), "400 TagLimitExceeded");
    cloud.ec2(&more("k1")).await.ok();
}

#[tokio::test(start_paused = true)]
async fn create_tags() {
    let cloud = TestCloud::start();
    let id = cloud.launch(&[]).await;
    let tag = ("Tag.1.Key", "a");
    for (pairs, expected) in [
        (vec![tag], "400 MissingParameter"),
        (vec![("ResourceId.1", id.as_str())], "400 MissingParameter"),
        (vec![("ResourceId.1", "x-1"), tag], "400 InvalidID"),
        (vec![("ResourceId.1", "i-1"), tag], "400 InvalidInstanceID.Malformed"),
        (vec![("ResourceId.1", "i-00000000"), tag], "400 InvalidInstanceID.NotFound"),
        (vec![("ResourceId.1", "vol-00000000"), tag], "400 InvalidVolume.NotFound"),
        (
            vec![("ResourceId.1", id.as_str()), ("ResourceId.2", "i-00000000"), tag],
            "400 InvalidInstanceID.NotFound",
        ),
        (vec![("ResourceId.1", id.as_str()), ("Tag.1.Key", "aws:a")], "400 InvalidParameterValue"),
        (vec![("ResourceId.1", id.as_str()), tag, ("DryRun", "true")], "412 DryRunOperation"),
    ] {
        let pairs = [vec![("Action", "CreateTags")], pairs].concat();
        assert_eq!(cloud.ec2(&pairs).await.refusal(), expected, "{pairs:?}");
    }
    assert!(cloud.world.instance(&id).unwrap().tags.is_empty());
}

#[tokio::test(start_paused = true)]
async fn terminating_is_all_or_nothing() {
    let cloud = TestCloud::start();
    let id = cloud.launch(&[]).await;
    let protected = cloud.launch(&[("DisableApiTermination", "true")]).await;
    cloud.until(&id, "running").await;
    let one = ("InstanceId.1", id.as_str());
    for (pairs, expected) in [
        (vec![], "400 MissingParameter"),
        (vec![one, ("InstanceId.2", "i-xyz")], "400 InvalidInstanceID.Malformed"),
        (vec![one, ("InstanceId.2", "i-00000000")], "400 InvalidInstanceID.NotFound"),
        (vec![one, ("InstanceId.2", protected.as_str())], "400 OperationNotPermitted"),
        (vec![one, ("Colour", "red")], "400 UnknownParameter"),
        (vec![one, ("DryRun", "true")], "412 DryRunOperation"),
    ] {
        let pairs = [vec![("Action", "TerminateInstances")], pairs].concat();
        assert_eq!(cloud.ec2(&pairs).await.refusal(), expected, "{pairs:?}");
    }
    assert_eq!(cloud.state(&id).await, "running");
}

#[tokio::test(start_paused = true)]
async fn every_description_refuses_what_it_does_not_know() {
    let cloud = TestCloud::start();
    for (action, ids, malformed, missing) in [
        (
            "DescribeInstances",
            "InstanceId",
            "InvalidInstanceID.Malformed",
            ("i-00000000", "InvalidInstanceID.NotFound"),
        ),
        (
            "DescribeInstanceStatus",
            "InstanceId",
            "InvalidInstanceID.Malformed",
            ("i-00000000", "InvalidInstanceID.NotFound"),
        ),
        ("DescribeVpcs", "VpcId", "InvalidVpcID.Malformed", ("vpc-00000000", "InvalidVpcID.NotFound")),
        (
            "DescribeSubnets",
            "SubnetId",
            "InvalidSubnetID.Malformed",
            ("subnet-00000000", "InvalidSubnetID.NotFound"),
        ),
        (
            "DescribeSecurityGroups",
            "GroupId",
            "InvalidGroupId.Malformed",
            ("sg-00000000", "InvalidGroup.NotFound"),
        ),
        ("DescribeImages", "ImageId", "InvalidAMIID.Malformed", ("ami-00000000", "InvalidAMIID.NotFound")),
        ("DescribeInstanceTypes", "InstanceType", "InvalidInstanceType", ("x9.huge", "InvalidInstanceType")),
        (
            "DescribeVolumes",
            "VolumeId",
            "InvalidVolumeID.Malformed",
            ("vol-00000000", "InvalidVolume.NotFound"),
        ),
        (
            "DescribeNetworkInterfaces",
            "NetworkInterfaceId",
            "InvalidNetworkInterfaceId.Malformed",
            ("eni-00000000", "InvalidNetworkInterfaceID.NotFound"),
        ),
        (
            "DescribeCapacityReservations",
            "CapacityReservationId",
            "InvalidCapacityReservationId.Malformed",
            ("cr-00000000", "InvalidCapacityReservationId.NotFound"),
        ),
        (
            "DescribeCapacityBlocks",
            "CapacityBlockId",
            "InvalidCapacityBlockId.Malformed",
            ("cb-00000000", "InvalidCapacityBlockId.NotFound"),
        ),
    ] {
        let first = format!("{ids}.1");
        let refused = async |pairs: &[(&str, &str)]| {
            cloud.ec2(&[&[("Action", action)], pairs].concat()).await.refusal()
        };
        assert_eq!(refused(&[(&first, "xyz")]).await, format!("400 {malformed}"), "{action}");
        assert_eq!(refused(&[(&first, missing.0)]).await, format!("400 {}", missing.1), "{action}");
        assert_eq!(
            refused(&[(&first, "xyz"), ("MaxResults", "9")]).await,
            "400 InvalidParameterCombination",
            "{action}"
        );
    }
    for action in [
        "DescribeInstances",
        "DescribeInstanceStatus",
        "DescribeTags",
        "DescribeInstanceTypes",
        "DescribeInstanceTypeOfferings",
        "DescribeAvailabilityZones",
        "DescribeVpcs",
        "DescribeSubnets",
        "DescribeSecurityGroups",
        "DescribeImages",
        "DescribeCapacityReservations",
        "DescribeCapacityBlocks",
        "DescribeSpotPriceHistory",
        "DescribeVolumes",
        "DescribeNetworkInterfaces",
    ] {
        let refused = async |pairs: &[(&str, &str)]| {
            cloud.ec2(&[&[("Action", action)], pairs].concat()).await.refusal()
        };
        assert_eq!(refused(&[("Colour", "red")]).await, "400 UnknownParameter", "{action}");
        assert_eq!(refused(&[("DryRun", "true")]).await, "412 DryRunOperation", "{action}");
        let filter = [("Filter.1.Name", "colour"), ("Filter.1.Value.1", "red")];
        assert_eq!(refused(&filter).await, "400 InvalidParameterValue", "{action}");
        if action != "DescribeAvailabilityZones" {
            assert_eq!(refused(&[("MaxResults", "0")]).await, "400 InvalidParameterValue", "{action}");
            assert_eq!(refused(&[("NextToken", "x")]).await, "400 InvalidNextToken", "{action}");
        }
    }
    let zone = cloud.ec2(&[("Action", "DescribeAvailabilityZones"), ("ZoneName.1", "us-east-1z")]).await;
    assert_eq!(zone.refusal(), "400 InvalidParameterValue");
    let group = cloud.ec2(&[("Action", "DescribeSecurityGroups"), ("GroupName.1", "nobody")]).await;
    assert_eq!(group.refusal(), "400 InvalidGroup.NotFound");
    let offers = cloud.ec2(&[("Action", "DescribeInstanceTypeOfferings"), ("LocationType", "moon")]).await;
    assert_eq!(offers.refusal(), "400 InvalidParameterValue");
}
