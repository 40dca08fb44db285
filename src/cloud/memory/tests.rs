//! The cloud in memory keeps the rules of EC2 that hurt.

use super::*;
use crate::capacity::money::MicroUsd;
use crate::cloud::{
    Bought, Image, InstanceState, InstanceType, Lifecycle, Market as _, Purchase, Reservation,
    ReservationKind, ReservationMatch, ReservationState, RootVolume, Tenancy, Usage,
};

fn mk_spec(token: &str, subnet: &str) -> LaunchSpec {
    LaunchSpec {
        token: token.to_owned(),
        instance_type: "g5.xlarge".to_owned(),
        image: Image { id: "ami-1".to_owned(), root_device_name: "/dev/xvda".to_owned() },
        subnet_id: subnet.to_owned(),
        purchase: crate::cloud::Purchase::default(),
        placement: crate::cloud::Placement::default(),
        security_group_ids: vec![],
        instance_profile: None,
        user_data: String::new(),
        root_volume: RootVolume {
            size_gib: 100,
            kind: "gp3".to_owned(),
            iops: None,
            throughput: None,
            encrypted: true,
            kms_key_id: None,
        },
        efa: 0,
        tags: BTreeMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_makes_one_machine_in_its_zone() {
    let cloud = MemoryCloud::new();
    let first = cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap();
    assert_eq!(cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap().id, first.id);
    let other = LaunchSpec { user_data: "x".to_owned(), ..mk_spec("t", "subnet-a") };
    assert_eq!(cloud.launch(&other).await.unwrap_err().kind(), "token_mismatch");
    assert_ne!(cloud.launch(&mk_spec("t", "subnet-b")).await.unwrap().id, first.id);
    cloud.end(&first.id, "Server.InternalError");
    assert_eq!(cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap_err().kind(), "token_spent");
}

#[tokio::test(start_paused = true)]
async fn a_failed_launch_binds_its_token_too() {
    let cloud = MemoryCloud::new();
    cloud.dry_pool("g5.xlarge", "zone-a");
    assert_eq!(cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap_err().kind(), "no_capacity");
    let other = LaunchSpec { instance_type: "t3.large".to_owned(), ..mk_spec("t", "subnet-a") };
    assert_eq!(cloud.launch(&other).await.unwrap_err().kind(), "token_mismatch");
    cloud.refill_pool("g5.xlarge", "zone-a");
    cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn machines_are_shown_late_and_change_in_time() {
    let cloud = MemoryCloud::new();
    let id = cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap().id;
    assert_eq!(cloud.instance(&id).await, Ok(None));
    assert_eq!(cloud.terminate(&id).await.unwrap_err().kind(), "not_found");
    assert_eq!(cloud.alive().len(), 1, "what is not shown cannot be ended");
    let state = async |after: u64| {
        tokio::time::sleep(Duration::from_secs(after)).await;
        cloud.instance(&id).await.unwrap().map(|one| one.state)
    };
    assert_eq!(state(2).await, Some(InstanceState::Pending));
    assert_eq!(state(3).await, Some(InstanceState::Running));
    cloud.terminate(&id).await.unwrap();
    assert_eq!(state(0).await, Some(InstanceState::ShuttingDown));
    assert_eq!(state(5).await, Some(InstanceState::Terminated));
    assert_eq!(state(3600).await, None);
    assert_eq!(cloud.subnets().await.unwrap()[0].free_addresses, 1019);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_a_machine_all_the_same() {
    let cloud = MemoryCloud::new();
    cloud.drop_next_answer();
    assert_eq!(cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap_err().kind(), "transient");
    cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap();
    assert_eq!(cloud.alive().len(), 1);
}
fn mk_reservation(id: &str, kind: ReservationKind) -> Reservation {
    Reservation {
        id: id.to_owned(),
        owner_id: "1".to_owned(),
        ours: true,
        kind,
        instance_type: "g5.xlarge".to_owned(),
        platform: "Linux/UNIX".to_owned(),
        tenancy: Tenancy::Shared,
        zone: "zone-a".to_owned(),
        zone_id: "z-a".to_owned(),
        total: 1,
        available: 1,
        state: ReservationState::Active,
        matches: ReservationMatch::Open,
        starts_at: None,
        ends_at: None,
        placement_group_arn: None,
        block_id: None,
        tags: BTreeMap::new(),
    }
}

/// Launches in the reservation's zone, each time with a token of its own.
async fn launch(cloud: &MemoryCloud, purchase: Purchase) -> Result<Instance, CloudError> {
    let token = format!("t-{}", cloud.sent().len());
    cloud.launch(&LaunchSpec { purchase, ..mk_spec(&token, "subnet-a") }).await
}

fn code(answer: Result<Instance, CloudError>) -> String {
    answer.unwrap_err().code().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_counted_down_and_freed() {
    let cloud = MemoryCloud::new();
    cloud.set_reservation(mk_reservation("cr-1", ReservationKind::OnDemand));
    cloud.dry_pool("g5.xlarge", "zone-a");
    let wish = || Purchase::Reservation { id: "cr-1".to_owned() };
    let machine = launch(&cloud, wish()).await.unwrap();
    assert_eq!(machine.bought.reservation_id.as_deref(), Some("cr-1"));
    assert_eq!(cloud.reservations().await.unwrap()[0].available, 0);
    assert_eq!(code(launch(&cloud, wish()).await), "ReservationCapacityExceeded");
    assert_eq!(code(launch(&cloud, Purchase::OpenReservation).await), "ReservationCapacityExceeded");
    cloud.end(&machine.id, "Client.UserInitiatedShutdown");
    assert_eq!(cloud.reservations().await.unwrap()[0].available, 1);
    launch(&cloud, Purchase::OpenReservation).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_is_not_used() {
    let cloud = MemoryCloud::new();
    cloud.set_reservation(mk_reservation("cr-1", ReservationKind::OnDemand));
    assert_eq!(launch(&cloud, Purchase::OnDemand).await.unwrap().bought, Bought::default());
    assert_eq!(cloud.reservations().await.unwrap()[0].available, 1);
    assert_eq!(
        code(launch(&cloud, Purchase::CapacityBlock { id: "cr-1".to_owned() }).await),
        "InvalidParameterValue"
    );
    assert_eq!(
        code(launch(&cloud, Purchase::Reservation { id: "cr-2".to_owned() }).await),
        "InvalidCapacityReservationId.NotFound"
    );
    let other_zone = LaunchSpec {
        purchase: Purchase::Reservation { id: "cr-1".to_owned() },
        ..mk_spec("elsewhere", "subnet-b")
    };
    assert_eq!(code(cloud.launch(&other_zone).await), "ReservationCapacityExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_group_has_what_its_reservations_have() {
    let cloud = MemoryCloud::new();
    cloud.set_reservation(mk_reservation("cr-1", ReservationKind::OnDemand));
    cloud.set_group("arn:g", &["cr-gone", "cr-1"]);
    let wish = || Purchase::ReservationGroup { arn: "arn:g".to_owned() };
    assert_eq!(launch(&cloud, wish()).await.unwrap().bought.reservation_id.as_deref(), Some("cr-1"));
    assert_eq!(code(launch(&cloud, wish()).await), "ReservationCapacityExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_block_begins_and_ends_by_the_clock() {
    let cloud = MemoryCloud::new();
    let now = clock::now();
    cloud.set_reservation(Reservation {
        state: ReservationState::Scheduled,
        starts_at: Some(now + Duration::from_secs(60)),
        ends_at: Some(now + Duration::from_secs(120)),
        block_id: Some("cb-1".to_owned()),
        ..mk_reservation("cr-1", ReservationKind::CapacityBlock)
    });
    let wish = || Purchase::CapacityBlock { id: "cr-1".to_owned() };
    assert_eq!(code(launch(&cloud, wish()).await), "InvalidCapacityReservationState.PendingActivation");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let machine = launch(&cloud, wish()).await.unwrap();
    assert_eq!(machine.bought.lifecycle, Lifecycle::CapacityBlock);
    assert_eq!(machine.bought.block_id.as_deref(), Some("cb-1"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cloud.reservations().await.unwrap()[0].state, ReservationState::Over);
    assert_eq!(code(launch(&cloud, wish()).await), "ReservationCapacityExceeded");
}

#[tokio::test(start_paused = true)]
async fn spot_has_a_pool_and_a_price_of_its_own() {
    let cloud = MemoryCloud::new();
    cloud.set_spot_price("g5.xlarge", "zone-a", MicroUsd(500_000));
    let at_most = |micro| Purchase::Spot { max_price: Some(MicroUsd(micro)) };
    assert_eq!(code(launch(&cloud, at_most(499_999)).await), "SpotMaxPriceTooLow");
    assert_eq!(launch(&cloud, at_most(500_000)).await.unwrap().bought.lifecycle, Lifecycle::Spot);
    cloud.dry_one(Pool::Spot, "g5.xlarge", "zone-a");
    let any = Purchase::Spot { max_price: None };
    assert_eq!(code(launch(&cloud, any.clone()).await), "InsufficientInstanceCapacity");
    launch(&cloud, Purchase::OnDemand).await.unwrap();
    cloud.set_types(vec![InstanceType {
        name: "g5.xlarge".to_owned(),
        usage: Usage { on_demand: true, spot: false, capacity_block: true },
        ..InstanceType::default()
    }]);
    assert_eq!(code(launch(&cloud, any).await), "UnsupportedOperation");
}

#[tokio::test(start_paused = true)]
async fn a_type_is_launched_only_where_it_is_offered() {
    let cloud = MemoryCloud::new();
    cloud.set_zones("g5.xlarge", &["zone-b"]);
    assert_eq!(cloud.all_offerings().await.unwrap()["g5.xlarge"], ["zone-b"]);
    assert_eq!(cloud.all_offerings().await.unwrap()["t3.large"], ["zone-a", "zone-b"]);
    assert_eq!(code(launch(&cloud, Purchase::OnDemand).await), "Unsupported");
}

#[tokio::test(start_paused = true)]
async fn what_a_machine_leaves_is_free_once_it_is_terminated_and_can_be_deleted_then() {
    let cloud = MemoryCloud::new();
    let ids = async |kind| -> Vec<String> {
        cloud.leftovers(kind).await.unwrap().into_iter().map(|one| one.id).collect()
    };
    let tidy = cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap().id;
    let careless = cloud.launch(&mk_spec("u", "subnet-a")).await.unwrap().id;
    cloud.leave(&careless);
    let (volume, interface) = ("vol-00000002", "eni-00000002");
    for (kind, id) in LeftoverKind::ALL.into_iter().zip([volume, interface]) {
        assert_eq!(ids(kind).await, Vec::<String>::new());
        assert_eq!(cloud.discard(kind, id).await.unwrap_err().kind(), "invalid", "its machine has it");
    }
    for machine in [tidy, careless] {
        cloud.end(&machine, "Server.InternalError");
    }
    tokio::time::sleep(Timing::default().shutdown).await;
    for (kind, id) in LeftoverKind::ALL.into_iter().zip([volume, interface]) {
        assert_eq!(ids(kind).await, [id]);
        assert_eq!(cloud.discard(kind, id).await, Ok(()));
        assert_eq!(cloud.discard(kind, id).await, Ok(()), "it is gone already");
        assert_eq!(ids(kind).await, Vec::<String>::new());
    }
}
