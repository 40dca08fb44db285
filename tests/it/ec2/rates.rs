//! What the adapter does with many calls at once, and with refusals for rate.

use orca::cloud::Cloud;
use orca::telemetry::CloudCalls;

use super::fake::{self, Fake, config, error, xml};
use super::{instance, launched, reservations, spec};

/// The ids that a call names.
fn ids(form: &fake::Form) -> Vec<&str> {
    form.iter().filter(|(key, _)| key.starts_with("InstanceId.")).map(|(_, value)| value.as_str()).collect()
}

fn terminating(ids: &[&str]) -> (u16, String) {
    let items: String = ids.iter().map(|id| format!("<item><instanceId>{id}</instanceId></item>")).collect();
    xml("TerminateInstancesResponse", &format!("<instancesSet>{items}</instancesSet>"))
}

#[tokio::test]
async fn a_launch_that_was_refused_for_its_rate_is_sent_again_and_the_refusal_is_counted() {
    let fake = Fake::start(|_, _, before| match before {
        0 => error(503, "RequestLimitExceeded", "slow down"),
        _ => launched(),
    })
    .await;
    let calls = CloudCalls::default();
    let ec2 =
        orca::cloud::ec2::Ec2::new(&fake.sdk().await, &config(fake.address), "cluster-1", 36, calls.clone());
    ec2.launch(&spec()).await.unwrap();
    let asked = fake.asked("RunInstances");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1], "the same request, token and all");
    assert_eq!((calls.count("RunInstances", "throttled"), calls.count("RunInstances", "ok")), (1, 1));
}

#[tokio::test]
async fn machines_that_end_together_are_ended_by_one_call() {
    let fake = Fake::start(|_, form, _| terminating(&ids(form))).await;
    let ec2 = fake.ec2().await;
    let wanted: Vec<String> = (0..40).map(|number| format!("i-{number:04}")).collect();
    let ended = futures::future::join_all(wanted.iter().map(|id| ec2.terminate(id))).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let asked = fake.asked("TerminateInstances");
    assert_eq!(asked.len(), 1);
    let mut named = ids(&asked[0]);
    named.sort_unstable();
    assert_eq!(named, wanted);
}

#[tokio::test]
async fn one_unknown_or_protected_machine_does_not_keep_the_others_alive() {
    let fake = Fake::start(|_, form, _| match ids(form)[..] {
        ["i-gone"] => error(400, "InvalidInstanceID.NotFound", "does not exist"),
        ["i-kept"] => error(400, "OperationNotPermitted", "disableApiTermination"),
        [_] => terminating(&ids(form)),
        _ => error(400, "InvalidInstanceID.NotFound", "does not exist"),
    })
    .await;
    let ec2 = fake.ec2().await;
    let ended = futures::future::join_all(["i-1", "i-gone", "i-kept"].map(|id| ec2.terminate(id))).await;
    assert_eq!((&ended[0], &ended[1]), (&Ok(()), &Ok(())));
    assert_eq!(ended[2].as_ref().unwrap_err().code(), "OperationNotPermitted");
}

#[tokio::test]
async fn machines_that_are_read_together_are_read_by_one_call_and_the_unknown_are_none() {
    let fake = Fake::start(|_, form, _| {
        let ids = ids(form);
        if ids.contains(&"i-gone") {
            return error(400, "InvalidInstanceID.NotFound", "does not exist");
        }
        reservations(&ids.iter().map(|id| instance(id, 16, "running")).collect::<String>(), "")
    })
    .await;
    let ec2 = fake.ec2().await;
    let found = futures::future::join_all(["i-1", "i-2"].map(|id| ec2.instance(id))).await;
    assert!(found.iter().all(|one| one.as_ref().unwrap().is_some()));
    assert_eq!(fake.asked("DescribeInstances").len(), 1);
    let found = futures::future::join_all(["i-1", "i-gone"].map(|id| ec2.instance(id))).await;
    assert!(found[0].as_ref().unwrap().is_some());
    assert_eq!(found[1], Ok(None));
}
