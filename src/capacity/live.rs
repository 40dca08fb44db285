//! What only a running ORCA knows of capacity, as its page `/capacity` shows it and `orca capacity` reads it. Data.
//!
//! Fields are never renamed or taken away. No secret, and nothing of pods, is in here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::avoid::{Class, Family, Scope, family_of};
use super::blocked::{Blocked, Entry};
use super::money::MicroUsd;
use super::world::{Catalog, Usable};
use crate::cloud::{Instance, Lifecycle};
use crate::pod::wishes::CapacityType;

/// One moment of one ORCA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Live {
    /// Name of the virtual node.
    pub node: String,
    pub as_of: Timestamp,
    pub avoided: Vec<Avoided>,
    pub quotas: Vec<Quota>,
    /// Resources of which the node offers no more than this, since pods wait for a quota or the budget.
    pub ceilings: BTreeMap<String, u64>,
    pub learned: Vec<Learned>,
    /// Launches that reservations do not count yet, by reservation id.
    pub in_flight: BTreeMap<String, u32>,
    /// What the machines that run or are being launched add to the bill, in millionths of a US dollar per hour.
    pub hourly_micro_usd: MicroUsd,
    /// `limits.maxHourlyCost`, likewise.
    pub max_hourly_micro_usd: Option<MicroUsd>,
}

/// Something that failed a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Avoided {
    /// Such as `g5.xlarge in us-east-1a, spot`.
    pub what: String,
    /// The same, for programs.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// A class of the table of errors.
    pub class: String,
    /// EC2's word.
    pub code: String,
    /// In a row.
    pub failures: u32,
    pub until: Timestamp,
}

/// A quota of the account, as far as this ORCA's machines and refusals tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// As its name in Service Quotas has it, such as `G and VT`.
    pub family: String,
    /// `on-demand` (reservations count there, too) or `spot`.
    pub market: String,
    /// By this node's machines.
    pub vcpus_in_use: u64,
    /// EC2 said that it is used up, and is not asked before then.
    pub refused_until: Option<Timestamp>,
}

/// What kubelets said a pod can have of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    pub instance_type: String,
    pub cpu_milli: u64,
    pub memory_bytes: u64,
}

impl Learned {
    /// As a plan has it.
    #[must_use]
    pub fn usable(&self) -> Usable {
        Usable { cpu_milli: self.cpu_milli, memory_bytes: self.memory_bytes }
    }
}

/// Everything that is avoided now.
#[must_use]
pub fn avoided(blocked: &Blocked, now: Timestamp) -> Vec<Avoided> {
    let shown = blocked.iter(now).map(|(scope, entry)| Avoided {
        what: scope.to_string(),
        scope: Some(scope.clone()),
        class: entry.class.name().to_owned(),
        code: entry.code.clone(),
        failures: entry.count,
        until: entry.until,
    });
    shown.collect()
}

/// What the running ORCA avoids, for another process that plans as it would.
#[must_use]
pub fn blocked(avoided: &[Avoided]) -> Blocked {
    let known = avoided.iter().filter_map(|one| {
        let class = Class::ALL.into_iter().find(|class| class.name() == one.class)?;
        let entry = Entry::new(class, one.code.clone(), one.until, one.failures);
        Some((one.scope.clone()?, entry))
    });
    known.collect()
}

/// What machines take of quotas, and what EC2 refused.
#[must_use]
pub fn quotas(machines: &[Instance], catalog: &Catalog, blocked: &Blocked, now: Timestamp) -> Vec<Quota> {
    type Key = (Family, &'static str);
    let mut all: BTreeMap<Key, (u64, Option<Timestamp>)> = BTreeMap::new();
    for machine in machines.iter().filter(|one| one.state.may_run()) {
        let market = match machine.bought.lifecycle {
            Lifecycle::OnDemand => CapacityType::OnDemand,
            Lifecycle::Spot => CapacityType::Spot,
            // Paid for and counted otherwise.
            Lifecycle::CapacityBlock | Lifecycle::InterruptibleReservation | Lifecycle::Other => continue,
        };
        let vcpus = catalog.types.get(&machine.instance_type).map_or(0, |offer| offer.shape.vcpus);
        all.entry((family_of(&machine.instance_type), market.name())).or_default().0 += u64::from(vcpus);
    }
    for (scope, entry) in blocked.iter(now) {
        if let Scope::Quota { family, market } = scope {
            all.entry((*family, market.name())).or_default().1 = Some(entry.until);
        }
    }
    let quota = |((family, market), (vcpus_in_use, refused_until)): (Key, _)| Quota {
        family: family.to_string(),
        market: market.to_owned(),
        vcpus_in_use,
        refused_until,
    };
    all.into_iter().map(quota).collect()
}

/// What was learned of types.
#[must_use]
pub fn learned(catalog: &Catalog) -> Vec<Learned> {
    let shown = catalog.types.values().filter_map(|offer| {
        let Usable { cpu_milli, memory_bytes } = offer.learned?;
        Some(Learned { instance_type: offer.shape.name.clone(), cpu_milli, memory_bytes })
    });
    shown.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capacity::avoid::Avoid;
    use crate::capacity::shipped::shipped;
    use crate::cloud::{Bought, InstanceState};

    pub(in crate::capacity) fn mk_instance(
        instance_type: &str,
        lifecycle: Lifecycle,
        state: InstanceState,
    ) -> Instance {
        Instance {
            instance_type: instance_type.to_owned(),
            bought: Bought { lifecycle, ..Bought::default() },
            ..crate::cloud::testing::mk_instance("i-1", state)
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn quotas_are_what_machines_take_and_what_was_refused() {
        let machines = [
            mk_instance("g5.xlarge", Lifecycle::OnDemand, InstanceState::Running),
            mk_instance("g6.2xlarge", Lifecycle::OnDemand, InstanceState::Pending),
            mk_instance("g5.xlarge", Lifecycle::Spot, InstanceState::Running),
            mk_instance("g5.xlarge", Lifecycle::OnDemand, InstanceState::Terminated),
            mk_instance("p5.48xlarge", Lifecycle::CapacityBlock, InstanceState::Running),
        ];
        let mut blocked = Blocked::default();
        let refusal = Avoid {
            scope: Scope::Quota { family: Family::P, market: CapacityType::OnDemand },
            class: Class::Quota,
            code: "VcpuLimitExceeded".to_owned(),
            first: Duration::from_secs(900),
            cap: Duration::from_secs(900),
        };
        blocked.note(&refusal, at(0));
        let shown = |now| {
            let all = quotas(&machines, &shipped().0, &blocked, now).into_iter();
            all.map(|one| (format!("{} {}", one.family, one.market), one.vcpus_in_use, one.refused_until))
                .collect::<Vec<_>>()
        };
        let (gpus, spot) =
            (("G and VT on-demand".to_owned(), 12, None), ("G and VT spot".to_owned(), 4, None));
        assert_eq!(shown(at(1)), [gpus.clone(), spot.clone(), ("P on-demand".to_owned(), 0, Some(at(900)))]);
        assert_eq!(shown(at(900)), [gpus, spot], "what may be asked for again is no refusal");
        let page = serde_json::to_string(&avoided(&blocked, at(1))).unwrap();
        let read: Vec<Avoided> = serde_json::from_str(&page).unwrap();
        assert_eq!(read[0].what, "quota of P, on-demand");
        let again: Blocked = super::blocked(&read);
        assert_eq!(avoided(&again, at(1)), avoided(&blocked, at(1)), "another process avoids the same");
    }

    #[test]
    fn the_page_is_read_back_as_it_was_written_also_by_an_older_reader() {
        let live = Live { node: "burst".to_owned(), ..Live::default() };
        let mut page = serde_json::to_value(&live).unwrap();
        page["something"] = serde_json::json!("new");
        assert_eq!(serde_json::from_value::<Live>(page).unwrap(), live);
    }
}
