//! What holds of every plan in every world.

use proptest::prelude::*;

use super::super::order::stable_hash;
use super::super::{Choice, Planned, Selection, Verdict, plan, usable};
use super::language::{Owned, ZONES};
use crate::capacity::avoid::{self, Attempt};
use crate::capacity::money::MicroUsd;
use crate::capacity::spend::{Budget, Rates};
use crate::capacity::world::{Catalog, Offer, Prices, Source, Usable};
use crate::cloud::{
    CloudError, Gpus, InstanceType, Purchase, Reservation, ReservationKind, ReservationMatch,
    ReservationState, Tenancy, Usage,
};
use crate::pod::ask::Ask;
use crate::pod::wishes::{CapacityType, GpuShare, Preference, ReservationSelector, ReservationWish, Wishes};

/// Of each property: a few hundred find what is wrong in most places, and take a second or two.
const CASES: u32 = 400;
const TYPES: [&str; 8] = [
    "t3.large",
    "m7i.xlarge",
    "m7g.xlarge",
    "g5.xlarge",
    "g5.12xlarge",
    "g6.xlarge",
    "g6f.large",
    "p5.48xlarge",
];
const RESERVATIONS: [&str; 4] = ["cr-0", "cr-1", "cr-2", "cr-3"];

fn a_type() -> impl Strategy<Value = InstanceType> {
    let gpus = (0u32..3, prop::sample::select(vec![1u32, 8]), prop::sample::select(vec!["NVIDIA", "AMD"]));
    let size = (1u32..16, 1u64..64, prop::sample::select(vec!["amd64", "arm64"]));
    (size, prop::option::of(gpus), any::<[bool; 5]>(), 0u32..3).prop_map(
        |((vcpus, gib, arch), gpus, is, efa)| InstanceType {
            name: String::new(),
            vcpus,
            memory_mib: gib << 10,
            arch: arch.to_owned(),
            gpus: gpus.map(|(count, share_of, maker)| Gpus {
                count: if share_of > 1 { 0 } else { count + 1 },
                share_of,
                model: "L4".to_owned(),
                manufacturer: maker.to_owned(),
                memory_mib: 22888,
            }),
            nitro: true,
            bare_metal: is[0] && is[1],
            other_accelerator: is[2] && is[3],
            usage: Usage { on_demand: !(is[0] && is[2]), spot: is[4], capacity_block: true },
            efa,
            local_disk_gb: 0,
        },
    )
}

fn an_offer() -> impl Strategy<Value = (Offer, Option<u64>, Vec<Option<u64>>)> {
    let zones = prop::sample::subsequence(ZONES.to_vec(), 0..=3);
    let price = || prop::option::weighted(0.8, 1u64..3_000_000);
    let learned = prop::option::of((0u64..16_000, 0u64..(64 << 30)));
    (a_type(), zones, learned, price(), prop::collection::vec(price(), 3)).prop_map(
        |(shape, zones, learned, price, spot)| {
            let learned = learned.map(|(cpu_milli, memory_bytes)| Usable { cpu_milli, memory_bytes });
            let zones = zones.into_iter().map(str::to_owned).collect();
            (Offer { shape, zones, learned }, price, spot)
        },
    )
}

fn a_reservation() -> impl Strategy<Value = Reservation> {
    let time = || prop::option::of(0i64..100_000);
    let what = (prop::sample::select(TYPES.to_vec()), 0usize..4, 0u32..4, any::<[bool; 4]>());
    let kinds = [
        ReservationKind::OnDemand,
        ReservationKind::OnDemand,
        ReservationKind::CapacityBlock,
        ReservationKind::Interruptible,
    ];
    let states = [
        ReservationState::Active,
        ReservationState::Active,
        ReservationState::Scheduled,
        ReservationState::Over,
    ];
    let how = (prop::sample::select(kinds.to_vec()), prop::sample::select(states.to_vec()), time(), time());
    (what, how).prop_map(|((name, zone, available, is), (kind, state, starts_at, ends_at))| {
        let at = |second: i64| jiff::Timestamp::from_second(second).unwrap();
        Reservation {
            id: String::new(),
            owner_id: "1".to_owned(),
            ours: is[0],
            kind,
            instance_type: name.to_owned(),
            platform: if is[1] && is[2] { "Windows" } else { "Linux/UNIX" }.to_owned(),
            tenancy: if is[2] && is[3] { Tenancy::Dedicated } else { Tenancy::Shared },
            zone: ZONES.get(zone).copied().unwrap_or("f").to_owned(),
            zone_id: format!("az{}", zone + 1),
            total: 4,
            available,
            state,
            matches: if is[3] { ReservationMatch::Open } else { ReservationMatch::Targeted },
            starts_at: starts_at.map(at),
            ends_at: ends_at.map(at),
            placement_group_arn: None,
            block_id: None,
            tags: [("team".to_owned(), if is[0] { "ml" } else { "web" }.to_owned())].into(),
        }
    })
}

/// A failed call: its code, type, zone and how it was bought.
type Failure = (&'static str, &'static str, &'static str, Purchase);

fn a_failure() -> impl Strategy<Value = Failure> {
    let codes = [
        "InsufficientInstanceCapacity",
        "VcpuLimitExceeded",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientVolumeCapacity",
        "Unsupported",
        "SpotMaxPriceTooLow",
    ];
    let bought = [
        Purchase::OnDemand,
        Purchase::Spot { max_price: None },
        Purchase::Reservation { id: "cr-0".to_owned() },
        Purchase::OpenReservation,
    ];
    let select = prop::sample::select::<&'static str>;
    (
        select(codes.to_vec()),
        select(TYPES.to_vec()),
        select(ZONES.to_vec()),
        prop::sample::select(bought.to_vec()),
    )
}

fn a_world() -> impl Strategy<Value = Owned> {
    let offers = prop::collection::vec(an_offer(), TYPES.len());
    let reservations = prop::collection::vec(a_reservation(), RESERVATIONS.len());
    let failures = prop::collection::vec(a_failure(), 0..4);
    let free = prop::collection::vec(0u32..20, 3);
    let allowed = prop::option::weighted(0.2, prop::sample::subsequence(TYPES.to_vec(), 1..6));
    let left = prop::option::weighted(0.2, 0u64..40_000_000);
    (offers, reservations, failures, free, allowed, left).prop_map(
        |(offers, reservations, failures, free, allowed, left)| {
            let catalog = Catalog { source: Source::Api, ..Catalog::default() };
            let mut owned = Owned::with(catalog, Prices::default());
            for (name, (mut offer, price, spot)) in TYPES.into_iter().zip(offers) {
                offer.shape.name = name.to_owned();
                owned.prices.on_demand.extend(price.map(|price| (name.to_owned(), MicroUsd(price))));
                let spot = ZONES
                    .into_iter()
                    .zip(spot)
                    .filter_map(|(zone, price)| Some((zone.to_owned(), MicroUsd(price?))));
                owned.prices.spot.insert(name.to_owned(), spot.collect());
                owned.catalog.types.insert(name.to_owned(), offer);
            }
            for (id, reservation) in RESERVATIONS.into_iter().zip(reservations) {
                owned.reservations.push(Reservation { id: id.to_owned(), ..reservation });
            }
            for (subnet, free) in owned.subnets.iter_mut().zip(free) {
                subnet.free_addresses = free;
            }
            for (code, name, zone, purchase) in failures {
                let error = CloudError::NoCapacity { code: code.to_owned(), message: String::new() };
                let subnet_id = format!("s-{zone}");
                let attempt = attempt(&purchase, Selection::Cheapest, name, zone, &subnet_id);
                owned.blocked.note(&avoid::of_error(&error, &attempt).avoid.unwrap(), owned.now);
            }
            owned.budget = left.map(|left| Budget { limit: MicroUsd(left), spent: MicroUsd::default() });
            owned.in_flight.insert("cr-1".to_owned(), 1);
            owned.rules.allowed_instance_types =
                allowed.map(|allowed| allowed.into_iter().map(str::to_owned).collect());
            owned
        },
    )
}

fn attempt<'a>(
    purchase: &'a Purchase,
    selection: Selection,
    instance_type: &'a str,
    zone: &'a str,
    subnet_id: &'a str,
) -> Attempt<'a> {
    Attempt { purchase, selection, instance_type, zone, subnet_id, volume_kind: "gp3", placement_group: None }
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let listed = prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::sample::subsequence(TYPES.to_vec(), 1..4).prop_shuffle(),
    ];
    let markets = prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::sample::subsequence(CapacityType::ALL.to_vec(), 1..5).prop_shuffle(),
    ];
    let preference = prop::sample::select(vec![Preference::None, Preference::Prefer, Preference::Required]);
    let ids = prop_oneof![2 => Just(Vec::new()), 1 => prop::sample::subsequence(RESERVATIONS.to_vec(), 1..3)];
    let selector = prop::option::weighted(0.2, prop::sample::select(vec!["ml", "web"]));
    let limit = || prop::option::weighted(0.3, 1u64..3_000_000);
    let other = (any::<bool>(), prop::option::weighted(0.2, 0i64..100_000), 0u32..2, any::<bool>());
    let reservation = (preference, ids, selector);
    (listed, markets, reservation, limit(), limit(), other).prop_map(
        |(listed, markets, (preference, ids, selector), max, max_spot, (shares, runtime, efa, dedicated))| {
            Wishes {
                instance_types: listed.into_iter().map(str::to_owned).collect(),
                capacity_types: markets,
                reservation: ReservationWish {
                    preference,
                    ids: ids.into_iter().map(str::to_owned).collect(),
                    group_arn: None,
                    selector: selector.map(|team| ReservationSelector {
                        owner_id: None,
                        tags: vec![("team".to_owned(), Some(team.to_owned()))],
                    }),
                },
                max_price: max.map(MicroUsd),
                max_spot_price: max_spot.map(MicroUsd),
                gpu_share: if shares { GpuShare::Allowed } else { GpuShare::Whole },
                min_runtime: runtime.map(|seconds| std::time::Duration::from_secs(seconds.unsigned_abs())),
                efa,
                tenancy: if dedicated && shares { Tenancy::Dedicated } else { Tenancy::Shared },
                ..Wishes::default()
            }
        },
    )
}

fn an_ask() -> impl Strategy<Value = Ask> {
    let size = (0u64..16_000, 0u64..(64 << 30), prop_oneof![1 => Just(0u64), 2 => 1u64..4]);
    let arch = prop::option::weighted(0.3, prop::sample::select(vec!["amd64", "arm64"]));
    (size, arch, "[a-z]{4}", wishes()).prop_map(|((cpu_milli, memory_bytes, gpus), arch, uid, wishes)| Ask {
        uid,
        cpu_milli: cpu_milli / 4,
        memory_bytes: memory_bytes / 4,
        gpus,
        gpu_resource: "nvidia.com/gpu".to_owned(),
        arch: arch.map(str::to_owned),
        wishes,
        ..Ask::default()
    })
}

fn whole_gpus(shape: &InstanceType, share: GpuShare) -> u64 {
    let gpus = shape.gpus.as_ref().filter(|gpus| gpus.manufacturer == "NVIDIA");
    gpus.map_or(0, |gpus| match (gpus.share_of, share) {
        (8, GpuShare::Allowed) => 1,
        _ => u64::from(gpus.count),
    })
}

fn check(ask: &Ask, owned: &Owned, planned: &Planned<'_>) -> Result<(), TestCaseError> {
    let is_launch = planned.verdict == Verdict::Launch;
    prop_assert_eq!(is_launch, !planned.choices.is_empty());
    for choice in &planned.choices {
        fits(ask, choice)?;
        is_wished(ask, owned, choice)?;
        is_bought_right(ask, owned, choice)?;
        is_affordable(ask, choice)?;
        is_within_the_budget(owned, choice)?;
        let Choice { offer, subnet, purchase, why, .. } = choice;
        let at = attempt(purchase, why.selection, &offer.shape.name, &subnet.zone, &subnet.id);
        prop_assert_eq!(owned.blocked.until(&at, owned.now), None, "{:?} is avoided", purchase);
    }
    Ok(())
}

fn fits(ask: &Ask, choice: &Choice<'_>) -> Result<(), TestCaseError> {
    let shape = &choice.offer.shape;
    let has = match choice.why.selection {
        Selection::Cheapest => usable(choice.offer),
        Selection::Listed | Selection::Named => {
            Usable { cpu_milli: u64::from(shape.vcpus) * 1000, memory_bytes: shape.memory_mib << 20 }
        }
    };
    prop_assert!(
        has.cpu_milli >= ask.cpu_milli && has.memory_bytes >= ask.memory_bytes,
        "{has:?} of {shape:?}"
    );
    prop_assert!(has.cpu_milli <= u64::from(shape.vcpus) * 1000);
    prop_assert!(has.memory_bytes <= shape.memory_mib << 20);
    prop_assert!(whole_gpus(shape, ask.wishes.gpu_share) >= ask.gpus);
    prop_assert!(shape.efa >= ask.wishes.efa);
    prop_assert!(ask.arch.as_ref().is_none_or(|arch| *arch == shape.arch));
    Ok(())
}

fn is_wished(ask: &Ask, owned: &Owned, choice: &Choice<'_>) -> Result<(), TestCaseError> {
    let name = &choice.offer.shape.name;
    let listed = &ask.wishes.instance_types;
    prop_assert!(listed.is_empty() || listed.contains(name), "{name} is not listed");
    prop_assert!(owned.rules.allows(name) || owned.rules.default_instance_type() == Some(name.as_str()));
    prop_assert!(choice.subnet.free_addresses >= 2);
    prop_assert_eq!(choice.placement.tenancy, ask.wishes.tenancy);
    Ok(())
}

fn is_bought_right(ask: &Ask, owned: &Owned, choice: &Choice<'_>) -> Result<(), TestCaseError> {
    let wish = &ask.wishes.reservation;
    let is_reserved = match &choice.purchase {
        Purchase::OnDemand | Purchase::Spot { .. } => false,
        Purchase::Reservation { .. }
        | Purchase::ReservationGroup { .. }
        | Purchase::OpenReservation
        | Purchase::CapacityBlock { .. }
        | Purchase::Interruptible { .. } => true,
    };
    prop_assert!(is_reserved || wish.preference != Preference::Required, "a required reservation is left");
    let is_spot = matches!(choice.purchase, Purchase::Spot { .. });
    let names_one = !wish.ids.is_empty() || wish.selector.is_some();
    prop_assert!(
        !(is_spot && (names_one || wish.preference == Preference::Required)),
        "spot with a reservation"
    );
    let zones = &choice.offer.zones;
    prop_assert!(choice.purchase.reservation_id().is_some() || zones.contains(&choice.subnet.zone));
    let Some(id) = choice.purchase.reservation_id() else {
        return Ok(());
    };
    let one = owned.reservations.iter().find(|one| one.id == id).unwrap();
    prop_assert_eq!(one.state, ReservationState::Active);
    prop_assert_eq!(&one.instance_type, &choice.offer.shape.name);
    prop_assert_eq!(&one.zone_id, &choice.subnet.zone_id);
    prop_assert_eq!(one.tenancy, ask.wishes.tenancy);
    prop_assert!(one.available > owned.in_flight.get(id).copied().unwrap_or_default());
    let need = ask.wishes.min_runtime.unwrap_or_default();
    prop_assert!(one.ends_at.is_none_or(|end| end >= owned.now + need));
    prop_assert!(
        wish.ids.is_empty()
            || wish.ids.iter().any(|wished| wished == id)
            || one.kind != ReservationKind::OnDemand
    );
    Ok(())
}

fn is_affordable(ask: &Ask, choice: &Choice<'_>) -> Result<(), TestCaseError> {
    let wishes = &ask.wishes;
    let (price, limits) = match &choice.purchase {
        Purchase::CapacityBlock { .. } => return Ok(()),
        Purchase::Spot { max_price } => {
            let limits = [wishes.max_price, wishes.max_spot_price];
            prop_assert_eq!(*max_price, limits.into_iter().flatten().min());
            (choice.price.marginal, limits)
        }
        Purchase::OnDemand
        | Purchase::Reservation { .. }
        | Purchase::ReservationGroup { .. }
        | Purchase::OpenReservation
        | Purchase::Interruptible { .. } => (choice.price.list, [wishes.max_price, None]),
    };
    for limit in limits.into_iter().flatten() {
        prop_assert!(price.is_some_and(|price| price <= limit), "{price:?} with the limit {limit}");
    }
    Ok(())
}

/// What is paid for anyway adds less than a thousandth, and is not counted.
fn is_within_the_budget(owned: &Owned, choice: &Choice<'_>) -> Result<(), TestCaseError> {
    let Some(budget) = owned.budget else { return Ok(()) };
    let rates = Rates { prices: &owned.prices, reservations: &owned.reservations };
    let is_spot = matches!(choice.purchase, Purchase::Spot { .. });
    let price = if is_spot { choice.price.marginal } else { choice.price.list };
    let cost = rates.of_purchase(&choice.purchase, price);
    prop_assert!(cost <= budget.left(), "${cost}, and ${} is left", budget.left());
    Ok(())
}

/// What tells one choice from another.
fn identity(choice: &Choice<'_>) -> (String, String, Purchase) {
    (choice.offer.shape.name.clone(), choice.subnet.id.clone(), choice.purchase.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_plan_keeps_every_promise(owned in a_world(), ask in an_ask()) {
        let planned = plan(&ask, &owned.world());
        check(&ask, &owned, &planned)?;
        let identities: Vec<_> = planned.choices.iter().map(identity).collect();
        let unique: std::collections::BTreeSet<_> = identities.iter().collect();
        prop_assert_eq!(unique.len(), identities.len(), "a choice stands in the plan once");
    }

    #[test]
    fn the_same_world_gives_the_same_plan(owned in a_world(), ask in an_ask()) {
        let mut other = owned.world();
        let mut reversed = owned.reservations.clone();
        reversed.reverse();
        other.reservations = &reversed;
        let (one, two) = (plan(&ask, &owned.world()), plan(&ask, &other));
        prop_assert_eq!(&one, &plan(&ask, &owned.world()));
        prop_assert_eq!(one.choices, two.choices, "the order of reservations does not matter");
    }

    /// Of two choices that differ in price alone the cheaper one comes first, and becoming cheaper never takes a
    /// choice back.
    #[test]
    fn a_lower_price_is_never_worse(owned in a_world(), ask in an_ask(), which in 0usize..8, cut in 2u64..10) {
        let name = TYPES[which];
        let mut cheaper = Owned { prices: owned.prices.clone(), ..owned };
        let world = cheaper.world();
        let before: Vec<_> = plan(&ask, &world).choices.iter().map(identity).collect();
        if let Some(price) = cheaper.prices.on_demand.get_mut(name) {
            price.0 /= cut;
        }
        if let Some(zones) = cheaper.prices.spot.get_mut(name) {
            zones.values_mut().for_each(|price| price.0 /= cut);
        }
        let after: Vec<_> = plan(&ask, &cheaper.world()).choices.iter().map(identity).collect();
        let ahead = |plan: &[(String, String, Purchase)], at: usize| {
            plan[..at].iter().filter(|one| one.0 != name).cloned().collect::<Vec<_>>()
        };
        for (at, one) in before.iter().enumerate().filter(|(_, one)| one.0 == name) {
            let now = after.iter().position(|other| other == one);
            prop_assert!(now.is_some(), "{one:?} is lost");
            let (earlier, later) = (ahead(&before, at), ahead(&after, now.unwrap()));
            prop_assert!(later.iter().all(|other| earlier.contains(other)), "{one:?} fell behind");
        }
    }

    /// Whatever runs out, every promise is kept, no candidate is tried twice, and then the pod waits.
    #[test]
    fn candidates_are_tried_once_until_there_are_none(owned in a_world(), ask in an_ask()) {
        let mut owned = owned;
        for _ in 0..50 {
            let planned = plan(&ask, &owned.world());
            check(&ask, &owned, &planned)?;
            let Some(first) = planned.choices.first() else {
                break;
            };
            let (purchase, selection) = (first.purchase.clone(), first.why.selection);
            let (name, subnet) = (first.offer.shape.name.clone(), first.subnet.clone());
            let error = CloudError::NoCapacity {
                code: "InsufficientInstanceCapacity".to_owned(),
                message: String::new(),
            };
            let at = attempt(&purchase, selection, &name, &subnet.zone, &subnet.id);
            let now = owned.now;
            owned.blocked.note(&avoid::of_error(&error, &at).avoid.unwrap(), now);
        }
        prop_assert!(plan(&ask, &owned.world()).choices.is_empty(), "something was tried again and again");
    }
}

#[test]
fn pods_are_spread_over_what_is_otherwise_equal() {
    let owned = Owned::new();
    let first = |n: u32| {
        let ask = Ask { uid: format!("pod-{n}"), cpu_milli: 1000, ..Ask::default() };
        plan(&ask, &owned.world()).choices[0].subnet.zone.clone()
    };
    let zones: Vec<_> = (0..300).map(first).collect();
    for zone in ZONES {
        let share = zones.iter().filter(|one| *one == zone).count();
        assert!((70..130).contains(&share), "{share} of 300 in {zone}");
    }
    assert_eq!(stable_hash(0xcbf2_9ce4_8422_2325, "orca"), stable_hash(0xcbf2_9ce4_8422_2325, "orca"));
}
