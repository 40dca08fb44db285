//! What can be bought, as EC2 describes it.

use std::collections::BTreeSet;

use crate::ec2::catalog::CATALOG;
use crate::testing::{Answer, TestCloud};

async fn describe(cloud: &TestCloud, more: &[(&str, &str)]) -> Answer {
    cloud.ec2(&[&[("Action", "DescribeInstanceTypes")], more].concat()).await.ok()
}

#[tokio::test(start_paused = true)]
async fn types_have_their_figures() {
    let cloud = TestCloud::start();
    for (kind, figures) in [
        (
            "p4d.24xlarge",
            &[
                ("defaultVCpus", "96"),
                ("totalGpuMemoryInMiB", "327680"),
                ("maximumEfaInterfaces", "4"),
                ("totalSizeInGB", "8000"),
                (
                    "supportedUsageClasses",
                    "<item>on-demand</item><item>spot</item><item>capacity-block</item>",
                ),
                (
                    "gpus",
                    "<item><name>A100</name><manufacturer>NVIDIA</manufacturer><count>8</count>\
                     <logicalGpuCount>8</logicalGpuCount><gpuPartitionSize>1</gpuPartitionSize>\
                     <memoryInfo><sizeInMiB>40960</sizeInMiB></memoryInfo></item>",
                ),
            ] as &[(&str, &str)],
        ),
        ("g6f.large", &[("count", "1"), ("gpuPartitionSize", "0.125"), ("totalGpuMemoryInMiB", "2861")]),
        (
            "inf2.24xlarge",
            &[
                (
                    "neuronDevices",
                    "<item><count>6</count><name>Inferentia2</name>\
                     <coreInfo><count>2</count><version>2</version></coreInfo>\
                     <memoryInfo><sizeInMiB>32768</sizeInMiB></memoryInfo></item>",
                ),
                ("totalNeuronDeviceMemoryInMiB", "196608"),
                ("totalInferenceMemoryInMiB", "196608"),
                ("efaSupported", "false"),
            ],
        ),
        ("trn1.32xlarge", &[("totalNeuronDeviceMemoryInMiB", "524288"), ("maximumNetworkCards", "8")]),
        ("f2.12xlarge", &[("totalFpgaMemoryInMiB", "163840")]),
        ("vt1.3xlarge", &[("totalMediaMemoryInMiB", "24576")]),
        ("g4ad.8xlarge", &[("manufacturer", "AMD"), ("totalGpuMemoryInMiB", "16384")]),
        ("g4dn.metal", &[("bareMetal", "true")]),
        ("m7g.medium", &[("supportedArchitectures", "<item>arm64</item>"), ("defaultThreadsPerCore", "1")]),
    ] {
        let answer = describe(&cloud, &[("InstanceType.1", kind)]).await;
        for (name, value) in figures {
            assert_eq!(answer.one(name), *value, "{kind} {name}");
        }
    }
    assert!(describe(&cloud, &[("InstanceType.1", "g6f.large")]).await.text.contains("<count>0</count>"));
}

#[tokio::test(start_paused = true)]
async fn all_types_are_pages_of_at_most_a_hundred() {
    let cloud = TestCloud::start();
    let (mut seen, mut token, mut pages) = (BTreeSet::new(), String::new(), 0);
    loop {
        let more: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("NextToken", &token)] };
        let answer = describe(&cloud, more).await;
        let page = answer.all("instanceType").into_iter().map(str::to_owned);
        let before = seen.len();
        seen.extend(page);
        assert!(seen.len() - before <= 100);
        pages += 1;
        let Some(next) = answer.all("nextToken").first().map(|next| (*next).to_owned()) else { break };
        token = next;
    }
    assert_eq!((seen.len(), pages), (CATALOG.len(), CATALOG.len().div_ceil(100)));
    assert_eq!(describe(&cloud, &[("MaxResults", "7")]).await.all("defaultVCpus").len(), 7);
}

#[tokio::test(start_paused = true)]
async fn types_are_found_by_what_they_have() {
    let cloud = TestCloud::start();
    for (name, value, expected) in [
        ("processor-info.supported-architecture", "arm64", vec!["c7g", "g5g", "m7g"]),
        (
            "supported-usage-class",
            "capacity-block",
            vec!["p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300", "trn1", "trn2"],
        ),
        ("bare-metal", "true", vec!["g4dn", "g5g"]),
        ("network-info.efa-info.maximum-efa-interfaces", "16", vec!["p5en", "p6-b300", "trn1n", "trn2"]),
        (
            "instance-storage-info.disk.count",
            "8",
            vec!["f2", "g6", "p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300"],
        ),
        ("hypervisor", "xen", vec!["p3"]),
        ("vcpu-info.default-vcpus", "128", vec!["trn1", "trn1n"]),
        ("current-generation", "false", vec!["p3"]),
    ] {
        let answer = describe(&cloud, &[("Filter.1.Name", name), ("Filter.1.Value.1", value)]).await;
        let families: BTreeSet<&str> =
            answer.all("instanceType").into_iter().map(|name| name.split('.').next().unwrap()).collect();
        assert_eq!(families.into_iter().collect::<Vec<_>>(), expected, "{name}={value}");
    }
}

#[tokio::test(start_paused = true)]
async fn offerings_tell_where_a_type_is() {
    let cloud = TestCloud::start();
    for (kind, zones) in [
        ("availability-zone", vec!["us-east-1a", "us-east-1b"]),
        ("availability-zone-id", vec!["use1-az1", "use1-az2"]),
        ("region", vec!["us-east-1"]),
        ("outpost", vec![]),
    ] {
        let offers = [
            ("Action", "DescribeInstanceTypeOfferings"),
            ("LocationType", kind),
            ("Filter.1.Name", "instance-type"),
            ("Filter.1.Value.1", "g5.xlarge"),
        ];
        let answer = cloud.ec2(&offers).await.ok();
        assert_eq!(answer.all("location"), zones);
        assert!(answer.all("locationType").iter().all(|seen| *seen == kind));
    }
}
