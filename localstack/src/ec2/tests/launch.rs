//! Tokens, capacity and addresses: what a launch does beside launching.

use serde_json::json;

use crate::testing::{TestCloud, mk_launch, with};
use crate::world::defaults::{GROUP_ORCA, SUBNET_A, SUBNET_B};

#[tokio::test(start_paused = true)]
async fn one_token_and_equal_parameters_are_one_instance_also_while_it_runs() {
    let cloud = TestCloud::start();
    let launch = with(&mk_launch(), &[("ClientToken", "t")]);
    let first = cloud.ec2(&launch).await.ok();
    let id = first.one("instanceId").to_owned();
    cloud.until(&id, "running").await;
    let again = cloud.ec2(&launch).await.ok();
    assert_eq!(
        (again.one("instanceId"), again.one("reservationId")),
        (id.as_str(), first.one("reservationId"))
    );
    assert_eq!(again.one("instanceState"), "<code>16</code><name>running</name>");
    assert_eq!(cloud.world.instances().len(), 1);
    let other = with(&launch, &[("UserData", "eA==")]);
    assert_eq!(cloud.ec2(&other).await.refusal(), "400 IdempotentParameterMismatch");
}

#[tokio::test(start_paused = true)]
async fn without_a_token_every_call_launches() {
    let cloud = TestCloud::start();
    let (one, other) = (cloud.launch(&[]).await, cloud.launch(&[]).await);
    assert_ne!(one, other);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_zonal() {
    let cloud = TestCloud::start();
    let here = cloud.launch(&[("ClientToken", "t")]).await;
    let there = cloud.launch(&[("ClientToken", "t"), ("NetworkInterface.1.SubnetId", SUBNET_B)]).await;
    assert_ne!(here, there);
    assert_eq!(cloud.world.instance(&there).unwrap().zone, "us-east-1b");
}

#[tokio::test(start_paused = true)]
async fn a_failed_launch_binds_its_token_to_its_parameters() {
    let cloud = TestCloud::start();
    cloud.control("PUT", "pools/us-east-1a/t3.medium", json!({"capacity": 0})).await;
    let launch = with(&mk_launch(), &[("ClientToken", "t")]);
    assert_eq!(cloud.ec2(&launch).await.refusal(), "500 InsufficientInstanceCapacity");
    let other = with(&launch, &[("InstanceType", "t3.micro")]);
    assert_eq!(cloud.ec2(&other).await.refusal(), "400 IdempotentParameterMismatch");
    cloud.control("PUT", "pools/us-east-1a/t3.medium", json!({"capacity": null})).await;
    cloud.ec2(&launch).await.ok();
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_terminated_instance_is_spent_even_when_it_is_forgotten() {
    let cloud = TestCloud::start();
    let launch = with(&mk_launch(), &[("ClientToken", "t")]);
    let id = cloud.ec2(&launch).await.ok().one("instanceId").to_owned();
    cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &id)]).await.ok();
    assert_eq!(cloud.ec2(&launch).await.ok().one("instanceId"), id, "not terminated yet");
    cloud.until(&id, "terminated").await;
    assert_eq!(cloud.ec2(&launch).await.refusal(), "400 IdempotentInstanceTerminated");
    tokio::time::sleep(std::time::Duration::from_secs(3700)).await;
    assert_eq!(cloud.world.instances(), []);
    assert_eq!(cloud.ec2(&launch).await.refusal(), "400 IdempotentInstanceTerminated");
    tokio::time::sleep(std::time::Duration::from_secs(24 * 3600)).await;
    assert_ne!(cloud.ec2(&launch).await.ok().one("instanceId"), id);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_neither_launches_nor_binds_its_token() {
    let cloud = TestCloud::start();
    let launch = with(&mk_launch(), &[("ClientToken", "t")]);
    assert_eq!(cloud.ec2(&with(&launch, &[("DryRun", "true")])).await.refusal(), "412 DryRunOperation");
    assert_eq!(cloud.world.instances(), []);
    cloud.ec2(&with(&launch, &[("InstanceType", "t3.micro")])).await.ok();
}

#[tokio::test(start_paused = true)]
async fn capacity_is_used_up_and_comes_back() {
    let cloud = TestCloud::start();
    cloud.control("PUT", "pools/us-east-1a/t3.medium", json!({"capacity": 1})).await;
    let id = cloud.launch(&[]).await;
    let refused = cloud.ec2(&mk_launch()).await;
    assert_eq!(refused.refusal(), "500 InsufficientInstanceCapacity");
    assert!(refused.text.contains("us-east-1b, us-east-1c"), "{}", refused.text);
    cloud.launch(&[("InstanceType", "t3.micro")]).await;
    cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &id)]).await.ok();
    cloud.until(&id, "terminated").await;
    cloud.launch(&[]).await;
}

async fn free(cloud: &TestCloud) -> u32 {
    let answer = cloud.ec2(&[("Action", "DescribeSubnets"), ("SubnetId.1", SUBNET_A)]).await.ok();
    answer.one("availableIpAddressCount").parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn addresses_run_out_and_come_back_with_the_end_of_an_instance() {
    let cloud = TestCloud::start();
    assert_eq!(free(&cloud).await, 251);
    let two = [("NetworkInterface.1.SecondaryPrivateIpAddressCount", "1")];
    let id = cloud.launch(&two).await;
    assert_eq!(free(&cloud).await, 249);
    cloud.control("PUT", &format!("subnets/{SUBNET_A}"), json!({"free_addresses": 1})).await;
    assert_eq!(free(&cloud).await, 1);
    assert_eq!(cloud.ec2(&with(&mk_launch(), &two)).await.refusal(), "400 InsufficientFreeAddressesInSubnet");
    cloud.launch(&[]).await;
    assert_eq!(cloud.ec2(&mk_launch()).await.refusal(), "400 InsufficientFreeAddressesInSubnet");
    cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &id)]).await.ok();
    assert_eq!(free(&cloud).await, 0, "not before it is terminated");
    cloud.until(&id, "terminated").await;
    assert_eq!(free(&cloud).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_was_asked_for_is_had_once() {
    let cloud = TestCloud::start();
    let wanted = [("NetworkInterface.1.PrivateIpAddress", "10.88.1.77")];
    let id = cloud.launch(&wanted).await;
    assert_eq!(cloud.world.instance(&id).unwrap().private_ip, Some([10, 88, 1, 77].into()));
    assert_eq!(cloud.ec2(&with(&mk_launch(), &wanted)).await.refusal(), "400 InvalidIPAddress.InUse");
}

#[tokio::test(start_paused = true)]
async fn between_the_fewest_and_the_most_it_launches_what_there_is() {
    let cloud = TestCloud::start();
    cloud.control("PUT", "pools/us-east-1a/t3.medium", json!({"capacity": 3})).await;
    let several = |least| with(&mk_launch(), &[("MinCount", least), ("MaxCount", "9")]);
    assert_eq!(cloud.ec2(&several("4")).await.refusal(), "500 InsufficientInstanceCapacity");
    let answer = cloud.ec2(&several("2")).await.ok();
    assert_eq!(answer.all("amiLaunchIndex"), ["0", "1", "2"]);
    assert_eq!(answer.all("reservationId").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_launch_can_be_accepted_and_end_while_pending() {
    let cloud = TestCloud::start();
    cloud.control("PUT", "pools/us-east-1a/t3.medium", json!({"fail_launches": 1, "capacity": 5})).await;
    let id = cloud.launch(&[]).await;
    assert_eq!(cloud.state(&id).await, "pending");
    cloud.until(&id, "terminated").await;
    let answer = cloud.ec2(&[("Action", "DescribeInstances"), ("InstanceId.1", &id)]).await.ok();
    assert!(answer.one("stateReason").starts_with("<code>Server.InsufficientInstanceCapacity</code>"));
    assert_eq!(answer.one("reason"), "Server.InsufficientInstanceCapacity");
    let next = cloud.launch(&[]).await;
    cloud.until(&next, "running").await;
    let pools = cloud.control("GET", "pools", serde_json::Value::Null).await.1;
    assert_eq!((&pools[0]["market"], &pools[0]["pool"]["capacity"]), (&json!("on-demand"), &json!(4)));
    let misspelled = cloud.control("PUT", "pools/us-east-1a/t3.medium", json!({"capcity": 5})).await;
    assert_eq!(misspelled.0, 400);
}

/// What a launch says for EFA-only interfaces on these network cards.
fn efa_only(cards: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    const NAMES: [[&str; 5]; 2] = [
        [
            "NetworkInterface.2.InterfaceType",
            "NetworkInterface.2.DeviceIndex",
            "NetworkInterface.2.NetworkCardIndex",
            "NetworkInterface.2.SubnetId",
            "NetworkInterface.2.SecurityGroupId.1",
        ],
        [
            "NetworkInterface.3.InterfaceType",
            "NetworkInterface.3.DeviceIndex",
            "NetworkInterface.3.NetworkCardIndex",
            "NetworkInterface.3.SubnetId",
            "NetworkInterface.3.SecurityGroupId.1",
        ],
    ];
    let of = |(names, card): (&[&'static str; 5], &&'static str)| {
        names.iter().copied().zip(["efa-only", "1", card, SUBNET_A, GROUP_ORCA]).collect::<Vec<_>>()
    };
    NAMES.iter().zip(cards).flat_map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn elastic_fabric_adapters_are_attached_where_the_type_has_them() {
    const OWN: (&str, &str) = ("NetworkInterface.1.InterfaceType", "efa");
    let cloud = TestCloud::start();
    let launch = |kind: &'static str, more: Vec<(&'static str, &'static str)>| {
        let own = if more.iter().any(|(name, _)| *name == OWN.0) { ("", "") } else { OWN };
        let changes: Vec<_> = [("InstanceType", kind), own].into_iter().chain(more).collect();
        with(&mk_launch(), &changes)
    };
    let made = cloud.ec2(&launch("p4d.24xlarge", efa_only(&["1", "3"]))).await.ok();
    assert_eq!(made.all("interfaceType"), ["efa", "efa-only", "efa-only"]);
    assert_eq!(made.all("networkCardIndex"), ["0", "1", "3"]);
    for (kind, more, refusal) in [
        ("t3.medium", Vec::new(), "InvalidParameterCombination"),
        ("g5.8xlarge", efa_only(&["1"]), "AttachmentLimitExceeded"),
        ("p4d.24xlarge", efa_only(&["4"]), "InvalidParameterValue"),
        ("p4d.24xlarge", efa_only(&["1", "1"]), "InvalidParameterValue"),
        ("p4d.24xlarge", efa_only(&["0"]), "InvalidParameterValue"),
        (
            "p4d.24xlarge",
            [efa_only(&["1"]), vec![("NetworkInterface.2.SecondaryPrivateIpAddressCount", "1")]].concat(),
            "InvalidParameterCombination",
        ),
        (
            "p4d.24xlarge",
            vec![("NetworkInterface.1.InterfaceType", "efa-only")],
            "InvalidParameterCombination",
        ),
    ] {
        let asked = launch(kind, more);
        assert_eq!(cloud.ec2(&asked).await.refusal(), format!("400 {refusal}"), "{kind}: {asked:?}");
    }
}
