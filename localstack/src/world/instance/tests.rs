use super::*;
use crate::ec2::catalog;
use crate::world::defaults;

pub fn mk_instance(id: &str) -> Instance {
    let estate = defaults::estate();
    let start = Timestamp::UNIX_EPOCH;
    Instance {
        id: id.to_owned(),
        reservation_id: "r-00000000000000001".to_owned(),
        launch_index: 0,
        sequence: 1,
        client_token: None,
        kind: catalog::find("t3.micro").unwrap(),
        image: estate.images[0].clone(),
        subnet: estate.subnets[0].clone(),
        groups: vec![estate.groups[0].id.clone()],
        interface: Interface {
            id: "eni-00000000000000001".to_owned(),
            attachment_id: "eni-attach-00000000000000001".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            description: String::new(),
            delete_on_termination: true,
            primary: Ipv4Addr::new(10, 88, 1, 4),
            secondary: vec![Ipv4Addr::new(10, 88, 1, 5)],
            tags: BTreeMap::new(),
            efa: false,
            efa_only: Vec::new(),
        },
        volumes: Vec::new(),
        leaves: Leaves::default(),
        tags: BTreeMap::new(),
        on_shutdown: OnShutdown::Terminate,
        metadata: Metadata { tokens_required: true, hop_limit: 1 },
        user_data: Vec::new(),
        profile: None,
        features: Features::default(),
        purchase: Purchase::default(),
        launched: start,
        state: State::Pending,
        since: start,
        reason: None,
        transition: String::new(),
        machine: Machine::Waiting,
        machine_since: start,
        power: Power::Button,
        console: String::new(),
        doomed: None,
        history: Vec::new(),
        notices: Notices::default(),
        told: Notices::default(),
        events: Vec::new(),
        reboots: false,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

const TIMING: Timing = Timing {
    transition: Duration::from_secs(2),
    terminated: Duration::from_secs(3600),
    describe_lag: Duration::ZERO,
    shutdown_grace: Duration::from_secs(10),
    spot_notice: Duration::from_secs(120),
};

fn running() -> Instance {
    let mut instance = mk_instance("i-1");
    instance.machine_is(Machine::Up, at(1));
    instance.advance(at(2), &TIMING);
    assert_eq!(instance.state, State::Running);
    instance
}

#[test]
fn it_runs_when_its_machine_is_up_and_the_transition_took_its_time() {
    let mut instance = mk_instance("i-1");
    instance.advance(at(100), &TIMING);
    assert_eq!(instance.state, State::Pending, "no machine yet");
    assert_eq!(instance.job(at(0), &TIMING), Some(Job::Boot));
    instance.machine_is(Machine::Up, at(1));
    instance.advance(at(1), &TIMING);
    assert_eq!(instance.state, State::Pending, "too early");
    instance.advance(at(50), &TIMING);
    assert_eq!((instance.state, instance.since), (State::Running, at(2)));
}

#[test]
fn termination_asks_then_cuts_then_is_over_when_the_machine_is_gone() {
    let mut instance = running();
    instance.end(
        Reason::new("Client.UserInitiatedShutdown"),
        "User initiated".to_owned(),
        Power::Button,
        at(10),
    );
    assert_eq!(instance.job(at(10), &TIMING), Some(Job::ShutDown));
    instance.machine_is(Machine::Halting { until: at(20) }, at(10));
    assert_eq!(instance.job(at(19), &TIMING), None);
    assert_eq!(instance.job(at(20), &TIMING), Some(Job::Destroy));
    instance.advance(at(500), &TIMING);
    assert_eq!(instance.state, State::ShuttingDown, "its machine is still there");
    instance.machine_is(Machine::Gone, at(21));
    instance.advance(at(500), &TIMING);
    assert_eq!((instance.state, instance.since), (State::Terminated, at(21)));
    assert_eq!(instance.addresses().count(), 0);
    assert!(!instance.forgotten(at(3620), &TIMING) && instance.forgotten(at(3621), &TIMING));
}

#[test]
fn poweroff_inside_ends_or_stops_as_the_launch_said() {
    for (on_shutdown, wanted, job) in [
        (OnShutdown::Terminate, State::ShuttingDown, Some(Job::Destroy)),
        (OnShutdown::Stop, State::Stopping, None),
    ] {
        let mut instance = running();
        instance.on_shutdown = on_shutdown;
        instance.powered_off(at(10));
        assert_eq!((instance.state, instance.job(at(10), &TIMING)), (wanted, job));
        assert_eq!(instance.reason.as_ref().unwrap().code, "Client.InstanceInitiatedShutdown");
    }
}

#[test]
fn a_stopped_instance_keeps_its_addresses_and_can_still_be_terminated() {
    let mut instance = running();
    instance.on_shutdown = OnShutdown::Stop;
    instance.powered_off(at(10));
    instance.advance(at(12), &TIMING);
    assert_eq!((instance.state, instance.addresses().count()), (State::Stopped, 2));
    instance.end(Reason::new("Client.UserInitiatedShutdown"), String::new(), Power::Button, at(20));
    assert_eq!(instance.job(at(20), &TIMING), Some(Job::Destroy));
}

#[test]
fn one_that_ends_before_its_boot_began_needs_no_machine() {
    let mut instance = mk_instance("i-1");
    instance.end(Reason::new("Client.UserInitiatedShutdown"), String::new(), Power::Button, at(0));
    assert_eq!(instance.job(at(0), &TIMING), None);
    instance.advance(at(2), &TIMING);
    assert_eq!(instance.state, State::Terminated);
}

#[test]
fn a_machine_that_is_still_booting_is_ended_when_it_is_up() {
    for (power, job) in [(Power::Button, Job::ShutDown), (Power::Cut, Job::Destroy)] {
        let mut instance = mk_instance("i-1");
        instance.machine_is(Machine::Booting, at(0));
        instance.end(Reason::new("Server.InternalError"), String::new(), power, at(1));
        assert_eq!(instance.job(at(1), &TIMING), None);
        instance.machine_is(Machine::Up, at(2));
        assert_eq!(instance.job(at(2), &TIMING), Some(job));
    }
}

#[test]
fn a_machine_that_shuts_down_too_slowly_can_have_its_power_cut() {
    let mut instance = running();
    instance.end(Reason::new("Client.UserInitiatedShutdown"), String::new(), Power::Button, at(10));
    instance.machine_is(Machine::Halting { until: at(20) }, at(10));
    instance.end(Reason::new("Client.UserInitiatedShutdown"), String::new(), Power::Cut, at(11));
    assert_eq!(instance.job(at(11), &TIMING), Some(Job::Destroy));
}

#[test]
fn the_first_reason_stays() {
    let mut instance = running();
    instance.end(Reason::new("Server.SpotInstanceTermination"), String::new(), Power::Button, at(5));
    instance.end(Reason::new("Client.UserInitiatedShutdown"), "User".to_owned(), Power::Button, at(6));
    instance.powered_off(at(7));
    assert_eq!(instance.reason.unwrap().code, "Server.SpotInstanceTermination");
}

#[test]
fn a_launch_that_is_given_up_goes_from_pending_to_terminated_without_a_machine() {
    let mut instance = mk_instance("i-1");
    instance.doomed = Some("Server.InsufficientInstanceCapacity".to_owned());
    assert_eq!(instance.job(at(0), &TIMING), None);
    instance.advance(at(1), &TIMING);
    assert_eq!(instance.state, State::Pending);
    instance.advance(at(9), &TIMING);
    assert_eq!((instance.state, instance.since, instance.machine), (State::Terminated, at(2), Machine::Gone));
    assert_eq!(instance.reason.unwrap().code, "Server.InsufficientInstanceCapacity");
}
