//! Volumes and network interfaces that outlive their machines: what is asked, and what is done against the local cloud.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum::routing::get;
use orca::cloud::ec2::{Ec2, sdk_config};
use orca::cloud::{
    Cloud, Image, InstanceState, LaunchSpec, Leftover, LeftoverKind, TAG_CLUSTER, TAG_NODE, TAG_POD_UID,
};
use orca::config::Config;
use orca::telemetry::CloudCalls;
use serde_json::{Value, json};

use super::fake::{self, Fake, error, xml};
use super::spec;
use crate::capacity::{LocalCloud, kubeconfig, orca, serve};
use crate::plan::text;

const VOLUME: LeftoverKind = LeftoverKind::Volume;
const INTERFACE: LeftoverKind = LeftoverKind::NetworkInterface;

fn volume(id: &str, status: &str) -> String {
    format!(
        "<item><volumeId>{id}</volumeId><size>100</size><availabilityZone>us-east-1a</availabilityZone>\
         <status>{status}</status><createTime>2026-01-02T03:04:05.000Z</createTime><volumeType>gp3</volumeType>\
         <iops>6000</iops><throughput>125</throughput>\
         <tagSet><item><key>{TAG_POD_UID}</key><value>uid-1</value></item></tagSet></item>"
    )
}

fn interface(id: &str, more: &str) -> String {
    format!(
        "<item><networkInterfaceId>{id}</networkInterfaceId><subnetId>subnet-aaaa</subnetId>\
         <status>available</status>{more}\
         <tagSet><item><key>{TAG_POD_UID}</key><value>uid-1</value></item></tagSet></item>"
    )
}

fn answer(action: &str, items: &str, next: &str) -> (u16, String) {
    let set = if action == "DescribeVolumes" { "volumeSet" } else { "networkInterfaceSet" };
    xml(&format!("{action}Response"), &format!("<{set}>{items}</{set}><nextToken>{next}</nextToken>"))
}

fn ids(found: &[Leftover]) -> Vec<&str> {
    found.iter().map(|one| one.id.as_str()).collect()
}

#[tokio::test]
async fn all_pages_of_what_is_tagged_as_ours_and_available_are_read() {
    let fake = Fake::start(|action, form, _| match (action, form.get("NextToken").map(String::as_str)) {
        ("DescribeVolumes", None) => answer(action, &volume("vol-1", "available"), "page-2"),
        // A filter that was not kept to.
        ("DescribeVolumes", Some("page-2")) => {
            answer(action, &[volume("vol-2", "available"), volume("vol-3", "in-use")].concat(), "")
        }
        ("DescribeNetworkInterfaces", None) => answer(action, &interface("eni-1", ""), "page-2"),
        ("DescribeNetworkInterfaces", Some("page-2")) => {
            let attached = "<attachment><attachmentId>eni-attach-1</attachmentId></attachment>";
            let theirs = "<requesterManaged>true</requesterManaged>";
            answer(action, &[interface("eni-2", attached), interface("eni-3", theirs)].concat(), "")
        }
        other => panic!("{other:?}"),
    })
    .await;
    let ec2 = fake.ec2().await;
    let volumes = ec2.leftovers(VOLUME).await.unwrap();
    assert_eq!(ids(&volumes), ["vol-1", "vol-2"]);
    let disk = volumes[0].disk.as_ref().unwrap();
    assert_eq!((disk.kind.as_str(), disk.size_gib, disk.iops, disk.throughput), ("gp3", 100, 6000, 125));
    assert_eq!(volumes[0].created_at.unwrap().to_string(), "2026-01-02T03:04:05Z");
    assert_eq!((volumes[0].place.as_str(), volumes[0].pod_uid()), ("us-east-1a", Some("uid-1")));
    let interfaces = ec2.leftovers(INTERFACE).await.unwrap();
    assert_eq!(ids(&interfaces), ["eni-1"]);
    assert_eq!((interfaces[0].place.as_str(), interfaces[0].created_at), ("subnet-aaaa", None));

    for action in ["DescribeVolumes", "DescribeNetworkInterfaces"] {
        let asked = fake.asked(action);
        assert_eq!(asked.len(), 2, "{action}");
        let form = &asked[0];
        let filters: Vec<(&str, &str)> = (1..=3)
            .map(|n| (&*form[&format!("Filter.{n}.Name")], &*form[&format!("Filter.{n}.Value.1")]))
            .collect();
        let (cluster, node) = (format!("tag:{TAG_CLUSTER}"), format!("tag:{TAG_NODE}"));
        assert_eq!(filters, [(&*cluster, "cluster-1"), (&*node, "burst"), ("status", "available")]);
    }
}

#[tokio::test]
async fn half_a_list_of_leftovers_is_an_error_and_so_is_a_refusal() {
    let fake = Fake::start(|action, form, _| match form.get("NextToken") {
        None if action == "DescribeVolumes" => answer(action, &volume("vol-1", "available"), "page-2"),
        None | Some(_) => error(403, "UnauthorizedOperation", "You are not authorized"),
    })
    .await;
    let ec2 = fake.ec2().await;
    for kind in LeftoverKind::ALL {
        assert_eq!(ec2.leftovers(kind).await.unwrap_err().kind(), "denied", "{kind:?}");
    }
}

#[tokio::test]
async fn what_is_gone_is_deleted_and_what_something_has_is_not() {
    let fake = Fake::start(|action, form, _| {
        let id = form.get("VolumeId").or_else(|| form.get("NetworkInterfaceId")).unwrap();
        match id.as_str() {
            "vol-gone" => error(400, "InvalidVolume.NotFound", "The volume 'vol-gone' does not exist."),
            "eni-gone" => error(400, "InvalidNetworkInterfaceID.NotFound", "does not exist"),
            "vol-used" => error(400, "VolumeInUse", "Volume vol-used is currently attached to i-1"),
            "eni-used" => {
                error(400, "InvalidParameterValue", "Network interface 'eni-used' is currently in use.")
            }
            _ => xml(&format!("{action}Response"), "<return>true</return>"),
        }
    })
    .await;
    let ec2 = fake.ec2().await;
    for (kind, prefix) in [(VOLUME, "vol"), (INTERFACE, "eni")] {
        assert_eq!(ec2.discard(kind, &format!("{prefix}-left")).await, Ok(()));
        assert_eq!(ec2.discard(kind, &format!("{prefix}-gone")).await, Ok(()));
        let refused = ec2.discard(kind, &format!("{prefix}-used")).await.unwrap_err();
        assert_eq!(refused.kind(), "invalid", "{refused}");
    }
    assert_eq!((fake.asked("DeleteVolume").len(), fake.asked("DeleteNetworkInterface").len()), (3, 3));
}

/// An ORCA of this node and cluster at the local cloud.
async fn at(cloud: &LocalCloud, node: &str, cluster: &str) -> (Ec2, aws_sdk_ec2::Client) {
    let mut config: Config = fake::config(cloud.address);
    node.clone_into(&mut config.node.name);
    let credentials = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test"));
    let sdk = sdk_config(&config.aws).await.into_builder().credentials_provider(credentials).build();
    let ec2 = Ec2::new(&sdk, &config, cluster, 36, CloudCalls::default());
    (ec2, aws_sdk_ec2::Client::new(&sdk))
}

/// A machine of it.
async fn launch(ec2: &Ec2, token: &str) -> String {
    let launch = LaunchSpec {
        token: token.to_owned(),
        instance_type: "t3.medium".to_owned(),
        image: Image { id: "ami-0c10ad0000000000a".to_owned(), root_device_name: "/dev/xvda".to_owned() },
        subnet_id: "subnet-0c10ad0000000000a".to_owned(),
        security_group_ids: vec!["sg-0c10ad0000000000e".to_owned()],
        tags: [(TAG_POD_UID.to_owned(), format!("uid-{token}"))].into(),
        ..spec()
    };
    let id = ec2.launch(&launch).await.unwrap().id;
    until(ec2, &id, InstanceState::Running).await;
    id
}

async fn until(ec2: &Ec2, id: &str, state: InstanceState) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while ec2.instance(id).await.unwrap().unwrap().state != state {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap();
}

/// Ends a machine that leaves everything behind.
async fn leave(cloud: &LocalCloud, ec2: &Ec2, id: &str) {
    tokio::task::block_in_place(|| cloud.control("POST", &format!("instances/{id}/leave"), &json!({})));
    ec2.terminate(id).await.unwrap();
    until(ec2, id, InstanceState::Terminated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_left_is_found_and_deleted_and_another_nodes_and_another_clusters_are_not() {
    let cloud = LocalCloud::start();
    let (ours, raw) = at(&cloud, "burst", "cluster-1").await;
    let (other_node, _) = at(&cloud, "other", "cluster-1").await;
    let (other_cluster, _) = at(&cloud, "burst", "cluster-2").await;

    let machine = launch(&ours, "a").await;
    let seen = raw.describe_instances().instance_ids(&machine).send().await.unwrap();
    let seen = &seen.reservations()[0].instances()[0];
    let has = [
        seen.block_device_mappings()[0].ebs().unwrap().volume_id().unwrap(),
        seen.network_interfaces()[0].network_interface_id().unwrap(),
    ];
    for (kind, id) in LeftoverKind::ALL.into_iter().zip(has) {
        assert_eq!(ours.leftovers(kind).await.unwrap(), [], "{kind:?} of a machine that runs");
        assert_eq!(ours.discard(kind, id).await.unwrap_err().kind(), "invalid", "{kind:?}");
    }
    leave(&cloud, &ours, &machine).await;
    for (ec2, token) in [(&other_node, "b"), (&other_cluster, "c")] {
        let machine = launch(ec2, token).await;
        leave(&cloud, ec2, &machine).await;
    }

    for (kind, id) in LeftoverKind::ALL.into_iter().zip(has) {
        let left = ours.leftovers(kind).await.unwrap();
        assert_eq!(ids(&left), [id], "{kind:?}");
        assert!(left[0].is_of("cluster-1", "burst") && left[0].pod_uid() == Some("uid-a"), "{left:?}");
        assert_eq!(
            left[0].disk.as_ref().map(|disk| (disk.size_gib, disk.iops)),
            match kind {
                VOLUME => Some((100, 6000)),
                INTERFACE => None,
            }
        );
        for _ in 0..2 {
            assert_eq!(ours.discard(kind, id).await, Ok(()), "{kind:?}, and again");
        }
        assert_eq!(ours.leftovers(kind).await.unwrap(), []);
        for (ec2, uid) in [(&other_node, "uid-b"), (&other_cluster, "uid-c")] {
            let theirs = ec2.leftovers(kind).await.unwrap();
            let uids: Vec<_> = theirs.iter().map(Leftover::pod_uid).collect();
            assert_eq!(uids, [Some(uid)], "{kind:?} of others stays");
        }
    }

    // One that goes with its machine leaves nothing.
    let machine = launch(&ours, "d").await;
    ours.terminate(&machine).await.unwrap();
    until(&ours, &machine, InstanceState::Terminated).await;
    for kind in LeftoverKind::ALL {
        assert_eq!(ours.leftovers(kind).await.unwrap(), []);
    }
}

/// As much of an API server as `orca sweep` asks.
async fn api_server() -> (std::net::SocketAddr, tokio::task::JoinSet<()>) {
    let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
    let system = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "kube-system", "uid": "cluster-1"}});
    let pods: Value = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [
        {"metadata": {"name": "lives", "namespace": "ml", "uid": "uid-lives"}, "spec": {"containers": []}}]});
    let router = axum::Router::new()
        .route("/version", get(async || axum::Json(version)))
        .route("/api/v1/namespaces/kube-system", get(async || axum::Json(system)))
        .route("/api/v1/pods", get(async || axum::Json(pods)));
    serve(router).await
}

#[tokio::test(flavor = "multi_thread")]
async fn orca_sweep_shows_what_machines_left_and_deletes_what_is_old_enough() {
    let cloud = LocalCloud::start();
    let (ours, _) = at(&cloud, "orca", "cluster-1").await;
    let (theirs, _) = at(&cloud, "other", "cluster-1").await;
    for (ec2, token) in [(&ours, "gone"), (&ours, "lives"), (&theirs, "b")] {
        let machine = launch(ec2, token).await;
        leave(&cloud, ec2, &machine).await;
    }
    let before = ours.leftovers(INTERFACE).await.unwrap();
    let (address, _server) = api_server().await;
    let (config, kubeconfig) =
        (cloud.config("sweep.yaml", "none"), kubeconfig("sweep-kubeconfig.yaml", address));
    let sweep = |more: &[&str]| {
        let common = ["sweep", "--config", &config, "--kubeconfig", &kubeconfig, "--pod-ip", "127.0.0.1"];
        tokio::task::block_in_place(|| orca(&[&common, more].concat()))
    };
    let output = sweep(&["--dry-run"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}{}", text(&output.stderr));
    assert!(told.contains("no machine of this node is without a pod\n"), "{told}");
    assert!(told.contains("2 outlived their machines, $0.03"), "{told}");
    assert!(told.contains("volume 100 GiB gp3 in us-east-1a") && told.contains("uid-gone"), "{told}");
    assert!(!told.contains("uid-lives") && !told.contains("uid-b"), "{told}");
    assert_eq!(ours.leftovers(INTERFACE).await.unwrap(), before, "a dry run deletes nothing");

    // EC2 does not tell when an interface was made, so two looks do; the volume is too young.
    let output = sweep(&[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
    let gone = before.iter().find(|one| one.pod_uid() == Some("uid-gone")).unwrap();
    assert!(said.contains(&format!("{} is deleted", gone.id)), "{said}");
    assert!(said.contains("1 left: too young, or not ended"), "{said}");
    let uids = async |ec2: &Ec2, kind| {
        let left = ec2.leftovers(kind).await.unwrap();
        let mut uids: Vec<String> = left.iter().filter_map(|one| one.pod_uid().map(str::to_owned)).collect();
        uids.sort();
        uids
    };
    assert_eq!(uids(&ours, INTERFACE).await, ["uid-lives"], "its pod is there");
    assert_eq!(uids(&ours, VOLUME).await, ["uid-gone", "uid-lives"]);
    assert_eq!(uids(&theirs, INTERFACE).await, ["uid-b"]);
}
