//! A service that refuses everybody: one link tries now and then, the others wait, and its end wakes all of them.

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::super::pool::Pool;
use super::super::side::Side;
use super::super::{Prober, Reach};
use super::*;
use crate::tunnel::Refusal;

/// The service before the machines.
struct Door {
    /// The machines, by their id.
    worlds: Mutex<BTreeMap<String, Arc<World>>>,
    /// What it says to this machine, or to all.
    refused: Mutex<Option<(Refusal, Option<&'static str>)>>,
    /// Who knocked, and when.
    tried: Mutex<Vec<(Instant, String)>>,
}

#[async_trait]
impl Dial for Arc<Door> {
    async fn dial(
        &self,
        machine: &Machine,
        pin: Option<String>,
        purpose: Purpose,
    ) -> Result<Arc<dyn Wire>, TunnelError> {
        let id = machine.instance_id.clone();
        self.tried.lock().unwrap().push((Instant::now(), id.clone()));
        let refused = self.refused.lock().unwrap().clone();
        if let Some((refusal, _)) = refused.filter(|(_, only)| only.is_none_or(|only| only == id)) {
            sleep(Duration::from_millis(50)).await;
            return Err(refusal.into());
        }
        let world = self.worlds.lock().unwrap()[&id].clone();
        world.dial(machine, pin, purpose).await
    }
}

/// Links of several machines behind one door.
struct Street {
    door: Arc<Door>,
    hub: Arc<Hub>,
    began: Instant,
    /// How often a machine is dialed before it has come.
    late: usize,
}

impl Street {
    fn new(refusal: Option<Refusal>) -> Self {
        let refused = Mutex::new(refusal.map(|refusal| (refusal, None)));
        let door = Arc::new(Door { worlds: Mutex::default(), refused, tried: Mutex::default() });
        let hub = mk_hub(&World::new(), Arc::new(Arc::clone(&door)), TunnelKind::Ssm);
        Self { door, hub, began: Instant::now(), late: 0 }
    }

    fn link(&self, number: usize) -> Bench {
        let machine =
            Machine { instance_id: format!("i-{number}"), pod_uid: format!("uid-{number}"), ..mk_machine() };
        let world = World::new();
        // Agents come late, if at all.
        world
            .refusals
            .lock()
            .unwrap()
            .extend((0..self.late).map(|_| TunnelError::NotYet("no agent".to_owned())));
        self.door.worlds.lock().unwrap().insert(machine.instance_id.clone(), Arc::clone(&world));
        Bench::on(&world, &self.hub, machine)
    }

    fn say(&self, refusal: Option<Refusal>) {
        *self.door.refused.lock().unwrap() = refusal.map(|refusal| (refusal, None));
    }

    /// Who knocked since the last time, and in which second.
    fn tried(&self) -> Vec<(u64, String)> {
        let tried = std::mem::take(&mut *self.door.tried.lock().unwrap());
        tried.into_iter().map(|(at, who)| (at.duration_since(self.began).as_secs(), who)).collect()
    }

    fn reach(&self) -> Reach {
        self.hub.sessions.reach().borrow().clone()
    }

    fn gauge(&self) -> i64 {
        let gauge: &Gauge = &self.hub.metrics.wait;
        gauge.get()
    }
}

fn denied() -> Refusal {
    Refusal::Denied("AccessDeniedException: not authorized to perform ssm:StartSession".to_owned())
}

fn away() -> Refusal {
    Refusal::Unavailable("InternalServerError: no message".to_owned())
}

fn is_waiting(bench: &Bench) -> bool {
    error(&bench.link.status().state).starts_with("no machine can be reached: ")
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_to_several_machines_is_tried_by_one_at_a_time_and_ever_more_seldom() {
    let street = Street::new(Some(denied()));
    assert_eq!(street.reach(), Reach::Unknown);
    let links: Vec<Bench> = (0..20).map(|number| street.link(number)).collect();
    sleep(Duration::from_secs(10)).await;
    assert!(street.tried().len() <= 40, "those that were under way");
    let Reach::Fails { reason, message, probe } = street.reach() else { panic!("{:?}", street.reach()) };
    assert_eq!((reason, probe, street.gauge()), ("AccessDenied", Prober::Links, 1));
    assert!(message.starts_with("access denied: AccessDeniedException"), "{message}");
    assert!(links.iter().all(is_waiting), "{:?}", links[7].link.status());

    sleep(Duration::from_secs(20 + 60 + 120 + 240 + 300 * 3 + 30)).await;
    let tried = street.tried();
    let pauses: Vec<u64> = tried.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(tried.len() == 7 && tried[0].0 <= 31, "{tried:?}");
    assert_eq!(pauses, [60, 120, 240, 300, 300, 300]);
    let who: std::collections::BTreeSet<&String> = tried.iter().map(|(_, who)| who).collect();
    assert_eq!(who.len(), 7, "each has its turn: {tried:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_session_that_is_given_wakes_everybody() {
    let street = Street::new(Some(away()));
    let mut links: Vec<Bench> = (0..5).map(|number| street.link(number)).collect();
    sleep(Duration::from_secs(100)).await;
    assert!(matches!(street.reach(), Reach::Fails { reason: "Unavailable", .. }));
    street.say(None);
    let since = Instant::now();
    for bench in &mut links {
        bench.until_waiting_for_the_pod().await;
    }
    // The probe is at most a minute away, and nobody waits for another.
    assert!(since.elapsed() < Duration::from_secs(65), "{:?}", since.elapsed());
    assert_eq!((street.reach(), street.gauge()), (Reach::Works, 0));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_not_taken_stop_everybody_at_once() {
    let street = Street::new(Some(Refusal::Credentials("ExpiredTokenException: expired".to_owned())));
    let one = street.link(1);
    sleep(Duration::from_secs(1)).await;
    let _others: Vec<Bench> = (2..9).map(|number| street.link(number)).collect();
    sleep(Duration::from_secs(25)).await;
    assert_eq!(street.tried(), [(0, "i-1".to_owned())]);
    assert!(matches!(street.reach(), Reach::Fails { reason: "AccessDenied", probe: Prober::Links, .. }));
    assert!(is_waiting(&one));
}

#[tokio::test(start_paused = true)]
async fn machines_that_have_not_come_yet_stop_nobody() {
    let street = Street { late: 200, ..Street::new(None) };
    let _links: Vec<Bench> = (0..5).map(|number| street.link(number)).collect();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(street.reach(), Reach::Works, "the service answers");
    assert!(street.tried().len() > 60);
}

#[tokio::test(start_paused = true)]
async fn one_machine_that_is_refused_lets_the_next_one_show_how_things_are() {
    let street = Street::new(None);
    *street.door.refused.lock().unwrap() = Some((denied(), Some("i-1")));
    let _one = street.link(1);
    sleep(Duration::from_secs(50)).await;
    assert_eq!(street.reach(), Reach::Unknown, "it may pass");
    sleep(Duration::from_secs(20)).await;
    let fails = |probe| matches!(street.reach(), Reach::Fails { probe: now, .. } if now == probe);
    assert!(fails(Prober::NextMachine), "{:?}", street.reach());
    // It comes, waits for its turn, and shows that the others are well.
    let mut two = street.link(2);
    two.until_waiting_for_the_pod().await;
    assert_eq!(street.reach(), Reach::Works);
    // What works for others in between is not held against them.
    sleep(Duration::from_secs(30)).await;
    let mut three = street.link(3);
    three.until_waiting_for_the_pod().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_link_that_tries_the_next_machine_does() {
    let street = Street::new(Some(denied()));
    let links: Vec<Bench> = (0..4).map(|number| street.link(number)).collect();
    sleep(Duration::from_secs(10)).await;
    let probe = || match street.reach() {
        Reach::Fails { probe, .. } => Some(probe),
        Reach::Off | Reach::Unknown | Reach::Works => None,
    };
    assert_eq!(probe(), Some(Prober::Links));
    drop(links);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(probe(), Some(Prober::NextMachine));
    street.say(None);
    street.link(9).until_waiting_for_the_pod().await;
    assert_eq!(probe(), None);
}

#[tokio::test(start_paused = true)]
async fn what_runs_goes_on_and_what_orca_reads_beside_it_waits_while_a_persons_stream_tries() {
    let street = Street::new(None);
    let mut bench = street.link(1);
    bench.until_waiting_for_the_pod().await;
    bench.kubelet_comes(shown).await;
    bench.until(|state| matches!(state, LinkState::Attached { .. })).await;
    street.say(Some(Refusal::Credentials("ExpiredTokenException: expired".to_owned())));
    let side = Side::new(Arc::clone(&bench.link));
    let pool = Pool::new(Arc::clone(&bench.link));
    let text = |result: Result<ByteStream, TunnelError>| match result {
        Ok(_) => "a stream".to_owned(),
        Err(error) => error.to_string(),
    };
    let refused = "credentials are not taken: ExpiredTokenException: expired";
    street.tried();
    assert_eq!(text(side.kubelet(DEADLINE).await), refused);
    assert_eq!(street.tried().len(), 1);
    for _ in 0..10 {
        assert_eq!(text(side.kubelet(DEADLINE).await), refused);
    }
    assert_eq!(street.tried().len(), 0, "it is not asked again before its time");
    assert_eq!(text(pool.stream(DEADLINE).await), refused);
    assert!(!street.tried().is_empty(), "a person learns how it is now");
    sleep(Duration::from_secs(600)).await;
    assert!(matches!(bench.link.status().state, LinkState::Attached { .. }), "what runs goes on");

    street.say(None);
    assert_eq!(text(pool.stream(DEADLINE).await), "a stream");
    assert_eq!(street.reach(), Reach::Works);
    assert_eq!(text(side.kubelet(DEADLINE).await), "a stream");
}

#[tokio::test(start_paused = true)]
async fn a_direct_tunnel_has_nobody_who_could_refuse() {
    let world = World::new();
    let hub = mk_hub(&world, Arc::new(Arc::clone(&world)), TunnelKind::Direct);
    for _ in 0..10 {
        world.refusals.lock().unwrap().push_back(denied().into());
    }
    let _bench = Bench::on(&world, &hub, mk_machine());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*hub.sessions.reach().borrow(), Reach::Off);
}
