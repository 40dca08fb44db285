//! End-to-end tests: a real control plane, the local cloud, real machines, kubectl.
//!
//! One world for all of them, started and taken down here; a namespace for each test. Tests that disturb the world
//! (a restart of ORCA, a cut tunnel) run afterwards, one at a time.
#![expect(clippy::print_stderr, reason = "a test program tells what went wrong")]

// The world itself: starting it, asking it, taking it down.
mod world;

// What a Pod may ask of its machine, field by field.
mod pods;
// Everything a user does with kubectl on a running pod.
mod kubectl;
// Every way a pod goes, and what is left: nothing.
mod deletion;
// What a machine may not see of other machines' pods.
mod isolation;
// What ORCA refuses, and how it says so.
mod refusals;
// Crashes, cuts and restarts.
mod robustness;
// The endpoint's certificate, signed by the cluster, before an API server that verifies it.
mod certificate;
// The manifests, as an API server sees them.
mod manifests;
// Other people's programs against the local cloud.
mod interop;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Conclusion, Trial};

use world::{Namespace, World};

/// One test: a sentence, and what is done in a namespace of its own.
type Test = (&'static str, fn(&Namespace<'_>) -> anyhow::Result<()>);

/// Tests that run at the same time: each is a machine that boots, on a host of two cores.
const PARALLEL: usize = 5;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&together(), None)).exit_code();
    }
    let world = match World::start() {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("the world could not be started: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    arguments.test_threads.get_or_insert(PARALLEL);
    let first = libtest_mimic::run(&arguments, trials(&together(), Some(&world)));
    arguments.test_threads = Some(1);
    let second = libtest_mimic::run(&arguments, trials(&alone(), Some(&world)));
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
    [
        pods::TESTS,
        kubectl::TESTS,
        deletion::TESTS,
        isolation::TESTS,
        refusals::TESTS,
        manifests::TESTS,
        interop::TESTS,
    ]
    .concat()
}

fn alone() -> Vec<Test> {
    [robustness::TESTS, certificate::TESTS].concat()
}

fn trials(tests: &[Test], world: Option<&Arc<World>>) -> Vec<Trial> {
    let trial = |(name, test): &Test| {
        let (test, world) = (*test, world.cloned());
        Trial::test(*name, move || match &world {
            Some(world) => world.in_namespace(test).map_err(|error| format!("{error:#}").into()),
            None => Ok(()),
        })
    };
    tests.iter().map(trial).collect()
}
