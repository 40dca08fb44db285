//! How machines are bought: reservations, types that are not to be had, the spot market, Capacity Blocks.
//!
//! Each test has instance types that no other test uses, so that pools run dry and reservations fill for it alone.

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::robustness::with_configuration;
use crate::world::{CLOUD, Namespace, START, condition, container, eventually, exit_code, http, pod, text};

pub(crate) const TESTS: &[crate::Test] = &[
    ("capacity::a_block_is_waited_for_and_its_pod_asked_to_end_before_ec2_takes_it", block),
    ("capacity::a_reserved_pod_is_in_its_reservation_and_the_next_one_waits_for_room_there", reservation),
    ("capacity::a_dry_first_choice_is_told_and_the_spot_market_asks_before_it_takes", dry_and_spot),
];

pub(crate) const ALONE: &[crate::Test] =
    &[("capacity::the_examples_are_applied_and_get_what_they_ask_for", examples)];

/// ORCA reads reservations every minute, and waits at least for the next such reading.
const NEXT_READING: Duration = Duration::from_secs(90);
/// What ORCA leaves a pod to be gone from a block: `planner::drain_time`.
const DRAIN_MS: u64 = 40 * 60 * 1000;

/// A container that says that it is asked to end, in its log and as the reason of its end.
const TRAPS: &str = "containers: [{name: main, image: 'busybox:stable', command: [sh, -c, \
    'trap \"echo asked to end | tee /dev/termination-log; exit 3\" TERM; echo up; while true; do sleep 0.2; done']}]\n\
    terminationGracePeriodSeconds: 20";

/// A pod that runs until it is asked to end, with annotations of ORCA's.
fn wishing(name: &str, wishes: &[(&str, &str)]) -> Result<String> {
    let keys: Vec<String> =
        wishes.iter().map(|(key, value)| format!("orca.research/{key}: '{value}'")).collect();
    let plain = pod(name, TRAPS);
    let with =
        plain.replacen("metadata: {", &format!("metadata: {{annotations: {{{}}}, ", keys.join(", ")), 1);
    ensure!(with != plain, "no metadata in {plain}");
    Ok(with)
}

/// The condition that says why there is no machine.
fn capacity(pod: &Value) -> Option<&Value> {
    let all = pod["status"]["conditions"].as_array()?;
    all.iter().find(|one| one["type"] == "orca.research/Capacity" && one["status"] == "False")
}

fn annotation<'a>(pod: &'a Value, key: &str) -> &'a str {
    pod["metadata"]["annotations"][format!("orca.research/{key}")].as_str().unwrap_or_default()
}

fn await_ready(ns: &Namespace<'_>, name: &str, deadline: Duration) -> Result<Value> {
    ns.await_pod(name, "to be Ready", deadline, |pod| condition(pod, "Ready") == Some("True"))
}

/// Waits until the pod ended as on a node that is shut down: by its kubelet, which asked its container first.
fn is_asked_to_end(ns: &Namespace<'_>, name: &str, deadline: Duration) -> Result<()> {
    let what = "to be Failed by its kubelet";
    let pod = ns.await_pod(name, what, deadline, |pod| pod["status"]["phase"] == "Failed")?;
    let status = &pod["status"];
    ensure!(condition(&pod, "DisruptionTarget") == Some("True"), "{status}");
    ensure!(condition(&pod, "Ready") == Some("False"), "{status}");
    ensure!(exit_code(&pod, "main") == Some(3), "{status}");
    let last_word = container(&pod, "main").map(|main| main["state"]["terminated"]["message"].clone());
    ensure!(last_word == Some(json!("asked to end\n")), "{status}");
    ns.await_no_instance(Duration::from_secs(60))
}

/// What EC2 says of an instance, as the XML of its own API.
fn described(id: &str) -> Result<String> {
    let form = format!("Action=DescribeInstances&Version=2016-11-15&InstanceId.1={id}");
    let output = Command::new("curl")
        .args(["-sS", "--fail-with-body", "-m", "30", "--aws-sigv4", "aws:amz:us-east-1:ec2"])
        .args(["--user", "test:test", "-d", &form, CLOUD])
        .output()?;
    ensure!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

fn reservation(ns: &Namespace<'_>) -> Result<()> {
    const ID: &str = "cr-0e2e000000000001a";
    let path = format!("/_local/reservations/{ID}");
    let room =
        json!({"instanceType": "r7i.xlarge", "zone": "us-east-1a", "total": 1, "matchCriteria": "targeted"});
    http("PUT", &path, Some(&room))?;
    let wishes = [("capacity-reservation-id", ID)];
    ns.apply(&wishing("first", &wishes)?)?;
    let pod = await_ready(ns, "first", START)?;
    let instance = ns.instance()?;
    let xml = described(instance["id"].as_str().context("id")?)?;
    let said = format!("<capacityReservationId>{ID}</capacityReservationId>");
    ensure!(xml.contains(&said) && xml.contains("<instanceType>r7i.xlarge</instanceType>"), "{xml}");
    for (key, value) in [
        ("instance-id", instance["id"].as_str().context("id")?),
        ("launched-reservation", ID),
        ("launched-capacity-type", "reserved"),
        ("launched-instance-type", "r7i.xlarge"),
        ("launched-zone", "us-east-1a"),
        ("hourly-usd", "0.2646"),
    ] {
        ensure!(annotation(&pod, key) == value, "{key}: {}", pod["metadata"]["annotations"]);
    }
    let reason = annotation(&pod, "selection-reason");
    ensure!(reason.contains("reservation named"), "{reason}");

    ns.apply(&wishing("second", &wishes)?)?;
    let waits = ns.await_pod("second", "to wait for room", START, |pod| capacity(pod).is_some())?;
    ensure!(waits["status"]["phase"] == "Pending", "{}", waits["status"]);
    let told = capacity(&waits).and_then(|one| one["message"].as_str()).unwrap_or_default().to_owned();
    ensure!(told.contains(ID) && told.contains("1 of 1 in use"), "{told}");
    let events = ns.events("second")?;
    ensure!(events.contains("next attempt in") && events.contains(ID), "{events}");
    ensure!(ns.instances()?.len() == 1, "a machine outside the reservation: {:?}", ns.instances()?);

    // Whoever waits is woken by the room that it leaves.
    ns.run(&["delete", "pod", "first", "--wait=false"])?;
    let pod = await_ready(ns, "second", NEXT_READING + START)?;
    ensure!(annotation(&pod, "launched-reservation") == ID, "{}", pod["metadata"]["annotations"]);
    ensure!(described(annotation(&pod, "instance-id"))?.contains(&said));
    http("DELETE", &path, None).map(drop)
}

fn dry_and_spot(ns: &Namespace<'_>) -> Result<()> {
    let dry = |capacity: Value| -> Result<()> {
        for zone in ["a", "b", "c"] {
            let body = json!({"capacity": capacity, "market": "spot"});
            http("PUT", &format!("/_local/pools/us-east-1{zone}/r7i.2xlarge"), Some(&body))?;
        }
        Ok(())
    };
    dry(json!(0))?;
    let wishes =
        [("instance-types", "r7i.2xlarge,c7i.2xlarge"), ("capacity-type", "spot"), ("max-spot-price", "1")];
    ns.apply(&wishing("patient", &wishes)?)?;
    let pod = await_ready(ns, "patient", START)?;
    dry(Value::Null)?;
    ensure!(
        annotation(&pod, "launched-instance-type") == "c7i.2xlarge",
        "{}",
        pod["metadata"]["annotations"]
    );
    let story = ns.run(&["describe", "pod", "patient"])?;
    for zone in ["us-east-1a", "us-east-1b", "us-east-1c"] {
        let refused = format!("r7i.2xlarge in {zone} (spot) is not to be had");
        ensure!(story.contains(&refused), "`{refused}` is missing:\n{story}");
    }
    ensure!(story.contains("InsufficientInstanceCapacity"), "{story}");
    // By their names: kubectl sorts those of one second as it likes, once there are more than a dozen.
    let told =
        ns.run(&["get", "events", "--sort-by=.metadata.name", "-o", "custom-columns=MESSAGE:.message"])?;
    let asked = told.rfind("is not to be had").zip(told.find("launching a c7i.2xlarge"));
    ensure!(
        asked.is_some_and(|(refusal, next)| refusal < next),
        "the second choice comes after the first:\n{told}"
    );
    ensure!(story.contains("(c7i.2xlarge in "), "{story}");

    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    ensure!(described(&id)?.contains("<instanceLifecycle>spot</instanceLifecycle>"));
    let mut log = ns.background(&["logs", "-f", "patient"])?;
    let mut lines = BufReader::new(log.0.stdout.take().context("stdout")?).lines();
    ensure!(lines.next().transpose()?.as_deref() == Some("up"));
    http("POST", &format!("/_local/instances/{id}/interrupt"), Some(&json!({"notice_ms": 110_000})))?;
    let heard = lines.next().transpose()?;
    ensure!(heard.as_deref() == Some("asked to end"), "the container was not asked to end: {heard:?}");
    is_asked_to_end(ns, "patient", START)?;
    let events = ns.events("patient")?;
    ensure!(events.contains(&format!("EC2 takes instance {id} back (terminate)")), "{events}");
    Ok(())
}

fn block(ns: &Namespace<'_>) -> Result<()> {
    const ID: &str = "cr-0e2e000000000002b";
    let path = format!("/_local/reservations/{ID}");
    let block = json!({
        "reservationType": "capacity-block", "instanceType": "trn2.3xlarge", "zone": "us-east-1c", "total": 1,
        "startsInMs": 20_000, "endsInMs": 4 * DRAIN_MS,
    });
    let start = http("PUT", &path, Some(&block))?["startDate"].as_str().context("startDate")?.to_owned();
    ns.apply(&wishing("booked", &[("capacity-block-id", ID)])?)?;
    let waits = ns.await_pod("booked", "to wait for the block", START, |pod| capacity(pod).is_some())?;
    let told = capacity(&waits).and_then(|one| one["message"].as_str()).unwrap_or_default().to_owned();
    // To the second: the local cloud's clock is finer than what EC2 says.
    let begins = format!("begins at {}", start.get(..19).context("a timestamp")?);
    ensure!(told.contains(ID) && told.contains(&begins), "`{told}`, expected `{begins}`");
    ensure!(ns.instances()?.is_empty(), "a machine outside the block: {:?}", ns.instances()?);

    let pod = await_ready(ns, "booked", START)?;
    ensure!(
        annotation(&pod, "launched-capacity-type") == "capacity-block",
        "{}",
        pod["metadata"]["annotations"]
    );
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    let xml = described(&id)?;
    ensure!(xml.contains("<instanceLifecycle>capacity-block</instanceLifecycle>"), "{xml}");
    ensure!(xml.contains(&format!("<capacityReservationId>{ID}</capacityReservationId>")), "{xml}");
    http("PUT", &path, Some(&json!({"endsInMs": DRAIN_MS + 5000})))?;
    is_asked_to_end(ns, "booked", NEXT_READING)?;
    let events = ns.events("booked")?;
    ensure!(events.contains(&format!("CapacityBlockEnding: Capacity Block {ID} ends")), "{events}");
    // Not by EC2, which would not have asked.
    let all = http("GET", "/_local/instances", None)?;
    let ended = all.as_array().into_iter().flatten().find(|one| one["id"] == id.as_str()).cloned();
    ensure!(!format!("{ended:?}").contains("ScheduledStop"), "{ended:?}");
    http("PUT", &path, Some(&json!({"endsInMs": 0}))).map(drop)
}

/// Under the rules of their own configuration, in this world's network.
fn examples(ns: &Namespace<'_>) -> Result<()> {
    let file = |name: &str| {
        let path = format!("{}/examples/capacity/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).context(path)
    };
    let (own, theirs) = (ns.world.log("orca.yaml")?, file("configuration.yaml")?);
    let (before, rest) = own.split_once("instances:\n").context("instances in this world's configuration")?;
    let (_, after) = rest.split_once("guest:\n").context("guest in this world's configuration")?;
    let (_, rules) = theirs.split_once("instances:\n").context("instances in the example")?;
    let config = format!("{before}instances:\n{rules}\nguest:\n{after}");
    let ids = ["cr-0a1b2c3d4e5f60718", "cr-0b1c2d3e4f5061728"];
    let path = |id: &str| format!("/_local/reservations/{id}");
    for (id, zone) in ids.iter().zip(["us-east-1a", "us-east-1b"]) {
        let room =
            json!({"instanceType": "g5.2xlarge", "zone": zone, "total": 1, "matchCriteria": "targeted"});
        http("PUT", &path(id), Some(&room))?;
    }
    let done = with_configuration(ns.world, &config, || {
        // Its objects name their namespace themselves.
        let reservation = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/capacity/reservation.yaml");
        ns.run(&["-n", "", "apply", "-f", reservation])?;
        ns.apply(&file("spot.yaml")?)?;
        ns.apply(&file("template.yaml")?)?;
        eventually("both places to be taken", NEXT_READING, || {
            let all = ns.world.instances(|one| one["tags"]["orca.research/pod-namespace"] == "reserved")?;
            let mut taken: Vec<_> = all
                .iter()
                .filter_map(|one| one["capacity_reservation_id"].as_str().map(str::to_owned))
                .collect();
            taken.sort();
            Ok(if taken == ids && all.len() == 2 { Ok(()) } else { Err(taken) })
        })?;
        let large = ns.await_phase("by-template", "Succeeded")?;
        ensure!(annotation(&large, "launched-instance-type").starts_with("p5"), "{}", large["metadata"]);
        let said = ns.run(&["logs", "by-template"])?;
        ensure!(said == "my GPUs are 0,1,2,3,4,5,6,7\n", "{said}");
        eventually("the Job's pod to run", START, || {
            let ready = ns.run(&["get", "job", "spot", "-o", "jsonpath={.status.ready}"])?;
            Ok(if ready == "1" { Ok(()) } else { Err(ready) })
        })?;
        let all = ns.instances()?;
        let spot: Vec<_> = all.iter().filter(|one| one["lifecycle"] == "spot").collect();
        let kind = spot.first().and_then(|one| one["instance_type"].as_str()).unwrap_or_default();
        ensure!(spot.len() == 1 && ["g5.", "g6."].iter().any(|family| kind.starts_with(family)), "{all:?}");
        ns.run(&["delete", "job", "spot", "--cascade=foreground", "--timeout=150s"])?;
        ns.run(&["delete", "namespace", "reserved", "--timeout=150s"]).map(drop)
    });
    for id in ids {
        http("DELETE", &path(id), None)?;
    }
    done
}
