//! Each column can fail.

use serde_json::{Value, json};

use jiff::{SignedDuration, Timestamp};

use super::check::records::{EXIT, instances, pods};
use super::check::{Column, Report, Runs, Terms, judge};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A line of the audit log: what a pod was answered as.
fn line(second: i64, version: u64, change: &Value) -> String {
    let mut pod = json!({
        "metadata": {"uid": "u", "name": "a", "namespace": "ns", "annotations": {EXIT: "3"},
                     "creationTimestamp": at(0).to_string(), "resourceVersion": version.to_string()},
        "spec": {},
        "status": {"phase": "Pending"},
    });
    merge(&mut pod, change);
    entry(second, &json!({"objectRef": {"resource": "pods"}, "responseObject": pod}))
}

fn entry(second: i64, more: &Value) -> String {
    let mut entry = json!({
        "stage": "ResponseComplete", "stageTimestamp": at(second).to_string(), "responseStatus": {"code": 200},
    });
    merge(&mut entry, more);
    entry.to_string()
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn ended(phase: &str, code: i64) -> Value {
    let statuses = json!([{"name": "main", "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]);
    json!({"status": {"phase": phase, "containerStatuses": statuses}})
}

fn removal() -> Value {
    json!({"metadata": {"deletionTimestamp": "2027-01-15T08:00:00Z", "deletionGracePeriodSeconds": 0}})
}

/// Bound at 1, ended with 3 at 20, removed at 30.
fn good() -> Vec<String> {
    let mut last = ended("Failed", 3);
    merge(&mut last, &removal());
    vec![
        line(0, 1, &json!({})),
        entry(1, &json!({"objectRef": {"subresource": "binding", "namespace": "ns", "name": "a"}})),
        line(10, 2, &json!({"status": {"phase": "Running"}})),
        line(20, 3, &ended("Failed", 3)),
        line(30, 4, &last),
    ]
}

fn machine(launched: i64, end: Option<(i64, &str)>) -> Value {
    let step = |state: &str, second: i64| json!({"state": state, "at": at(second).to_string()});
    let mut history = vec![step("running", launched + 1)];
    history.extend(end.map(|(second, _)| step("shutting-down", second)));
    json!({
        "id": format!("i-{launched}"), "instance_type": "m7i.large", "launched_at": at(launched).to_string(),
        "tags": {"orca.research/pod-uid": "u"}, "history": history,
        "reason": end.map(|(_, code)| json!({"code": code})),
    })
}

const ASKED: &str = "Client.UserInitiatedShutdown";

fn report(lines: &[String], machines: &[Value]) -> Report {
    // It is there in the end, unless it is known to have been removed.
    report_with(lines, machines, &json!([{"metadata": {"uid": "u"}}]))
}

fn report_with(lines: &[String], machines: &[Value], left: &Value) -> Report {
    report_where(Runs::Truly, lines, machines, left)
}

fn report_where(runs: Runs, lines: &[String], machines: &[Value], left: &Value) -> Report {
    let terms = Terms {
        calm: at(100),
        end: at(200),
        overhead: SignedDuration::from_secs(10),
        runs,
        dollars: [("m7i.large".to_owned(), 3600.0)].into(),
    };
    let instances = instances(&json!(machines)).unwrap();
    judge(&pods(lines.iter().map(String::as_str), left), &instances, &terms)
}

fn columns(lines: &[String], machines: &[Value]) -> Vec<(Column, f64)> {
    let report = report(lines, machines);
    let all = Column::ALL.into_iter().map(|column| (column, report.count(column)));
    all.filter(|(_, count)| *count > 0.0).collect()
}

#[test]
fn a_good_life_has_nothing_in_any_column() {
    let report = report(&good(), &[machine(2, Some((25, ASKED)))]);
    assert_eq!(report.findings, []);
    assert_eq!((report.pods, report.exits, report.instances, report.replaced), (1, 1, 1, 0));
    assert_eq!((report.outlived, report.dollars), (vec![5.0], 23.0));
}

#[test]
fn an_instance_that_never_ends_is_an_orphan_and_is_billed() {
    let found = columns(&good(), &[machine(2, None)]);
    // From the pod's end at 20, and the 10 that are allowed, to 200.
    assert_eq!(found, [(Column::Orphan, 1.0), (Column::Billed, 170.0)]);
}

#[test]
fn two_instances_of_one_pod_at_one_time_are_a_double_launch() {
    let found = columns(&good(), &[machine(2, Some((15, ASKED))), machine(14, Some((25, ASKED)))]);
    assert_eq!(found, [(Column::Double, 1.0)]);
    let after = report(&good(), &[machine(2, Some((14, ASKED))), machine(14, Some((25, ASKED)))]);
    assert_eq!((after.findings.len(), after.replaced), (0, 1));
}

#[test]
fn another_exit_code_and_none_at_all_are_found() {
    let machines = [machine(2, Some((25, ASKED)))];
    for wrong in [ended("Failed", 137), json!({"status": {"phase": "Failed"}}), ended("Succeeded", 3)] {
        let mut lines = good();
        lines[3] = line(20, 3, &wrong);
        lines.remove(4);
        let mut last = wrong.clone();
        merge(&mut last, &removal());
        lines.push(line(30, 4, &last));
        assert_eq!(columns(&lines, &machines), [(Column::Exit, 1.0)], "{wrong}");
        // Unless the cloud took its machine.
        let taken = report(&lines, &[machine(2, Some((19, "Server.InternalError")))]);
        assert_eq!((taken.findings.len(), taken.excused), (0, 1), "{wrong}");
    }
}

#[test]
fn a_pod_that_was_to_run_on_may_not_end() {
    let lines: Vec<String> = good().iter().map(|line| line.replace(r#""chaos/exit":"3""#, "")).collect();
    assert_eq!(columns(&lines, &[machine(2, Some((25, ASKED)))]), [(Column::Exit, 1.0)]);
}

#[test]
fn a_terminal_phase_or_exit_code_that_changes_is_found() {
    let machines = [machine(2, Some((25, ASKED)))];
    for later in [json!({"status": {"phase": "Running"}}), ended("Succeeded", 3), ended("Failed", 137)] {
        let mut lines = good();
        lines.insert(4, line(22, 3, &later));
        assert_eq!(columns(&lines, &machines), [(Column::Changed, 1.0)], "{later}");
    }
}

#[test]
fn a_container_that_was_started_again_is_found() {
    let mut lines = good();
    let again =
        json!({"status": {"phase": "Running", "containerStatuses": [{"name": "main", "restartCount": 1}]}});
    lines[2] = line(10, 2, &again);
    assert_eq!(columns(&lines, &[machine(2, Some((25, ASKED)))]), [(Column::Restart, 1.0)]);
}

#[test]
fn a_pod_that_waits_after_the_storm_or_never_goes_is_stuck() {
    let mut lines = good();
    lines.truncate(3);
    // Running is no end for one that should have ended, and nobody ever removed it.
    assert_eq!(columns(&lines, &[machine(2, Some((25, ASKED)))]), [(Column::Stuck, 2.0)]);
    let mut slow = removal();
    slow["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    lines.push(line(50, 3, &slow));
    lines.push(line(150, 4, &removal()));
    assert_eq!(columns(&lines, &[machine(2, Some((25, ASKED)))]), [(Column::Stuck, 1.0)]);
}

#[test]
fn where_nothing_runs_a_pod_may_wait_but_must_go() {
    let mut lines = good();
    lines.truncate(2);
    let machines = [machine(2, Some((25, ASKED)))];
    let stuck = |left: &Value| report_where(Runs::Never, &lines, &machines, left).count(Column::Stuck);
    assert_eq!(stuck(&json!([{"metadata": {"uid": "u"}}])), 1.0);
    assert_eq!(stuck(&json!([])), 0.0);
}

#[test]
fn what_an_instance_costs_outside_its_pods_life_is_counted() {
    // Launched a second before the pod was bound, and ended 7 s later than allowed.
    let found = columns(&good(), &[machine(0, Some((37, ASKED)))]);
    assert_eq!(found, [(Column::Billed, 8.0)]);
    let mut stranger = machine(2, Some((5, ASKED)));
    stranger["tags"]["orca.research/pod-uid"] = json!("other");
    assert_eq!(columns(&good(), &[machine(2, Some((25, ASKED))), stranger]), [(Column::Billed, 3.0)]);
}

#[test]
fn refused_writes_and_torn_lines_are_no_versions() {
    let mut lines = good();
    lines.push(line(25, 9, &ended("Succeeded", 0)).replace("200", "409"));
    lines.push(lines[3][..50].to_owned());
    assert_eq!(columns(&lines, &[machine(2, Some((25, ASKED)))]), []);
}

#[test]
fn a_deletion_whose_asker_died_is_known_by_the_pods_absence_in_the_end() {
    let mut lines = good();
    lines.truncate(4);
    let about = json!({"resource": "pods", "namespace": "ns", "name": "a"});
    lines.push(entry(27, &json!({"verb": "delete", "objectRef": about, "responseStatus": {"code": 504}})));
    let machines = [machine(2, Some((25, ASKED)))];
    assert_eq!(report_with(&lines, &machines, &json!([])).findings, []);
    assert_eq!(columns(&lines, &machines), [(Column::Stuck, 1.0)]);
}

#[test]
fn every_column_is_explained() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md")).unwrap();
    for column in Column::ALL {
        assert!(docs.contains(&format!("| {} | ", column.name())), "{}", column.name());
    }
}
