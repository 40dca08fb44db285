//! What a candidate does with what it sees, and that two never act at one time.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: LeaderElection = LeaderElection {
    lease_duration: Duration::from_secs(12),
    renew_deadline: Duration::from_secs(8),
    retry_period: Duration::from_secs(2),
};

fn at(seconds: u64) -> Duration {
    SECOND * u32::try_from(seconds).unwrap()
}

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn held(by: &str, renewed: i64) -> Option<Record> {
    Some(Record {
        holder: by.to_owned(),
        duration: Some(at(12)),
        acquired: Some(wall(0)),
        renewed: Some(wall(renewed)),
        transitions: 1,
    })
}

fn elector() -> Elector {
    Elector::new("a", SETTINGS)
}

/// One that leads since `began`.
fn leader(began: u64) -> Elector {
    let mut elector = elector();
    elector.looked(None, at(began));
    let claim = elector.claim(wall(0));
    elector.wrote(claim, at(began));
    elector
}

#[test]
fn nobodys_lease_an_empty_one_and_its_own_are_taken_at_once() {
    assert_eq!(elector().next(at(5)), Step::Read);
    for record in [None, held("", 0), held("a", 0)] {
        let mut elector = elector();
        elector.looked(record.clone(), at(5));
        assert_eq!(elector.next(at(5)), Step::Write, "{record:?}");
    }
}

#[test]
fn anothers_lease_is_waited_out_from_when_it_was_last_seen_to_change() {
    let mut elector = elector();
    // Its times are of a wall clock that is a year ahead: nobody looks at them.
    elector.looked(held("b", 31_536_000), at(100));
    assert_eq!(elector.next(at(100)), Step::Wait(at(112)));
    elector.looked(held("b", 31_536_000), at(109));
    assert_eq!(elector.next(at(109)), Step::Wait(at(112)));
    elector.looked(held("b", 31_536_002), at(110));
    assert_eq!(elector.next(at(110)), Step::Wait(at(122)));
    assert_eq!(elector.next(at(122)), Step::Write);
    assert_eq!(elector.holder(), Some("b"));
}

#[test]
fn the_leases_own_duration_counts_and_not_ours() {
    let mut elector = elector();
    let longer = held("b", 0).map(|record| Record { duration: Some(at(60)), ..record });
    elector.looked(longer, at(0));
    assert_eq!(elector.next(at(13)), Step::Wait(at(60)));
}

#[test]
fn a_lease_that_somebody_removed_is_waited_out_all_the_same() {
    let mut elector = elector();
    elector.looked(held("b", 0), at(100));
    elector.looked(None, at(101));
    assert_eq!(elector.next(at(101)), Step::Wait(at(112)));
    assert_eq!(elector.next(at(112)), Step::Write);
}

#[test]
fn a_leader_renews_and_may_act_from_before_it_asked() {
    let mut leader = leader(100);
    assert_eq!(leader.leads_until(), Some(at(108)));
    assert_eq!(leader.next(at(100)), Step::Wait(at(102)));
    assert_eq!(leader.next(at(102)), Step::Write);
    let claim = leader.claim(wall(2));
    assert_eq!((claim.acquired, claim.renewed, claim.transitions), (Some(wall(0)), Some(wall(2)), 0));
    // Asked at 102, answered at 105.
    leader.wrote(claim, at(102));
    assert_eq!(leader.leads_until(), Some(at(110)));
}

#[test]
fn a_leader_that_cannot_renew_tries_again_and_then_stands_down() {
    let mut leader = leader(100);
    leader.failed(at(102));
    assert_eq!(leader.next(at(102)), Step::Wait(at(103)));
    assert_eq!(leader.next(at(103)), Step::Read);
    leader.looked(Some(leader.claim(wall(0))), at(103));
    assert_eq!(leader.next(at(103)), Step::Write);
    assert_eq!(leader.next(at(108)), Step::StandDown(Lost::Expired(at(8))));
    // Frozen for an hour, it does not even look.
    assert_eq!(leader.next(at(3700)), Step::StandDown(Lost::Expired(at(8))));
}

#[test]
fn a_leader_stands_down_when_anybody_else_has_the_lease_also_by_its_own_name() {
    let mut one = leader(100);
    one.overtaken();
    one.looked(held("b", 3), at(103));
    assert_eq!(one.next(at(103)), Step::StandDown(Lost::Taken("b".to_owned())));
    let mut other = leader(100);
    other.looked(held("a", 3).map(|record| Record { acquired: Some(wall(3)), ..record }), at(103));
    assert_eq!(other.next(at(103)), Step::StandDown(Lost::Taken("a".to_owned())));
}

#[test]
fn transitions_count_holders_and_a_resignation_makes_nobody_wait() {
    let mut elector = elector();
    elector.looked(held("b", 0), at(0));
    assert_eq!(elector.claim(wall(1)).transitions, 2);
    elector.looked(held("a", 0), at(0));
    assert_eq!(elector.claim(wall(1)).transitions, 1);
    let resignation = leader(0).resignation(wall(5));
    assert_eq!((resignation.holder.as_str(), resignation.transitions), ("", 0));
    let mut follower = Elector::new("b", SETTINGS);
    follower.looked(Some(resignation), at(5));
    assert_eq!(follower.next(at(5)), Step::Write);
    assert_eq!(follower.holder(), None);
}

/// A process: its candidate, how far its clock is from that of the others, and what it has under way.
struct Process {
    elector: Elector,
    offset: Duration,
    /// Frozen until this tick.
    frozen: u64,
    under_way: Option<Request>,
    /// The end of its fence, on its own clock.
    fence: Duration,
    version: u64,
}

/// A request on its way: when it arrives, and when its answer does.
struct Request {
    began: Duration,
    arrives: u64,
    answers: u64,
    claim: Option<Record>,
    /// Of the Lease that the claim is written over.
    version: u64,
    /// What the API server made of it, once it arrived.
    outcome: Option<Outcome>,
}

enum Outcome {
    Read(Option<Record>, u64),
    Written(Record, u64),
    Conflict,
}

/// A tick is a quarter of a second.
const TICK: Duration = Duration::from_millis(250);

#[derive(Clone, Debug)]
enum Trouble {
    Freeze { who: usize, ticks: u64 },
    Slow { ticks: u64 },
    Restart { who: usize },
    Resign { who: usize },
}

fn trouble() -> impl Strategy<Value = (u64, Trouble)> {
    let what = prop_oneof![
        (0..3_usize, 1..120_u64).prop_map(|(who, ticks)| Trouble::Freeze { who, ticks }),
        (1..60_u64).prop_map(|ticks| Trouble::Slow { ticks }),
        (0..3_usize).prop_map(|who| Trouble::Restart { who }),
        (0..3_usize).prop_map(|who| Trouble::Resign { who }),
    ];
    (1..500_u64, what)
}

/// The API server's one object: what it is, and its version.
struct Server {
    lease: Option<Record>,
    version: u64,
}

impl Server {
    fn take(&mut self, claim: Option<&Record>, version: u64) -> Outcome {
        match claim {
            None => Outcome::Read(self.lease.clone(), self.version),
            Some(claim) if version == self.version => {
                self.lease = Some(claim.clone());
                self.version += 1;
                Outcome::Written(claim.clone(), self.version)
            }
            Some(_) => Outcome::Conflict,
        }
    }
}

impl Process {
    fn new(index: usize, life: u64, offset: u64) -> Self {
        let identity = if life == 0 { index.to_string() } else { format!("{index}-{life}") };
        Self {
            elector: Elector::new(&identity, SETTINGS),
            offset: at(offset),
            frozen: 0,
            under_way: None,
            fence: Duration::ZERO,
            version: 0,
        }
    }

    fn now(&self, tick: u64) -> Duration {
        self.offset + TICK * u32::try_from(tick).unwrap()
    }

    fn may_act(&self, tick: u64) -> bool {
        self.now(tick) < self.fence
    }

    /// One step of its task; false when it stands down.
    fn step(&mut self, tick: u64, slow: u64, random: u64, lost: &mut Vec<Request>) -> bool {
        let now = self.now(tick);
        if let Some(request) = self.under_way.take_if(|request| request.answers <= tick) {
            match request.outcome {
                Some(Outcome::Read(record, version)) => {
                    self.version = version;
                    self.elector.looked(record, now);
                }
                Some(Outcome::Written(record, version)) => {
                    self.version = version;
                    self.elector.wrote(record, request.began);
                    self.fence = request.began + SETTINGS.renew_deadline;
                }
                Some(Outcome::Conflict) => self.elector.overtaken(),
                None => self.elector.failed(request.began),
            }
        }
        if self.under_way.as_ref().is_some_and(|request| now > request.began + at(3)) {
            // It gives up waiting; what it sent may arrive all the same.
            let late = self.under_way.take().expect("it was there a moment ago");
            self.elector.failed(late.began);
            lost.push(late);
        }
        if self.under_way.is_some() {
            return true;
        }
        let claim = match self.elector.next(now) {
            Step::Wait(_) => return true,
            Step::StandDown(_) => return false,
            Step::Read => None,
            Step::Write => Some(self.elector.claim(wall(i64::try_from(tick).unwrap()))),
        };
        let arrives = tick + random % (1 + slow);
        let answers = arrives + random / 7 % (1 + slow);
        self.under_way =
            Some(Request { began: now, arrives, answers, claim, version: self.version, outcome: None });
        true
    }
}

/// Runs three processes through these troubles; how many may act at each tick.
fn run(troubles: &[(u64, Trouble)], offsets: [u64; 3], seed: u64) -> Vec<usize> {
    let mut server = Server { lease: None, version: 0 };
    let mut all: Vec<_> = (0..3).map(|index| Process::new(index, 0, offsets[index])).collect();
    let (mut random, mut slow_until) = (seed | 1, 0);
    // Requests that nobody waits for any more.
    let mut lost: Vec<Request> = Vec::new();
    let mut acting = Vec::new();
    for tick in 0..700 {
        for (_, trouble) in troubles.iter().filter(|(at, _)| *at == tick) {
            match *trouble {
                Trouble::Freeze { who, ticks } => all[who].frozen = tick + ticks,
                Trouble::Slow { ticks } => slow_until = tick + ticks,
                // A killed process sends no more, and what it sent arrives.
                Trouble::Restart { who } => {
                    let killed = std::mem::replace(&mut all[who], Process::new(who, tick, offsets[who]));
                    lost.extend(killed.under_way);
                }
                Trouble::Resign { who } => {
                    if all[who].may_act(tick) && all[who].frozen <= tick && all[who].under_way.is_none() {
                        all[who].fence = Duration::ZERO;
                        let resignation = all[who].elector.resignation(wall(i64::try_from(tick).unwrap()));
                        drop(server.take(Some(&resignation), all[who].version));
                        all[who] = Process::new(who, tick, offsets[who]);
                    }
                }
            }
        }
        for index in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let process = &mut all[index];
            if let Some(request) =
                process.under_way.as_mut().filter(|it| it.arrives <= tick && it.outcome.is_none())
            {
                request.outcome = Some(server.take(request.claim.as_ref(), request.version));
            }
            let slow = if tick < slow_until { 24 } else { 1 };
            if process.frozen <= tick && !process.step(tick, slow, random >> 33, &mut lost) {
                all[index] = Process::new(index, tick, offsets[index]);
            }
        }
        for request in lost.extract_if(.., |request| request.arrives <= tick && request.outcome.is_none()) {
            drop(server.take(request.claim.as_ref(), request.version));
        }
        // A frozen process counts: its fence is what it will find when it wakes.
        acting.push(all.iter().filter(|process| process.may_act(tick)).count());
    }
    acting
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_never_act_at_one_time_whoever_freezes_dies_or_is_slow(
        troubles in proptest::collection::vec(trouble(), 0..12),
        offsets in [0..100_000_u64, 0..100_000, 0..100_000],
        seed in any::<u64>(),
    ) {
        let acting = run(&troubles, offsets, seed);
        prop_assert!(acting.iter().all(|count| *count <= 1), "{acting:?}");
        // And somebody does, once all is well for long enough.
        prop_assert_eq!(acting.last(), Some(&1));
    }
}
