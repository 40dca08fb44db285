//! End-to-end tests: a real control plane, the local cloud, real machines, kubectl.
//!
//! One world for all of them, started and taken down here; a namespace for each test. Tests that disturb the world
//! (a restart of ORCA, a lost answer of the cloud) run afterwards, one at a time. How long each took is printed last.
#![expect(clippy::print_stderr, reason = "a test program tells what went wrong")]

// The world itself: starting it, asking it, taking it down.
mod world;

// What a Pod may ask of its machine, field by field.
mod pods;
// Probes of every kind.
mod probes;
// Container logs that outlive their machine.
mod logs;
// Everything a user does with kubectl on a running pod.
mod kubectl;
// Every way a pod goes, and what is left: nothing.
mod deletion;
// Pods without a kubelet, whose streams ORCA speaks itself.
mod streams;
// The sshd that they end in.
#[expect(clippy::unwrap_used, clippy::panic, dead_code, reason = "helpers of other tests")]
#[path = "../it/ssh/server.rs"]
mod sshd;
// What a machine may not see of other machines' pods.
mod isolation;
// What ORCA refuses, and how it says so.
mod refusals;
// Machines that end, hang, reboot or cannot be reached.
mod machines;
// Faults of a machine that pass, or that its kubelet deals with.
mod failures;
// Reservations, Capacity Blocks, the spot market, and types that are not to be had.
mod capacity;
// Crashes and restarts of what all pods share.
mod robustness;
// An orderly end, and what it leaves.
mod shutdown;
// Two replicas, and what happens when the one that acts does not.
mod leader;
// The endpoint's certificate, signed by the cluster, before an API server that verifies it.
mod certificate;
// Numbers: kubectl top, what dashboards read, and an autoscaler.
mod stats;
// The node as the cluster sees it, and its own port.
mod node;
// What the API server has on record at the end.
mod record;
// The manifests, as an API server sees them.
mod manifests;
// Other people's programs against the local cloud.
mod interop;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Conclusion, Trial};

use world::{Namespace, World};

/// One test: a sentence, and what is done in a namespace of its own.
type Test = (&'static str, fn(&Namespace<'_>) -> anyhow::Result<()>);

/// Tests that run at the same time: each is a machine that boots, on a host of two cores.
const PARALLEL: usize = 5;
/// The slowest tests that are named at the end.
const SLOWEST: usize = 10;

/// How long each test took.
type Times = Arc<Mutex<Vec<(Duration, &'static str)>>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if arguments.list {
        let all = [together(), alone()].concat();
        return libtest_mimic::run(&arguments, trials(&all, None, &Times::default())).exit_code();
    }
    let world = match World::start() {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("the world could not be started: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    arguments.test_threads.get_or_insert(PARALLEL);
    let times = Times::default();
    let first = libtest_mimic::run(&arguments, trials(&together(), Some(&world), &times));
    arguments.test_threads = Some(1);
    let second = libtest_mimic::run(&arguments, trials(&alone(), Some(&world), &times));
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner).clone();
    times.sort_unstable_by(|a, b| b.cmp(a));
    for (took, name) in times.iter().take(SLOWEST) {
        eprintln!("{:6.1} s  {name}", took.as_secs_f64());
    }
    let failed = |conclusion: &Conclusion| conclusion.has_failed();
    match world.stop() {
        Ok(()) if !failed(&first) && !failed(&second) => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the world did not end clean: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn together() -> Vec<Test> {
    // The longest first, so that none of them is waited for at the end.
    [
        stats::TESTS,
        failures::TESTS,
        machines::TESTS,
        capacity::TESTS,
        pods::TESTS,
        probes::TESTS,
        logs::TESTS,
        kubectl::TESTS,
        streams::TESTS,
        deletion::TESTS,
        isolation::TESTS,
        refusals::TESTS,
        node::TOGETHER,
        manifests::TESTS,
        interop::TESTS,
    ]
    .concat()
}

fn alone() -> Vec<Test> {
    [
        node::ALONE,
        capacity::ALONE,
        logs::ALONE,
        robustness::TESTS,
        shutdown::TESTS,
        leader::TESTS,
        certificate::TESTS,
        record::TESTS,
    ]
    .concat()
}

fn trials(tests: &[Test], world: Option<&Arc<World>>, times: &Times) -> Vec<Trial> {
    let trial = |(name, test): &Test| {
        let (name, test, world, times) = (*name, *test, world.cloned(), Arc::clone(times));
        Trial::test(name, move || {
            let Some(world) = &world else { return Ok(()) };
            let begin = Instant::now();
            let result = world.in_namespace(test).map_err(|error| format!("{error:#}").into());
            times.lock().unwrap_or_else(PoisonError::into_inner).push((begin.elapsed(), name));
            result
        })
    };
    tests.iter().map(trial).collect()
}
