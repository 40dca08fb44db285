//! The EC2 adapter over HTTP: what it sends, and what it makes of the answers.

pub(crate) mod fake;
mod leftovers;
mod market;
mod purchases;
mod rates;
mod scheduled;

use std::collections::BTreeMap;

use orca::cloud::ec2::probe::probe;
use orca::cloud::{
    Cloud, CloudError, Image, InstanceState, InstanceType, LaunchSpec, Market, RootVolume, TAG_CLUSTER,
    TAG_NODE, TAG_POD_UID,
};
use orca::config::ImageSource;

use fake::{Fake, config, error, xml};

pub(crate) fn spec() -> LaunchSpec {
    LaunchSpec {
        token: "token-1".into(),
        instance_type: "g6.xlarge".into(),
        image: Image { id: "ami-0001".into(), root_device_name: "/dev/xvda".into() },
        subnet_id: "subnet-aaaa".into(),
        purchase: orca::cloud::Purchase::default(),
        placement: orca::cloud::Placement::default(),
        security_group_ids: vec!["sg-0001".into(), "sg-0002".into()],
        instance_profile: Some("orca-machine".into()),
        user_data: "#cloud-boothook\n".into(),
        root_volume: RootVolume {
            size_gib: 100,
            kind: "gp3".into(),
            iops: Some(6000),
            throughput: None,
            encrypted: true,
            kms_key_id: None,
        },
        efa: 0,
        tags: BTreeMap::from([(TAG_POD_UID.into(), "uid-1".into())]),
        ..LaunchSpec::default()
    }
}

fn instance(id: &str, code: u8, state: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><imageId>ami-0001</imageId>
         <instanceState><code>{code}</code><name>{state}</name></instanceState>
         <instanceType>g6.xlarge</instanceType><launchTime>2026-01-02T03:04:05.000Z</launchTime>
         <placement><availabilityZone>us-east-1a</availabilityZone></placement>
         <subnetId>subnet-aaaa</subnetId><privateIpAddress>10.0.0.5</privateIpAddress>
         <stateReason><code>Client.InstanceInitiatedShutdown</code><message>shut down</message></stateReason>
         <clientToken>token-1</clientToken>
         <networkInterfaceSet><item><attachment><deviceIndex>0</deviceIndex></attachment><privateIpAddressesSet>
           <item><privateIpAddress>10.0.0.5</privateIpAddress><primary>true</primary></item>
           <item><privateIpAddress>10.0.0.6</privateIpAddress><primary>false</primary></item>
         </privateIpAddressesSet></item></networkInterfaceSet>
         <tagSet><item><key>{TAG_POD_UID}</key><value>uid-1</value></item></tagSet></item>"
    )
}

fn reservations(instances: &str, next: &str) -> (u16, String) {
    let next = if next.is_empty() { String::new() } else { format!("<nextToken>{next}</nextToken>") };
    xml(
        "DescribeInstancesResponse",
        &format!(
            "<reservationSet><item><instancesSet>{instances}</instancesSet></item></reservationSet>{next}"
        ),
    )
}

fn launched() -> (u16, String) {
    xml("RunInstancesResponse", &format!("<instancesSet>{}</instancesSet>", instance("i-0001", 0, "pending")))
}

#[tokio::test]
async fn a_launch_asks_for_exactly_one_safe_machine() {
    let fake = Fake::start(|_, _, _| launched()).await;
    fake.ec2().await.launch(&spec()).await.unwrap();
    let form = &fake.asked("RunInstances")[0];
    let lines: Vec<String> = form.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    Action = RunInstances
    BlockDeviceMapping.1.DeviceName = /dev/xvda
    BlockDeviceMapping.1.Ebs.DeleteOnTermination = true
    BlockDeviceMapping.1.Ebs.Encrypted = true
    BlockDeviceMapping.1.Ebs.Iops = 6000
    BlockDeviceMapping.1.Ebs.VolumeSize = 100
    BlockDeviceMapping.1.Ebs.VolumeType = gp3
    CapacityReservationSpecification.CapacityReservationPreference = none
    ClientToken = token-1
    IamInstanceProfile.Name = orca-machine
    ImageId = ami-0001
    InstanceInitiatedShutdownBehavior = terminate
    InstanceType = g6.xlarge
    MaxCount = 1
    MetadataOptions.HttpEndpoint = enabled
    MetadataOptions.HttpPutResponseHopLimit = 1
    MetadataOptions.HttpTokens = required
    MetadataOptions.InstanceMetadataTags = disabled
    MinCount = 1
    NetworkInterface.1.DeleteOnTermination = true
    NetworkInterface.1.DeviceIndex = 0
    NetworkInterface.1.SecondaryPrivateIpAddressCount = 1
    NetworkInterface.1.SecurityGroupId.1 = sg-0001
    NetworkInterface.1.SecurityGroupId.2 = sg-0002
    NetworkInterface.1.SubnetId = subnet-aaaa
    TagSpecification.1.ResourceType = instance
    TagSpecification.1.Tag.1.Key = orca.research/cluster
    TagSpecification.1.Tag.1.Value = cluster-1
    TagSpecification.1.Tag.2.Key = orca.research/node
    TagSpecification.1.Tag.2.Value = burst
    TagSpecification.1.Tag.3.Key = orca.research/pod-uid
    TagSpecification.1.Tag.3.Value = uid-1
    TagSpecification.1.Tag.4.Key = team
    TagSpecification.1.Tag.4.Value = research
    TagSpecification.2.ResourceType = volume
    TagSpecification.2.Tag.1.Key = orca.research/cluster
    TagSpecification.2.Tag.1.Value = cluster-1
    TagSpecification.2.Tag.2.Key = orca.research/node
    TagSpecification.2.Tag.2.Value = burst
    TagSpecification.2.Tag.3.Key = orca.research/pod-uid
    TagSpecification.2.Tag.3.Value = uid-1
    TagSpecification.2.Tag.4.Key = team
    TagSpecification.2.Tag.4.Value = research
    TagSpecification.3.ResourceType = network-interface
    TagSpecification.3.Tag.1.Key = orca.research/cluster
    TagSpecification.3.Tag.1.Value = cluster-1
    TagSpecification.3.Tag.2.Key = orca.research/node
    TagSpecification.3.Tag.2.Value = burst
    TagSpecification.3.Tag.3.Key = orca.research/pod-uid
    TagSpecification.3.Tag.3.Value = uid-1
    TagSpecification.3.Tag.4.Key = team
    TagSpecification.3.Tag.4.Value = research
    UserData = I2Nsb3VkLWJvb3Rob29rCg==
    Version = 2016-11-15
    "#);
}

#[tokio::test]
async fn equal_specs_make_equal_requests() {
    let fake = Fake::start(|_, _, _| launched()).await;
    let ec2 = fake.ec2().await;
    ec2.launch(&spec()).await.unwrap();
    ec2.launch(&spec()).await.unwrap();
    let asked = fake.asked("RunInstances");
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test]
async fn a_launched_machine_is_understood_with_both_of_its_addresses() {
    let fake = Fake::start(|_, _, _| launched()).await;
    let machine = fake.ec2().await.launch(&spec()).await.unwrap();
    assert_eq!(machine.id, "i-0001");
    assert_eq!(machine.state, InstanceState::Pending);
    assert_eq!(machine.private_ip, Some([10, 0, 0, 5].into()));
    assert_eq!(machine.pod_ip, Some([10, 0, 0, 6].into()));
    assert_eq!(machine.zone, "us-east-1a");
    assert_eq!(machine.client_token.as_deref(), Some("token-1"));
    assert_eq!(machine.launched_at.unwrap().to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(machine.pod_uid(), Some("uid-1"));
    assert_eq!(machine.state_reason.unwrap().code, "Client.InstanceInitiatedShutdown");
}

#[tokio::test]
async fn a_launch_that_fails_is_never_repeated_unseen() {
    let fake = Fake::start(|_, _, _| error(500, "InsufficientInstanceCapacity", "none left")).await;
    let refused = fake.ec2().await.launch(&spec()).await.unwrap_err();
    assert_eq!(
        refused,
        CloudError::NoCapacity { code: "InsufficientInstanceCapacity".into(), message: "none left".into() }
    );
    assert_eq!(fake.asked("RunInstances").len(), 1);

    let fake = Fake::start(|_, _, _| error(500, "InternalError", "who knows")).await;
    let refused = fake.ec2().await.launch(&spec()).await.unwrap_err();
    assert_eq!(refused.kind(), "transient");
    assert_eq!(fake.asked("RunInstances").len(), 1);
}

#[tokio::test]
async fn an_answer_without_a_code_leaves_it_open_whether_the_launch_happened() {
    let fake = Fake::start(|_, _, _| (502, "<html>Bad Gateway</html>".to_owned())).await;
    let refused = fake.ec2().await.launch(&spec()).await.unwrap_err();
    assert_eq!(refused.kind(), "transient", "{refused}");

    // A connection that is cut after the request was sent.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
        }
    });
    let ec2 = fake.ec2_with(&config(address)).await;
    let refused = ec2.launch(&spec()).await.unwrap_err();
    assert_eq!(refused.kind(), "transient", "{refused}");
}

#[tokio::test]
async fn a_launch_that_ec2_would_refuse_after_binding_the_token_is_not_sent() {
    let fake = Fake::start(|_, _, _| launched()).await;
    let ec2 = fake.ec2().await;
    let too_long = LaunchSpec { token: "x".repeat(65), ..spec() };
    assert_eq!(ec2.launch(&too_long).await.unwrap_err().kind(), "invalid");
    let too_much = LaunchSpec { user_data: "x".repeat(16 * 1024 + 1), ..spec() };
    assert_eq!(ec2.launch(&too_much).await.unwrap_err().kind(), "invalid");
    assert_eq!(fake.asked("RunInstances").len(), 0);
}

#[tokio::test]
async fn a_dry_run_that_would_have_succeeded_is_a_success() {
    let fake = Fake::start(|_, form, _| {
        assert_eq!(form["DryRun"], "true");
        error(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
    })
    .await;
    fake.ec2().await.launch_dry_run(&spec()).await.unwrap();
    let fake = Fake::start(|_, _, _| error(403, "UnauthorizedOperation", "no")).await;
    assert_eq!(fake.ec2().await.launch_dry_run(&spec()).await.unwrap_err().kind(), "denied");
}

#[tokio::test]
async fn all_pages_of_this_nodes_instances_are_read_terminated_ones_included() {
    let fake = Fake::start(|_, form, _| match form.get("NextToken").map(String::as_str) {
        None => reservations(&instance("i-0001", 16, "running"), "page-2"),
        Some("page-2") => reservations(&instance("i-0002", 48, "terminated"), ""),
        Some(other) => panic!("unexpected token {other}"),
    })
    .await;
    let found = fake.ec2().await.instances().await.unwrap();
    let states: Vec<_> = found.iter().map(|instance| (instance.id.as_str(), instance.state)).collect();
    assert_eq!(states, [("i-0001", InstanceState::Running), ("i-0002", InstanceState::Terminated)]);
    let form = &fake.asked("DescribeInstances")[0];
    assert_eq!(form["Filter.1.Name"], format!("tag:{TAG_CLUSTER}"));
    assert_eq!(form["Filter.1.Value.1"], "cluster-1");
    assert_eq!(form["Filter.2.Name"], format!("tag:{TAG_NODE}"));
    assert_eq!(form["Filter.2.Value.1"], "burst");
    assert_eq!(form["MaxResults"], "1000");
}

#[tokio::test]
async fn half_a_list_of_instances_is_an_error() {
    let fake = Fake::start(|_, form, _| match form.get("NextToken") {
        None => reservations(&instance("i-0001", 16, "running"), "page-2"),
        Some(_) => error(403, "UnauthorizedOperation", "no"),
    })
    .await;
    assert_eq!(fake.ec2().await.instances().await.unwrap_err().kind(), "denied");
}

#[tokio::test]
async fn a_describe_that_is_throttled_is_repeated() {
    let fake = Fake::start(|_, _, before| match before {
        0 => error(503, "RequestLimitExceeded", "slow down"),
        _ => reservations(&instance("i-0001", 16, "running"), ""),
    })
    .await;
    assert_eq!(fake.ec2().await.instances().await.unwrap().len(), 1);
    assert_eq!(fake.asked("DescribeInstances").len(), 2);
}

#[tokio::test]
async fn an_instance_that_ec2_does_not_know_is_none_and_its_end_is_a_success() {
    let fake = Fake::start(|_, _, _| error(400, "InvalidInstanceID.NotFound", "does not exist")).await;
    let ec2 = fake.ec2().await;
    assert_eq!(ec2.instance("i-0001").await, Ok(None));
    assert_eq!(ec2.terminate("i-0001").await, Ok(()));
    assert_eq!(ec2.console("i-0001").await.unwrap_err().kind(), "not_found");
    assert_eq!(fake.asked("TerminateInstances")[0]["InstanceId.1"], "i-0001");
}

#[tokio::test]
async fn one_instance_is_read_by_id_and_only_if_it_is_of_this_cluster() {
    let fake = Fake::start(|_, _, _| reservations(&instance("i-0001", 16, "running"), "")).await;
    let found = fake.ec2().await.instance("i-0001").await.unwrap().unwrap();
    assert_eq!(found.state, InstanceState::Running);
    let form = &fake.asked("DescribeInstances")[0];
    assert_eq!(form["InstanceId.1"], "i-0001");
    assert_eq!(form["Filter.1.Value.1"], "cluster-1");
}

#[tokio::test]
async fn tags_are_written_and_the_console_is_read() {
    let fake = Fake::start(|action, _, _| match action {
        "CreateTags" => xml("CreateTagsResponse", "<return>true</return>"),
        "GetConsoleOutput" => xml("GetConsoleOutputResponse", "<output>aGVsbG8g\nd29ybGQ=</output>"),
        other => panic!("unexpected {other}"),
    })
    .await;
    let ec2 = fake.ec2().await;
    ec2.tag("i-0001", &BTreeMap::from([("key".into(), "value".into())])).await.unwrap();
    let form = &fake.asked("CreateTags")[0];
    assert_eq!((form["ResourceId.1"].as_str(), form["Tag.1.Key"].as_str()), ("i-0001", "key"));
    assert_eq!(ec2.console("i-0001").await.unwrap(), "hello world");
    assert_eq!(fake.asked("GetConsoleOutput")[0]["Latest"], "true");
}

fn market(action: &str, form: &fake::Form) -> (u16, String) {
    let kind = |name: &str, arch: &str, gpus: &str| {
        format!(
            "<item><instanceType>{name}</instanceType><bareMetal>false</bareMetal><hypervisor>nitro</hypervisor>
             <processorInfo><supportedArchitectures><item>{arch}</item></supportedArchitectures></processorInfo>
             <vCpuInfo><defaultVCpus>4</defaultVCpus></vCpuInfo><memoryInfo><sizeInMiB>16384</sizeInMiB></memoryInfo>
             {gpus}</item>"
        )
    };
    let gpu = |count: u8| {
        format!(
            "<gpuInfo><gpus><item><name>L4</name><manufacturer>NVIDIA</manufacturer><count>{count}</count>
             <memoryInfo><sizeInMiB>22888</sizeInMiB></memoryInfo></item></gpus></gpuInfo>"
        )
    };
    let subnet = |id: &str, vpc: &str, zone: &str, free: u32| {
        format!(
            "<item><subnetId>{id}</subnetId><vpcId>{vpc}</vpcId><availabilityZone>{zone}</availabilityZone>
             <availabilityZoneId>use1-az1</availabilityZoneId><cidrBlock>10.0.0.0/24</cidrBlock>
             <availableIpAddressCount>{free}</availableIpAddressCount></item>"
        )
    };
    match action {
        "GetCallerIdentity" => (
            200,
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:role/orca</Arn>
             </GetCallerIdentityResult></GetCallerIdentityResponse>"
                .to_owned(),
        ),
        "DescribeVpcs" => xml(
            "DescribeVpcsResponse",
            "<vpcSet><item><vpcId>vpc-0001</vpcId><cidrBlock>10.0.0.0/16</cidrBlock></item></vpcSet>",
        ),
        "DescribeSubnets" => xml(
            "DescribeSubnetsResponse",
            &format!(
                "<subnetSet>{}{}</subnetSet>",
                subnet("subnet-aaaa", "vpc-0001", "us-east-1a", 200),
                subnet("subnet-bbbb", "vpc-0001", "us-east-1b", 1)
            ),
        ),
        "DescribeSecurityGroups" => xml(
            "DescribeSecurityGroupsResponse",
            "<securityGroupInfo><item><groupId>sg-0001</groupId><groupName>pods</groupName>
             <vpcId>vpc-9999</vpcId></item></securityGroupInfo>",
        ),
        "DescribeInstanceTypes" => {
            let wanted: Vec<&String> =
                form.iter().filter(|(key, _)| key.starts_with("Filter.1.Value.")).map(|(_, v)| v).collect();
            let all = [
                ("g6.xlarge", kind("g6.xlarge", "x86_64", &gpu(1))),
                ("g6f.large", kind("g6f.large", "x86_64", &gpu(0))),
                ("m7g.large", kind("m7g.large", "arm64", "")),
            ];
            let found: String = all
                .iter()
                .filter(|(name, _)| wanted.iter().any(|w| w == name))
                .map(|(_, xml)| xml.as_str())
                .collect();
            xml("DescribeInstanceTypesResponse", &format!("<instanceTypeSet>{found}</instanceTypeSet>"))
        }
        "DescribeInstanceTypeOfferings" => xml(
            "DescribeInstanceTypeOfferingsResponse",
            "<instanceTypeOfferingSet>
             <item><instanceType>g6.xlarge</instanceType><location>us-east-1b</location></item>
             <item><instanceType>g6.xlarge</instanceType><location>us-east-1a</location></item>
             </instanceTypeOfferingSet>",
        ),
        "GetParameter" => (200, r#"{"Parameter":{"Name":"x","Value":"ami-0002"}}"#.to_owned()),
        "DescribeImages" => xml(
            "DescribeImagesResponse",
            "<imagesSet><item><imageId>ami-0002</imageId><rootDeviceName>/dev/sda1</rootDeviceName></item></imagesSet>",
        ),
        "RunInstances" => error(412, "DryRunOperation", "would have succeeded"),
        "DescribeInstanceInformation" => {
            (400, r#"{"__type":"AccessDeniedException","Message":"no"}"#.to_owned())
        }
        other => panic!("unexpected {other}"),
    }
}

#[tokio::test]
async fn types_are_described_once_and_unknown_names_are_left_out() {
    let fake = Fake::start(|action, form, _| market(action, form)).await;
    let ec2 = fake.ec2().await;
    let names = ["m7g.large", "g99.huge", "g6.xlarge", "g6f.large", "g6.*"].map(str::to_owned);
    for _ in 0..2 {
        let types = ec2.instance_types(&names).await.unwrap();
        let lines: Vec<String> = types
            .iter()
            .map(|kind| {
                let gpus = kind
                    .gpus
                    .as_ref()
                    .map(|gpus| format!("{} {} {}", gpus.count, gpus.model, gpus.memory_mib));
                format!(
                    "{} {} {} {} {gpus:?} {}",
                    kind.name, kind.vcpus, kind.memory_mib, kind.arch, kind.nitro
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "m7g.large 4 16384 arm64 None true",
                "g6.xlarge 4 16384 amd64 Some(\"1 L4 22888\") true",
                "g6f.large 4 16384 amd64 None true"
            ]
        );
    }
    assert_eq!(fake.asked("DescribeInstanceTypes").len(), 1);
}

#[tokio::test]
async fn subnets_come_in_the_configured_order_and_zones_sorted() {
    let fake = Fake::start(|action, form, _| market(action, form)).await;
    let ec2 = fake.ec2().await;
    let subnets = ec2.subnets().await.unwrap();
    let found: Vec<_> = subnets
        .iter()
        .map(|subnet| (subnet.id.as_str(), subnet.zone.as_str(), subnet.free_addresses))
        .collect();
    assert_eq!(found, [("subnet-bbbb", "us-east-1b", 1), ("subnet-aaaa", "us-east-1a", 200)]);
    assert_eq!(ec2.zones_of("g6.xlarge").await.unwrap(), ["us-east-1a", "us-east-1b"]);
    assert_eq!(fake.asked("DescribeInstanceTypeOfferings")[0]["LocationType"], "availability-zone");
}

#[tokio::test]
async fn the_image_is_the_eks_optimized_one_for_the_types_architecture_and_accelerator() {
    let fake = Fake::start(|action, form, _| market(action, form)).await;
    let ec2 = fake.ec2().await;
    let types = ec2.instance_types(&["g6.xlarge".to_owned(), "m7g.large".to_owned()]).await.unwrap();
    for kind in types.iter().chain(&types) {
        let image = ec2.image_for(kind, None).await.unwrap();
        assert_eq!((image.id.as_str(), image.root_device_name.as_str()), ("ami-0002", "/dev/sda1"));
    }
    let names: Vec<String> = fake.asked("GetParameter").iter().map(|form| form["Name"].clone()).collect();
    assert_eq!(
        names,
        [
            r#""/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended/image_id""#,
            r#""/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/arm64/standard/recommended/image_id""#
        ]
    );
}

#[tokio::test]
async fn a_configured_image_that_is_not_there_is_not_found() {
    let fake = Fake::start(|action, form, _| market(action, form)).await;
    let mut config = config(fake.address);
    config.aws.image = ImageSource::Id("ami-0003".into());
    let kind = InstanceType {
        name: "m7g.large".into(),
        vcpus: 2,
        memory_mib: 8192,
        arch: "arm64".into(),
        gpus: None,
        nitro: true,
        ..InstanceType::default()
    };
    let refused = fake.ec2_with(&config).await.image_for(&kind, None).await.unwrap_err();
    assert_eq!(refused.kind(), "not_found");
}

#[tokio::test]
async fn missing_credentials_are_a_denial_and_not_an_outage() {
    use aws_credential_types::provider::error::CredentialsError;
    let fake = Fake::start(|_, _, _| launched()).await;
    let nobody = aws_credential_types::credential_fn::provide_credentials_fn(|| async {
        Err(CredentialsError::not_loaded("there are none"))
    });
    let shared = aws_credential_types::provider::SharedCredentialsProvider::new(nobody);
    let sdk = fake.sdk().await.into_builder().credentials_provider(shared).build();
    let calls = orca::telemetry::CloudCalls::default();
    let ec2 = orca::cloud::ec2::Ec2::new(&sdk, &config(fake.address), "cluster-1", 36, calls.clone());
    assert_eq!(ec2.instances().await.unwrap_err().kind(), "denied");
    assert_eq!(fake.asked("DescribeInstances").len(), 0);
    assert_eq!(calls.count("DescribeInstances", "denied"), 1);
}

#[tokio::test]
async fn a_check_names_everything_that_is_wrong_and_what_to_do() {
    let fake = Fake::start(|action, form, _| market(action, form)).await;
    let findings = probe(&fake.sdk().await, &config(fake.address), "cluster-1", Some(36)).await;
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| match &finding.outcome {
            Ok(detail) => format!("ok    {}: {detail}", finding.what),
            Err(advice) => format!("WRONG {}: {advice}", finding.what),
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    ok    AWS credentials: arn:aws:iam::1:role/orca
    ok    VPC vpc-0001: 10.0.0.0/16
    WRONG subnet subnet-bbbb: 1 free addresses, a machine takes two
    ok    subnet subnet-aaaa: us-east-1a, 200 free addresses
    WRONG security group sg-0001: it belongs to vpc-9999, not to aws.vpcID
    ok    instance type g6.xlarge: us-east-1a, us-east-1b
    ok    image for g6.xlarge: ami-0002 on /dev/sda1
    ok    permission to launch (dry run): RunInstances would have succeeded
    WRONG SSM: access denied (AccessDeniedException): no; allow ssm:DescribeInstanceInformation and ssm:StartSession, or set aws.tunnel to `direct`
    "#);
}
