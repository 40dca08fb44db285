//! The machines of this node, as last seen: one list for all pods, patched with what our own calls answered.
//!
//! A list may be older than an answer (EC2 is eventually consistent), so a machine that was just launched stays
//! although a list lacks it, and one that was just ended does not come back to life.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::capacity::money::MicroUsd;
use crate::clock::after;
use crate::cloud::{Instance, InstanceState, Lifecycle};

/// For so long, an answer of our own counts for more than a list.
const SETTLING: Duration = Duration::from_secs(60);
/// What is terminated is remembered for so long: EC2 forgets about as soon.
const MEMORY: Duration = Duration::from_secs(3600);

/// The machines.
#[derive(Debug)]
pub(super) struct Fleet {
    inner: Mutex<Inner>,
    read: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// UIDs of pods whose launch is being asked for, with what their machines will cost per hour.
    launching: HashMap<String, MicroUsd>,
}

#[derive(Debug)]
struct Entry {
    instance: Instance,
    launched: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// A place within `limits.maxConcurrentInstances` and `limits.maxHourlyCost`, held while a launch is asked for.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    fleet: &'a Fleet,
    uid: String,
}

/// What one more machine takes, and of how much.
#[derive(Clone, Copy)]
pub(super) struct Booking<'a> {
    pub(super) uid: &'a str,
    /// Per hour.
    pub(super) cost: MicroUsd,
    pub(super) machines: u32,
    /// Per hour; `None` sets no bound.
    pub(super) budget: Option<MicroUsd>,
    /// What a machine that is there costs per hour.
    pub(super) price: &'a dyn Fn(&Instance) -> MicroUsd,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Machines,
    Budget,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::default(), read: watch::Sender::new(false) }
    }

    /// Whether a full list was ever read.
    pub(super) fn is_read(&self) -> bool {
        *self.read.borrow()
    }

    /// Whether the list shows that a machine which was in a reservation is gone.
    pub(super) fn frees(&self, list: &[Instance]) -> bool {
        let inner = self.lock();
        let was_in = |one: &Instance| {
            let before = inner.entries.get(&one.id).map(|entry| &entry.instance);
            before.is_some_and(|before| {
                before.state != InstanceState::Terminated && before.bought.reservation_id.is_some()
            })
        };
        list.iter().any(|one| one.state == InstanceState::Terminated && was_in(one))
    }

    /// Takes over a full list; answers the UIDs of pods whose machines changed.
    pub(super) fn replace(&self, list: Vec<Instance>, now: Timestamp) -> HashSet<String> {
        let mut inner = self.lock();
        let mut changed = HashSet::new();
        let mut listed = HashSet::new();
        for instance in list {
            listed.insert(instance.id.clone());
            if inner.put(instance.clone(), now) {
                changed.extend(instance.pod_uid().map(str::to_owned));
            }
        }
        inner.entries.retain(|id, entry| {
            let recent = |at: Option<Timestamp>, limit| at.is_some_and(|at| now < after(at, limit));
            let is_terminated = entry.instance.state == InstanceState::Terminated;
            let kept = listed.contains(id)
                || recent(entry.launched, SETTLING)
                || is_terminated && recent(entry.ended, MEMORY);
            if !kept {
                changed.extend(entry.instance.pod_uid().map(str::to_owned));
            }
            kept
        });
        drop(inner);
        self.read.send_replace(true);
        changed
    }

    /// Takes over what one call answered about one machine.
    pub(super) fn put(&self, instance: Instance, now: Timestamp) {
        self.lock().put(instance, now);
    }

    /// A machine that our call just launched.
    pub(super) fn launched(&self, instance: Instance, now: Timestamp) {
        let mut inner = self.lock();
        let id = instance.id.clone();
        inner.put(instance, now);
        if let Some(entry) = inner.entries.get_mut(&id) {
            entry.launched = Some(now);
        }
    }

    /// The cloud does not know this machine; answers whether that is to be believed.
    pub(super) fn missed(&self, id: &str, now: Timestamp) -> bool {
        let mut inner = self.lock();
        let settling = |entry: &Entry| entry.launched.is_some_and(|at| now < after(at, SETTLING));
        if inner.entries.get(id).is_some_and(settling) {
            return false;
        }
        inner.entries.remove(id);
        true
    }

    /// Our call to end this machine was accepted.
    pub(super) fn ended(&self, id: &str, now: Timestamp) {
        if let Some(entry) = self.lock().entries.get_mut(id)
            && entry.instance.state.may_run()
        {
            entry.instance.state = InstanceState::ShuttingDown;
            entry.ended = Some(now);
        }
    }

    /// The machines of one pod.
    pub(super) fn of(&self, uid: &str) -> Vec<Instance> {
        let inner = self.lock();
        let entries = inner.entries.values().filter(|entry| entry.instance.pod_uid() == Some(uid));
        let mut all: Vec<_> = entries.map(|entry| entry.instance.clone()).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Every machine.
    pub(super) fn all(&self) -> Vec<Instance> {
        self.lock().entries.values().map(|entry| entry.instance.clone()).collect()
    }

    /// UIDs of the pods that have a machine which may run.
    pub(super) fn uids(&self) -> HashSet<String> {
        let inner = self.lock();
        let live = inner.entries.values().filter(|entry| entry.instance.state.may_run());
        live.filter_map(|entry| entry.instance.pod_uid().map(str::to_owned)).collect()
    }

    /// UIDs of the pods that have a machine which may run, or are being given one.
    pub(super) fn claims(&self) -> HashSet<String> {
        let launching = self.lock().launching.keys().cloned().collect::<Vec<_>>();
        self.uids().into_iter().chain(launching).collect()
    }

    /// UIDs of the pods that have a machine in a Capacity Block.
    pub(super) fn uids_in_blocks(&self) -> Vec<String> {
        let inner = self.lock();
        let live = inner.entries.values().map(|entry| &entry.instance).filter(|one| one.state.may_run());
        let in_blocks = live.filter(|one| one.bought.lifecycle == Lifecycle::CapacityBlock);
        in_blocks.filter_map(|one| one.pod_uid().map(str::to_owned)).collect()
    }

    /// Whether a machine is on its way up.
    pub(super) fn is_moving(&self) -> bool {
        self.lock().entries.values().any(|entry| entry.instance.state == InstanceState::Pending)
    }

    /// Machines that may run.
    pub(super) fn size(&self) -> usize {
        self.lock().entries.values().filter(|entry| entry.instance.state.may_run()).count()
    }

    /// What the machines that run or are being asked for cost per hour.
    pub(super) fn hourly(&self, price: &dyn Fn(&Instance) -> MicroUsd) -> MicroUsd {
        self.lock().hourly(price)
    }

    /// A place for one more machine, counted with those that run and those that are being asked for.
    pub(super) fn seat(&self, booking: &Booking<'_>) -> Result<Seat<'_>, Full> {
        let mut inner = self.lock();
        let taken = inner.live().count() + inner.launching.len();
        if taken >= usize::try_from(booking.machines).unwrap_or(usize::MAX) {
            return Err(Full::Machines);
        }
        // What costs nothing passes, however much the rest costs.
        let hourly = |inner: &Inner| MicroUsd(inner.hourly(booking.price).0.saturating_add(booking.cost.0));
        if booking.cost > MicroUsd::default() && booking.budget.is_some_and(|limit| hourly(&inner) > limit) {
            return Err(Full::Budget);
        }
        inner.launching.insert(booking.uid.to_owned(), booking.cost);
        Ok(Seat { fleet: self, uid: booking.uid.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.fleet.lock().launching.remove(&self.uid);
    }
}

impl Inner {
    fn live(&self) -> impl Iterator<Item = &Instance> {
        self.entries.values().map(|entry| &entry.instance).filter(|one| one.state.may_run())
    }

    fn hourly(&self, price: &dyn Fn(&Instance) -> MicroUsd) -> MicroUsd {
        self.live().map(price).chain(self.launching.values().copied()).sum()
    }

    /// Whether anything changed.
    fn put(&mut self, mut instance: Instance, now: Timestamp) -> bool {
        let Some(entry) = self.entries.get_mut(&instance.id) else {
            let ended = (!instance.state.may_run()).then_some(now);
            self.entries.insert(instance.id.clone(), Entry { instance, launched: None, ended });
            return true;
        };
        // An answer that is older than the end that we asked for.
        let settling = entry.ended.is_some_and(|at| now < after(at, SETTLING));
        if instance.state.may_run() && settling {
            return false;
        }
        if !instance.state.may_run() {
            entry.ended = entry.ended.or(Some(now));
            // The first reason is the true one, and addresses go with the end.
            instance.state_reason = entry.instance.state_reason.clone().or(instance.state_reason);
            instance.private_ip = instance.private_ip.or(entry.instance.private_ip);
            instance.pod_ip = instance.pod_ip.or(entry.instance.pod_ip);
        } else {
            entry.ended = None;
        }
        let changed = entry.instance != instance;
        entry.instance = instance;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::testing::mk_instance as mk_bare;
    use crate::cloud::{Bought, StateReason, TAG_POD_UID};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn mk_instance(id: &str, state: InstanceState) -> Instance {
        Instance { tags: [(TAG_POD_UID.to_owned(), format!("u-{id}"))].into(), ..mk_bare(id, state) }
    }

    fn states(fleet: &Fleet, id: &str) -> Vec<InstanceState> {
        fleet.of(&format!("u-{id}")).iter().map(|one| one.state).collect()
    }

    use InstanceState::{Pending, Running, ShuttingDown, Terminated};

    #[test]
    fn a_list_replaces_and_tells_what_changed() {
        let fleet = Fleet::new();
        assert!(!fleet.is_read());
        let list = vec![mk_instance("a", Pending), mk_instance("b", Running)];
        assert_eq!(fleet.replace(list.clone(), at(0)).len(), 2);
        assert!(fleet.is_read() && fleet.is_moving());
        assert_eq!(fleet.replace(list, at(1)).len(), 0);
        let changed = fleet.replace(vec![mk_instance("a", Running)], at(2));
        assert_eq!(changed, HashSet::from(["u-a".to_owned(), "u-b".to_owned()]));
        assert_eq!((states(&fleet, "a"), states(&fleet, "b")), (vec![Running], vec![]));
    }

    #[test]
    fn a_machine_that_leaves_its_reservation_is_noticed_once() {
        let fleet = Fleet::new();
        let reserved = |state| {
            let bought = Bought { reservation_id: Some("cr-1".to_owned()), ..Bought::default() };
            Instance { bought, ..mk_instance("a", state) }
        };
        let seen = [(reserved(Running), false), (reserved(ShuttingDown), false)];
        let gone = [(mk_instance("a", Terminated), true), (mk_instance("a", Terminated), false)];
        for (instance, frees) in seen.into_iter().chain(gone) {
            let list = vec![instance, mk_instance("b", Terminated)];
            assert_eq!(fleet.frees(&list), frees);
            fleet.replace(list, at(0));
        }
    }

    #[test]
    fn a_launch_stays_for_a_minute_although_no_list_has_it() {
        let fleet = Fleet::new();
        fleet.launched(mk_instance("a", Pending), at(0));
        fleet.replace(vec![], at(59));
        assert!(!fleet.missed("a", at(59)));
        assert_eq!(states(&fleet, "a"), [Pending]);
        fleet.replace(vec![], at(60));
        assert!(states(&fleet, "a").is_empty() && fleet.missed("a", at(60)));
    }

    #[test]
    fn an_end_is_believed_for_a_minute_although_a_list_denies_it() {
        let fleet = Fleet::new();
        fleet.replace(vec![mk_instance("a", Running)], at(0));
        fleet.ended("a", at(0));
        fleet.replace(vec![mk_instance("a", Running)], at(59));
        assert_eq!(states(&fleet, "a"), [ShuttingDown]);
        fleet.replace(vec![mk_instance("a", Running)], at(60));
        assert_eq!(states(&fleet, "a"), [Running], "the call had no effect");
    }

    #[test]
    fn the_first_reason_of_an_end_is_kept_for_an_hour() {
        let fleet = Fleet::new();
        let because = |code: &str| {
            let reason = StateReason { code: code.to_owned(), message: String::new() };
            Instance { state_reason: Some(reason), ..mk_instance("a", Terminated) }
        };
        fleet.replace(vec![because("first")], at(0));
        assert_eq!(fleet.replace(vec![because("second")], at(1)).len(), 0, "and it is no news");
        fleet.replace(vec![], at(3599));
        assert_eq!(fleet.of("u-a")[0].state_reason.as_ref().unwrap().code, "first");
        fleet.replace(vec![], at(3600));
        assert!(fleet.of("u-a").is_empty());
    }

    #[test]
    fn seats_count_what_runs_and_what_is_being_launched() {
        let fleet = Fleet::new();
        fleet.replace(vec![mk_instance("a", Running), mk_instance("b", Terminated)], at(0));
        let book = |uid, cost, budget| Booking {
            uid,
            cost: MicroUsd(cost),
            machines: 2,
            budget,
            price: &|_| MicroUsd(30),
        };
        let why = |booking| fleet.seat(&booking).err();
        let seat = fleet.seat(&book("x", 0, None)).unwrap();
        assert_eq!(why(book("y", 0, None)), Some(Full::Machines));
        drop(seat);
        assert_eq!(why(book("y", 0, None)), None);
        // One runs at 30.
        let budget = Some(MicroUsd(100));
        assert_eq!(why(book("y", 70, budget)), None);
        assert_eq!(why(book("y", 71, budget)), Some(Full::Budget));
        assert_eq!(why(book("y", 0, Some(MicroUsd(10)))), None, "what is paid for anyway passes");
        let seat = fleet.seat(&book("x", 40, budget)).unwrap();
        assert_eq!(fleet.hourly(&|_| MicroUsd(30)), MicroUsd(70), "what is being launched counts");
        drop(seat);
        assert_eq!(fleet.hourly(&|_| MicroUsd(30)), MicroUsd(30));
    }
}
