//! Everything that can be bought, as EC2 and the price list describe it.

use orca::cloud::{
    BlockState, InstanceType, Market, ReservationKind, ReservationMatch, ReservationState, Tenancy, Usage,
};

use super::fake::{Fake, Form, error, xml};

/// A type with these fields, and what every type has.
fn kind(name: &str, arch: &str, fields: &str) -> String {
    format!(
        "<item><instanceType>{name}</instanceType><hypervisor>nitro</hypervisor>
         <processorInfo><supportedArchitectures><item>{arch}</item></supportedArchitectures></processorInfo>
         <vCpuInfo><defaultVCpus>8</defaultVCpus></vCpuInfo><memoryInfo><sizeInMiB>32768</sizeInMiB></memoryInfo>
         {fields}</item>"
    )
}

fn gpu(name: &str, maker: &str, count: u32, memory: u32, more: &str) -> String {
    format!(
        "<gpuInfo><gpus><item><name>{name}</name><manufacturer>{maker}</manufacturer><count>{count}</count>
         <memoryInfo><sizeInMiB>{memory}</sizeInMiB></memoryInfo>{more}</item></gpus></gpuInfo>"
    )
}

/// All types of a region with these descriptions.
async fn types(items: Vec<String>) -> Vec<InstanceType> {
    let all = items.concat();
    let fake = Fake::start(move |_, _, _| {
        xml("DescribeInstanceTypesResponse", &format!("<instanceTypeSet>{all}</instanceTypeSet>"))
    })
    .await;
    fake.ec2().await.all_instance_types().await.unwrap()
}

#[tokio::test]
async fn accelerators_of_every_make_are_understood() {
    let share = "<gpuPartitionSize>0.125</gpuPartitionSize><logicalGpuCount>1</logicalGpuCount>";
    let neuron = "<neuronInfo><neuronDevices><item><count>16</count><name>Trainium</name>
         <coreInfo><count>2</count></coreInfo><memoryInfo><sizeInMiB>32768</sizeInMiB></memoryInfo></item>
         </neuronDevices></neuronInfo>";
    let inferentia = "<inferenceAcceleratorInfo><accelerators><member><count>4</count><name>Inferentia</name>
         <manufacturer>AWS</manufacturer><memoryInfo><sizeInMiB>8192</sizeInMiB></memoryInfo></member>
         </accelerators></inferenceAcceleratorInfo>";
    let qualcomm = inferentia.replace("Inferentia", "AI100").replace("AWS", "Qualcomm");
    let fpga = "<fpgaInfo><fpgas><item><name>VU47P</name><count>1</count></item></fpgas></fpgaInfo>";
    let media =
        "<mediaAcceleratorInfo><accelerators><item><count>1</count><name>U30</name></item></accelerators>
         </mediaAcceleratorInfo>";
    let whole = "<gpuPartitionSize>1.0</gpuPartitionSize>";
    let all = types(vec![
        kind("p5.48xlarge", "x86_64", &gpu("H100", "NVIDIA", 8, 81920, whole)),
        kind("g4ad.xlarge", "x86_64", &gpu("Radeon Pro V520", "AMD", 1, 8192, "")),
        kind("g6f.large", "x86_64", &gpu("L4", "NVIDIA", 0, 2861, share)),
        kind("dl1.24xlarge", "x86_64", &gpu("Gaudi HL-205", "Habana", 8, 32768, "")),
        kind("trn1.32xlarge", "x86_64", neuron),
        kind("inf1.6xlarge", "x86_64", inferentia),
        kind("dl2q.24xlarge", "x86_64", &qualcomm),
        kind("f2.6xlarge", "x86_64", fpga),
        kind("vt1.3xlarge", "x86_64", media),
        kind("m7g.large", "arm64", ""),
    ])
    .await;
    let lines: Vec<String> = all
        .iter()
        .map(|kind| {
            let gpus = kind.gpus.as_ref().map_or_else(String::new, |gpus| {
                format!(
                    "{} × {} {} of {} MiB, 1/{}",
                    gpus.count, gpus.manufacturer, gpus.model, gpus.memory_mib, gpus.share_of
                )
            });
            format!("{} {} [{gpus}] other: {}", kind.name, kind.arch, kind.other_accelerator)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    p5.48xlarge amd64 [8 × NVIDIA H100 of 81920 MiB, 1/1] other: false
    g4ad.xlarge amd64 [1 × AMD Radeon Pro V520 of 8192 MiB, 1/1] other: false
    g6f.large amd64 [0 × NVIDIA L4 of 2861 MiB, 1/8] other: false
    dl1.24xlarge amd64 [8 × Habana Gaudi HL-205 of 32768 MiB, 1/1] other: false
    trn1.32xlarge amd64 [16 × AWS Trainium of 32768 MiB, 1/1] other: false
    inf1.6xlarge amd64 [4 × AWS Inferentia of 8192 MiB, 1/1] other: false
    dl2q.24xlarge amd64 [] other: true
    f2.6xlarge amd64 [] other: true
    vt1.3xlarge amd64 [] other: true
    m7g.large arm64 [] other: false
    ");
}

#[tokio::test]
async fn a_type_says_how_it_is_bought_and_what_else_it_has() {
    let fields = "<bareMetal>true</bareMetal>
         <supportedUsageClasses><item>on-demand</item><item>capacity-block</item></supportedUsageClasses>
         <networkInfo><efaSupported>true</efaSupported>
         <efaInfo><maximumEfaInterfaces>32</maximumEfaInterfaces></efaInfo></networkInfo>
         <instanceStorageInfo><totalSizeInGB>30400</totalSizeInGB></instanceStorageInfo>";
    let all = types(vec![kind("p5.48xlarge", "x86_64", fields), kind("m7i.large", "x86_64", "")]).await;
    let [large, plain] = &all[..] else { panic!("{all:?}") };
    assert_eq!(large.usage, Usage { on_demand: true, spot: false, capacity_block: true });
    assert_eq!((large.bare_metal, large.efa, large.local_disk_gb), (true, 32, 30400));
    assert_eq!(plain.usage, Usage::default());
    assert_eq!((plain.bare_metal, plain.efa, plain.local_disk_gb), (false, 0, 0));
}

#[tokio::test]
async fn types_that_could_not_run_our_images_are_left_out() {
    let roots =
        |root: &str| format!("<supportedRootDeviceTypes><item>{root}</item></supportedRootDeviceTypes>");
    let virtualized =
        |by: &str| format!("<supportedVirtualizationTypes><item>{by}</item></supportedVirtualizationTypes>");
    let all = types(vec![
        kind("mac2.metal", "arm64_mac", ""),
        kind("old.large", "x86_64", &roots("instance-store")),
        kind("t1.micro", "x86_64", &virtualized("paravirtual")),
        kind("m7i.large", "x86_64", &(roots("ebs") + &virtualized("hvm"))),
    ])
    .await;
    let names: Vec<&str> = all.iter().map(|kind| kind.name.as_str()).collect();
    assert_eq!(names, ["m7i.large"]);
}

#[tokio::test]
async fn all_types_and_all_offerings_are_read_page_by_page() {
    let fake = Fake::start(|action, form, _| {
        let page = form.get("NextToken").map_or("1", String::as_str);
        let next = if page == "1" { "<nextToken>2</nextToken>" } else { "<nextToken/>" };
        match action {
            "DescribeInstanceTypes" => {
                let kind = kind(&format!("m{page}.large"), "x86_64", "");
                let body = format!("<instanceTypeSet>{kind}</instanceTypeSet>{next}");
                xml("DescribeInstanceTypesResponse", &body)
            }
            _ => {
                let items: String = ["m1.large", "m2.large"]
                    .map(|name| {
                        format!(
                            "<item><instanceType>{name}</instanceType><locationType>availability-zone</locationType>
                             <location>us-east-1{}</location></item>",
                            if page == "1" { "c" } else { "a" }
                        )
                    })
                    .concat();
                let body = format!("<instanceTypeOfferingSet>{items}</instanceTypeOfferingSet>{next}");
                xml("DescribeInstanceTypeOfferingsResponse", &body)
            }
        }
    })
    .await;
    let ec2 = fake.ec2().await;
    let names: Vec<String> =
        ec2.all_instance_types().await.unwrap().into_iter().map(|kind| kind.name).collect();
    assert_eq!(names, ["m1.large", "m2.large"]);
    let offerings = ec2.all_offerings().await.unwrap();
    assert_eq!(offerings["m1.large"], ["us-east-1a", "us-east-1c"]);
    assert_eq!(offerings.len(), 2);
    let asked = &fake.asked("DescribeInstanceTypes")[1];
    assert_eq!((asked["NextToken"].as_str(), asked["MaxResults"].as_str()), ("2", "100"));
    let asked = &fake.asked("DescribeInstanceTypeOfferings")[0];
    assert_eq!((asked["LocationType"].as_str(), asked["MaxResults"].as_str()), ("availability-zone", "1000"));
    assert!(!asked.contains_key("Filter.1.Name"), "{asked:?}");
}

fn reservation(id: &str, owner: &str, state: &str, fields: &str) -> String {
    format!(
        "<item><capacityReservationId>{id}</capacityReservationId><ownerId>{owner}</ownerId>
         <instanceType>p5.48xlarge</instanceType><instancePlatform>Linux/UNIX</instancePlatform>
         <availabilityZoneId>use1-az1</availabilityZoneId>
         <totalInstanceCount>4</totalInstanceCount><availableInstanceCount>3</availableInstanceCount>
         <state>{state}</state>{fields}</item>"
    )
}

fn reserved(action: &str, form: &Form, items: &[String; 2]) -> (u16, String) {
    let page = usize::from(form.contains_key("NextToken"));
    let next = if page == 0 { "<nextToken>2</nextToken>" } else { "" };
    match action {
        "GetCallerIdentity" => (
            200,
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>111122223333</Account>
             </GetCallerIdentityResult></GetCallerIdentityResponse>"
                .to_owned(),
        ),
        "DescribeSubnets" => xml(
            "DescribeSubnetsResponse",
            "<subnetSet><item><subnetId>subnet-aaaa</subnetId><availabilityZone>us-east-1d</availabilityZone>
             <availabilityZoneId>use1-az1</availabilityZoneId><cidrBlock>10.0.0.0/24</cidrBlock>
             <availableIpAddressCount>9</availableIpAddressCount></item></subnetSet>",
        ),
        "DescribeCapacityReservations" => xml(
            "DescribeCapacityReservationsResponse",
            &format!("<capacityReservationSet>{}</capacityReservationSet>{next}", items[page]),
        ),
        other => panic!("unexpected {other}"),
    }
}

#[tokio::test]
async fn reservations_of_all_states_and_owners_are_read_whole() {
    let zone = "<availabilityZone>us-east-1a</availabilityZone>";
    let block = format!(
        "{zone}<reservationType>capacity-block</reservationType><capacityBlockId>cb-1</capacityBlockId>
         <startDate>2026-12-01T11:30:00Z</startDate><endDate>2026-12-02T11:30:00.000Z</endDate>
         <endDateType>limited</endDateType><instanceMatchCriteria>targeted</instanceMatchCriteria>
         <tagSet><item><key>team</key><value>ml</value></item></tagSet>"
    );
    let shared = "<tenancy>dedicated</tenancy><interruptible>true</interruptible>
         <placementGroupArn>arn:aws:ec2:us-east-1:1:placement-group/ml</placementGroupArn>";
    let items = [
        reservation("cr-open", "111122223333", "active", &format!("{zone}<tenancy>default</tenancy>")),
        reservation("cr-block", "111122223333", "scheduled", &block)
            + &reservation("cr-lent", "444455556666", "cancelling", shared),
    ];
    let fake = Fake::start(move |action, form, _| reserved(action, form, &items)).await;
    let ec2 = fake.ec2().await;
    let all = ec2.reservations().await.unwrap();
    let [open, block, lent] = &all[..] else { panic!("{all:?}") };

    assert_eq!((open.id.as_str(), open.ours, open.kind), ("cr-open", true, ReservationKind::OnDemand));
    assert_eq!((open.state, open.matches), (ReservationState::Active, ReservationMatch::Open));
    assert_eq!((open.total, open.available, open.zone.as_str()), (4, 3, "us-east-1a"));
    assert_eq!((open.platform.as_str(), open.tenancy, open.ends_at), ("Linux/UNIX", Tenancy::Shared, None));

    assert_eq!((block.kind, block.state), (ReservationKind::CapacityBlock, ReservationState::Scheduled));
    assert_eq!((block.block_id.as_deref(), block.matches), (Some("cb-1"), ReservationMatch::Targeted));
    assert_eq!(block.starts_at.unwrap().to_string(), "2026-12-01T11:30:00Z");
    assert_eq!(block.ends_at.unwrap().to_string(), "2026-12-02T11:30:00Z");
    assert_eq!(block.tags["team"], "ml");

    assert_eq!((lent.ours, lent.kind), (false, ReservationKind::Interruptible));
    assert_eq!((lent.state, lent.tenancy), (ReservationState::Over, Tenancy::Dedicated));
    assert_eq!(lent.zone, "us-east-1d", "by the id of the zone, from our own subnets");
    assert!(lent.placement_group_arn.as_ref().unwrap().ends_with("placement-group/ml"));

    let asked = &fake.asked("DescribeCapacityReservations")[0];
    assert_eq!(asked["MaxResults"], "1000");
    assert!(!asked.contains_key("Filter.1.Name"), "{asked:?}");
    ec2.reservations().await.unwrap();
    assert_eq!(fake.asked("GetCallerIdentity").len(), 1, "who we are does not change");
}

#[tokio::test]
async fn every_state_of_a_reservation_is_one_of_three() {
    for (word, state) in [
        ("active", ReservationState::Active),
        ("scheduled", ReservationState::Scheduled),
        ("assessing", ReservationState::Scheduled),
        ("pending", ReservationState::Scheduled),
        ("payment-pending", ReservationState::Scheduled),
        ("delayed", ReservationState::Scheduled),
        ("expired", ReservationState::Over),
        ("cancelled", ReservationState::Over),
        ("cancelling", ReservationState::Over),
        ("failed", ReservationState::Over),
        ("unsupported", ReservationState::Over),
        ("unavailable", ReservationState::Over),
        ("payment-failed", ReservationState::Over),
        ("new-word", ReservationState::Over),
    ] {
        let item = reservation("cr-1", "1", word, "<availabilityZone>us-east-1a</availabilityZone>");
        let fake =
            Fake::start(move |action, form, _| reserved(action, form, &[item.clone(), String::new()])).await;
        assert_eq!(fake.ec2().await.reservations().await.unwrap()[0].state, state, "{word}");
    }
}

#[tokio::test]
async fn blocks_are_read_with_the_reservations_to_launch_into() {
    let fake = Fake::start(|_, form, _| {
        assert_eq!(form["Action"], "DescribeCapacityBlocks");
        let block = |id: &str, state: &str| {
            format!(
                "<item><capacityBlockId>{id}</capacityBlockId><state>{state}</state>
                 <startDate>2026-12-01T11:30:00Z</startDate><endDate>2026-12-02T11:30:00Z</endDate>
                 <capacityReservationIdSet><item>cr-{id}</item></capacityReservationIdSet></item>"
            )
        };
        let all = [("cb-1", "active"), ("cb-2", "scheduled"), ("cb-3", "payment-failed")]
            .map(|(id, state)| block(id, state));
        xml(
            "DescribeCapacityBlocksResponse",
            &format!("<capacityBlockSet>{}</capacityBlockSet>", all.concat()),
        )
    })
    .await;
    let blocks = fake.ec2().await.blocks().await.unwrap();
    let seen: Vec<_> = blocks.iter().map(|block| (block.reservation_ids[0].as_str(), block.state)).collect();
    assert_eq!(
        seen,
        [("cr-cb-1", BlockState::Active), ("cr-cb-2", BlockState::Scheduled), ("cr-cb-3", BlockState::Over)]
    );
    assert_eq!(blocks[0].ends_at.unwrap().to_string(), "2026-12-02T11:30:00Z");
}

#[tokio::test]
async fn of_spot_prices_the_newest_of_a_type_and_zone_counts() {
    let fake = Fake::start(|_, form, _| {
        let price = |zone: &str, price: &str, at: &str| {
            format!(
                "<item><instanceType>g5.xlarge</instanceType><productDescription>Linux/UNIX</productDescription>
                 <spotPrice>{price}</spotPrice><timestamp>2026-11-21T{at}Z</timestamp>
                 <availabilityZone>{zone}</availabilityZone></item>"
            )
        };
        let (items, next) = if form.contains_key("NextToken") {
            (price("us-east-1a", "0.50", "09:00:00.000") + &price("us-east-1b", "none", "10:00:00"), "")
        } else {
            let first = price("us-east-1a", "0.402100", "10:00:00");
            (first + &price("us-east-1b", "0.6", "08:00:00"), "<nextToken>2</nextToken>")
        };
        xml("DescribeSpotPriceHistoryResponse", &format!("<spotPriceHistorySet>{items}</spotPriceHistorySet>{next}"))
    })
    .await;
    let prices = fake.ec2().await.spot_prices().await.unwrap();
    let seen: Vec<String> =
        prices.iter().map(|one| format!("{} {} {}", one.zone, one.price, one.since)).collect();
    assert_eq!(seen, ["us-east-1a 0.4021 2026-11-21T10:00:00Z", "us-east-1b 0.60 2026-11-21T08:00:00Z"]);
    let form = &fake.asked("DescribeSpotPriceHistory")[0];
    assert_eq!(form["ProductDescription.1"], "Linux/UNIX");
    assert_eq!(form["ProductDescription.2"], "Linux/UNIX (Amazon VPC)");
    assert!(form.contains_key("StartTime") && form["MaxResults"] == "1000", "{form:?}");
}

#[tokio::test]
async fn on_demand_prices_are_those_of_the_region_bare_metal_included() {
    let fake = Fake::start(|action, form, _| {
        assert_eq!(action, "GetProducts");
        let product = |name: &str, price: &str| {
            let product = serde_json::json!({
                "product": {"attributes": {"instanceType": name, "regionCode": "us-east-1"}},
                "terms": {"OnDemand": {"A": {"priceDimensions": {"B": {
                    "unit": "Hrs", "pricePerUnit": {"USD": price}}}}}},
            });
            serde_json::Value::String(product.to_string())
        };
        let page = match (form["Filters"].contains("bare metal"), form.contains_key("NextToken")) {
            (false, false) => {
                serde_json::json!({"PriceList": [product("g5.xlarge", "1.0060000000")], "NextToken": "2"})
            }
            (false, true) => serde_json::json!({"PriceList": [product("g5.2xlarge", "1.212")]}),
            (true, _) => serde_json::json!({"PriceList": [product("g4dn.metal", "7.824")], "NextToken": ""}),
        };
        (200, page.to_string())
    })
    .await;
    let prices = fake.ec2().await.on_demand_prices().await.unwrap();
    let seen: Vec<String> = prices.iter().map(|(name, price)| format!("{name} {price}")).collect();
    assert_eq!(seen, ["g4dn.metal 7.824", "g5.2xlarge 1.212", "g5.xlarge 1.006"]);
    let form = &fake.asked("GetProducts")[0];
    assert_eq!((form["ServiceCode"].as_str(), form["MaxResults"].as_str()), (r#""AmazonEC2""#, "100"));
    let filters: Vec<serde_json::Value> = serde_json::from_str(&form["Filters"]).unwrap();
    let mut said: Vec<String> = filters
        .iter()
        .map(|filter| format!("{} {} {}", filter["Type"], filter["Field"], filter["Value"]).replace('"', ""))
        .collect();
    said.sort_unstable();
    insta::assert_snapshot!(said.join("\n"), @r"
    TERM_MATCH capacitystatus Used
    TERM_MATCH marketoption OnDemand
    TERM_MATCH operatingSystem Linux
    TERM_MATCH preInstalledSw NA
    TERM_MATCH regionCode us-east-1
    TERM_MATCH tenancy Shared
    ");
}

#[tokio::test]
async fn a_price_list_without_prices_is_not_an_empty_list() {
    let fake = Fake::start(|_, _, _| (200, r#"{"PriceList":[]}"#.to_owned())).await;
    let refused = fake.ec2().await.on_demand_prices().await.unwrap_err();
    assert_eq!(refused.code(), "NoPrices");
}

#[tokio::test]
async fn half_of_a_market_is_an_error() {
    let fake = Fake::start(|action, form, _| match (action, form.contains_key("NextToken")) {
        (_, true) => error(403, "UnauthorizedOperation", "no"),
        ("DescribeInstanceTypes", _) => {
            xml("DescribeInstanceTypesResponse", "<instanceTypeSet/><nextToken>2</nextToken>")
        }
        ("DescribeCapacityBlocks", _) => {
            xml("DescribeCapacityBlocksResponse", "<capacityBlockSet/><nextToken>2</nextToken>")
        }
        ("DescribeSpotPriceHistory", _) => {
            xml("DescribeSpotPriceHistoryResponse", "<spotPriceHistorySet/><nextToken>2</nextToken>")
        }
        (other, _) => panic!("unexpected {other}"),
    })
    .await;
    let ec2 = fake.ec2().await;
    assert_eq!(ec2.all_instance_types().await.unwrap_err().kind(), "denied");
    assert_eq!(ec2.blocks().await.unwrap_err().kind(), "denied");
    assert_eq!(ec2.spot_prices().await.unwrap_err().kind(), "denied");
}
