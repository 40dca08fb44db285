//! Plans over a small catalog.

use super::*;
use crate::cloud::runpod::Place;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn mk_offer(id: &str, memory_gb: u32, secure: Option<u64>, community: Option<u64>, level: Level) -> GpuOffer {
    let price = |cents: Option<u64>| cents.map(|cents| MicroUsd(cents * 10_000));
    GpuOffer {
        id: id.to_owned(),
        name: id.to_owned(),
        manufacturer: "Nvidia".to_owned(),
        memory_gb,
        price_secure: price(secure),
        price_community: price(community),
        most_secure: if secure.is_some() { 8 } else { 0 },
        most_community: if community.is_some() { 4 } else { 0 },
        level,
        places: Vec::new(),
        cuda: Vec::new(),
    }
}

fn mk_rules(tiers: &[CloudTier]) -> RunPod {
    RunPod {
        api_key_file: "/key".into(),
        endpoint: String::new(),
        graphql_endpoint: String::new(),
        cloud_types: tiers.to_vec(),
        data_center_ids: Vec::new(),
        allowed_gpus: None,
        allow_secrets_in_env: false,
        registry_auth: BTreeMap::new(),
        min_runway: Duration::ZERO,
        spend_limit: None,
        start_deadline: Duration::from_secs(300),
    }
}

fn mk_market() -> Offers {
    let all = vec![
        mk_offer("NVIDIA L4", 24, Some(44), Some(30), Level::High),
        mk_offer("NVIDIA H100 PCIe", 80, Some(239), Some(199), Level::Low),
        mk_offer("NVIDIA H100 80GB HBM3", 80, Some(299), None, Level::Medium),
        mk_offer("NVIDIA GeForce RTX 4090", 24, Some(44), Some(34), Level::Low),
        mk_offer("NVIDIA B200", 180, Some(599), None, Level::None),
    ];
    let gpus = [(CloudTier::Secure, all.clone()), (CloudTier::Community, all)].into();
    Offers { gpus, as_of: Some(at(0)) }
}

fn mk_ask(gpus: u64) -> Ask {
    Ask { uid: "u-1".to_owned(), gpus, gpu_resource: "nvidia.com/gpu".to_owned(), ..Ask::default() }
}

struct World {
    rules: RunPod,
    market: Offers,
    avoided: Avoided,
    budget: Option<Budget>,
}

impl World {
    fn new(tiers: &[CloudTier]) -> Self {
        Self { rules: mk_rules(tiers), market: mk_market(), avoided: Avoided::default(), budget: None }
    }

    fn plan(&self, ask: &Ask) -> Planned {
        let scene = Scene {
            now: at(10),
            rules: &self.rules,
            market: &self.market,
            avoided: &self.avoided,
            budget: self.budget,
        };
        plan(ask, &scene)
    }

    /// The choices, a line each; or what follows without one.
    fn lines(&self, ask: &Ask) -> Vec<String> {
        let planned = self.plan(ask);
        let price = |price: Option<MicroUsd>| price.map_or_else(|| "?".to_owned(), |price| price.to_string());
        let line =
            |one: &Choice| format!("{} x{} {:?} {}", one.gpu_id, one.count, one.tier, price(one.price));
        match planned.verdict {
            Verdict::Launch => planned.choices.iter().map(line).collect(),
            Verdict::Refuse(rejection) => vec![format!("refused: {rejection}")],
            Verdict::Wait { reason, message, until } => {
                vec![format!(
                    "{reason}: {message}{}",
                    until.map_or_else(String::new, |at| format!(" until {}", at.as_second()))
                )]
            }
        }
    }
}

use CloudTier::{Community, Secure};

#[test]
fn the_operators_tier_comes_first_then_the_price_then_the_stock() {
    let world = World::new(&[Secure, Community]);
    assert_eq!(
        world.lines(&mk_ask(1)),
        [
            "NVIDIA L4 x1 Secure 0.44",
            "NVIDIA GeForce RTX 4090 x1 Secure 0.44",
            "NVIDIA H100 PCIe x1 Secure 2.39",
            "NVIDIA H100 80GB HBM3 x1 Secure 2.99",
            "NVIDIA L4 x1 Community 0.30",
            "NVIDIA GeForce RTX 4090 x1 Community 0.34",
            "NVIDIA H100 PCIe x1 Community 1.99",
        ]
    );
    assert_eq!(World::new(&[Community]).lines(&mk_ask(4))[0], "NVIDIA L4 x4 Community 1.20");
}

#[test]
fn wishes_and_the_operators_rules_take_offers_out() {
    let wish = |change: fn(&mut Ask)| {
        let mut ask = mk_ask(1);
        change(&mut ask);
        ask
    };
    let world = World::new(&[Secure]);
    let h100 = wish(|ask| ask.wishes.gpu_models = vec!["h100".to_owned()]);
    assert_eq!(
        world.lines(&h100),
        ["NVIDIA H100 PCIe x1 Secure 2.39", "NVIDIA H100 80GB HBM3 x1 Secure 2.99"]
    );
    let large = wish(|ask| ask.wishes.gpu_memory_min_mib = Some(40 << 10));
    assert_eq!(world.lines(&large).len(), 2);
    let cheap = wish(|ask| ask.wishes.max_price = Some(MicroUsd(440_000)));
    assert_eq!(world.lines(&cheap).len(), 2);
    let few = World {
        rules: RunPod { allowed_gpus: Some(vec!["NVIDIA H*".to_owned()]), ..mk_rules(&[Secure]) },
        ..World::new(&[Secure])
    };
    assert_eq!(few.lines(&mk_ask(1)).len(), 2);
    let floors = Ask { cpu_milli: 9_500, memory_bytes: 48 << 30, ..mk_ask(2) };
    let choice = &world.plan(&floors).choices[0];
    assert_eq!((choice.min_vcpus_per_gpu, choice.min_memory_per_gpu_gb), (Some(5), Some(26)));
}

#[test]
fn what_can_never_be_is_refused_and_what_time_can_help_waits() {
    let world = World::new(&[Secure]);
    let said = |ask: &Ask| world.lines(ask).remove(0);
    assert!(said(&mk_ask(0)).starts_with("refused: spec.containers[0].resources.limits[nvidia.com/gpu]"));
    assert!(said(&mk_ask(9)).starts_with("refused: spec.containers[0].resources"));
    let arm = Ask { arch: Some("arm64".to_owned()), ..mk_ask(1) };
    assert!(said(&arm).starts_with("refused: spec.nodeSelector"));
    let mut typed = mk_ask(1);
    typed.wishes.instance_types = vec!["g5.xlarge".to_owned()];
    assert!(said(&typed).starts_with("refused: metadata.annotations"));
    let mut b200 = mk_ask(1);
    b200.wishes.gpu_models = vec!["b200".to_owned()];
    assert_eq!(
        said(&b200),
        "NoCapacity: RunPod has no GPU for the pod now: 4 gpu-model (NVIDIA L4), 1 no-stock (NVIDIA B200)"
    );
    let unread = World { market: Offers::default(), ..World::new(&[Secure]) };
    assert_eq!(unread.lines(&mk_ask(1)), ["CloudUnavailable: RunPod's catalog was not read yet"]);
}

#[test]
fn what_had_no_room_is_passed_over_for_a_while() {
    let mut world = World::new(&[Community]);
    let mut ask = mk_ask(1);
    ask.wishes.gpu_models = vec!["l4".to_owned()];
    world.avoided.no_room("NVIDIA L4", Community, at(5));
    assert_eq!(
        world.lines(&ask),
        [
            "NoCapacity: RunPod has no GPU for the pod now: 4 gpu-model (NVIDIA H100 PCIe), 1 avoided (NVIDIA L4) until 185"
        ]
    );
    world.avoided.clear("NVIDIA L4", Community);
    assert_eq!(world.lines(&ask).len(), 1);
    world.avoided.forbidden("NVIDIA L4", Community, at(5));
    assert!(world.lines(&ask)[0].ends_with("until 3605"));
}

#[test]
fn budgets_and_places_bound_what_is_chosen() {
    let mut world = World::new(&[Secure]);
    world.budget = Some(Budget { limit: MicroUsd(3_000_000), spent: MicroUsd(2_500_000) });
    assert_eq!(world.lines(&mk_ask(1)).len(), 2);
    world.budget = Some(Budget { limit: MicroUsd(3_000_000), spent: MicroUsd(3_000_000) });
    assert!(world.lines(&mk_ask(1))[0].starts_with("BudgetExceeded"));
    world.budget = None;
    world.rules.data_center_ids = vec!["EU-RO-1".to_owned()];
    for offer in world.market.gpus.get_mut(&Secure).unwrap() {
        let id = if offer.id == "NVIDIA L4" { "EU-RO-1" } else { "US-TX-3" };
        offer.places = vec![Place { data_center_id: id.to_owned(), level: Level::High }];
    }
    assert_eq!(world.lines(&mk_ask(1)), ["NVIDIA L4 x1 Secure 0.44"]);
}

#[test]
fn a_disk_has_room_for_the_image() {
    assert_eq!(disk_gb(0), 20);
    assert_eq!(disk_gb(100 * GB), 110);
}
