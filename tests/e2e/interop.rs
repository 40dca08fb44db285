//! Other people's programs against the local cloud: if they are content with it, it is honest enough for ORCA.

use std::io::{BufRead, BufReader};

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use orca::cloud::ec2::Ec2;
use orca::cloud::{Cloud, InstanceState, LaunchSpec, LeftoverKind, Market};
use orca::config::Config;
use orca::logs::batch::Packer;
use orca::logs::cri::Stream;
use orca::logs::record::{Body, End, Record};
use orca::logs::stamp::Stamp;
use orca::logs::store::cloudwatch::{CloudWatch, Group};
use orca::logs::store::{From, Store as _, StoreError};
use orca::telemetry::CloudCalls;
use serde_json::Value;

use crate::world::clients::{Visitor, config, python, sdk};
use crate::world::namespace::Background;
use crate::world::{CLOUD, Namespace, World, text};

pub(crate) const TESTS: &[crate::Test] = &[
    ("interop::boto3_runs_describes_and_terminates_an_instance", boto3),
    ("interop::moto_accepts_the_providers_calls", moto),
    ("interop::ssh_works_over_the_vendors_session_manager_plugin", plugin),
    ("interop::orca_check_finds_everything_in_order", check),
];

fn boto3(_: &Namespace<'_>) -> Result<()> {
    let output = python("boto3_check.py").args(["--endpoint", CLOUD]).output()?;
    ensure!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Ok(())
}

fn plugin(ns: &Namespace<'_>) -> Result<()> {
    let visitor = Visitor::new(ns)?;
    let output = visitor.over_plugin("hostname; exit 3").output()?;
    let address = ns.instance()?["addresses"][0].as_str().context("address")?.replace('.', "-");
    let seen = text(&output.stdout);
    ensure!(seen.contains(&format!("ip-{address}")), "{seen}{}", text(&output.stderr));
    ensure!(output.status.code() == Some(3), "{}", output.status);
    Ok(())
}

fn check(ns: &Namespace<'_>) -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_orca"))
        .args(["check", "--config"])
        .arg(ns.world.file("orca.yaml"))
        .arg("--kubeconfig")
        .arg(ns.world.file("orca.conf"))
        .envs([
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("POD_IP", "10.88.0.10"),
        ])
        .output()?;
    ensure!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Ok(())
}

/// The other way round: ORCA's own calls against somebody else's EC2.
fn moto(_: &Namespace<'_>) -> Result<()> {
    let mut server = Background(
        python("moto_world.py").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?,
    );
    let mut line = String::new();
    BufReader::new(server.0.stdout.as_mut().context("stdout")?).read_line(&mut line)?;
    let world: Value = serde_json::from_str(&line).context("what moto's server printed")?;
    let word = |key: &str| world[key].as_str().unwrap_or_default().to_owned();
    let file = format!(
        "aws: {{region: us-east-1, endpoint: '{}', vpcID: {}, subnetIDs: [{}], securityGroupIDs: [{}], amiID: {}}}\n\
         instances: {{defaultInstanceType: m5.large}}\n",
        word("endpoint"),
        word("vpc"),
        word("subnet"),
        word("group"),
        word("image"),
    );
    let config = config(&file)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        launch_and_end(&config).await?;
        archive(&config).await
    })
}

/// A log of three calls, written and read back in both directions.
async fn archive(config: &Config) -> Result<()> {
    const LINES: u64 = 25_000;
    let group = Group {
        name: "/orca/interop/pods".to_owned(),
        retention_days: Some(30),
        kms_key: None,
        tags: [("team".to_owned(), "ml".to_owned())].into(),
    };
    let store = CloudWatch::new(&sdk(config).await, group);
    let stream = "ns/pod/uid/main/0";
    ensure!(store.page(stream, &From::Tail).await == Err(StoreError::NotFound), "a group that nobody made");
    for _ in 0..2 {
        store.prepare().await?;
        store.create_stream(stream).await?;
    }
    let (mut packer, now) = (Packer::new(0, None), orca::clock::now());
    for seq in 0..=LINES {
        let body = Body::Line { text: format!("line {seq}").into(), end: End::Full };
        let record = Record { seq, stamp: Stamp::utc(now), stream: Stream::Stdout, body, origin: None };
        let full = if seq < LINES { packer.push(&record, now)? } else { packer.take() };
        if let Some(batch) = full {
            let refused = store.put(stream, batch.events()).await?;
            ensure!(batch.refused(refused).next().is_none(), "moto refuses events");
        }
    }
    ensure!(store.streams("ns/pod/uid/").await? == [stream], "{:?}", store.streams("").await);
    for (mut from, forward) in [(From::Head { since: None }, true), (From::Tail, false)] {
        let mut seen = Vec::new();
        loop {
            let page = store.page(stream, &from).await?;
            for event in &page.events {
                seen.push(Record::decode(&event.message)?.seq);
            }
            let next = From::Token(if forward { page.forward } else { page.backward });
            if next == from {
                break;
            }
            from = next;
        }
        seen.sort_unstable();
        ensure!(seen == (0..LINES).collect::<Vec<_>>(), "{} events came back", seen.len());
    }
    Ok(())
}

/// Ends an instance of the local cloud by EC2's own call, as a person with the right to may.
pub(crate) fn terminate(world: &World, id: &str) -> Result<()> {
    let config = config(&world.log("orca.yaml")?)?;
    tokio::runtime::Runtime::new()?.block_on(async { Ok(ec2(&config).await.terminate(id).await?) })
}

async fn ec2(config: &Config) -> Ec2 {
    Ec2::new(&sdk(config).await, config, "cluster-1", 36, CloudCalls::default())
}

async fn launch_and_end(config: &Config) -> Result<()> {
    let ec2 = ec2(config).await;
    let types = ec2.instance_types(&["m5.large".to_owned()]).await?;
    let kind = types.first().context("moto's m5.large")?;
    ensure!(kind.vcpus == 2 && kind.memory_mib == 8192, "{kind:?}");
    let subnets = ec2.subnets().await?;
    let subnet = subnets.first().context("a subnet")?;
    let spec = LaunchSpec {
        token: "interop-1".to_owned(),
        instance_type: kind.name.clone(),
        image: ec2.image_for(kind, None).await?,
        subnet_id: subnet.id.clone(),
        purchase: orca::cloud::Purchase::default(),
        placement: orca::cloud::Placement::default(),
        security_group_ids: config.aws.security_group_ids.clone(),
        instance_profile: None,
        user_data: "#cloud-boothook\n".to_owned(),
        root_volume: config.instances.root_volume.clone(),
        efa: 0,
        tags: [("orca.research/pod-uid".to_owned(), "uid-1".to_owned())].into(),
    };
    let launched = ec2.launch(&spec).await?;
    let listed = ec2.instances().await?;
    let found =
        listed.iter().find(|instance| instance.id == launched.id).context("the instance in the list")?;
    ensure!(found.pod_uid() == Some("uid-1") && found.private_ip.is_some(), "{found:?}");
    ec2.tag(&launched.id, &[("orca.research/host-key".to_owned(), "ssh-ed25519 AAAA".to_owned())].into())
        .await?;
    ec2.terminate(&launched.id).await?;
    ec2.terminate(&launched.id).await?;
    let gone = ec2.instance(&launched.id).await?;
    ensure!(gone.is_none_or(|it| it.state == InstanceState::Terminated), "it is still there");
    for kind in LeftoverKind::ALL {
        ensure!(ec2.leftovers(kind).await?.is_empty(), "it left a {} behind", kind.noun());
    }
    Ok(())
}
