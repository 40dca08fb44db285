//! Scheduled events: what is asked for, and what is made of the answers.

use orca::cloud::{Cloud as _, EventKind, EventProgress};

use super::fake::{Fake, error, xml};

fn event(id: &str, code: &str, description: &str) -> String {
    format!(
        "<item><instanceEventId>{id}</instanceEventId><code>{code}</code><description>{description}</description>
         <notBefore>2026-12-01T10:00:00.000Z</notBefore><notAfter>2026-12-01T12:00:00.000Z</notAfter></item>"
    )
}

fn status(instance_id: &str, events: &str) -> String {
    format!(
        "<item><instanceId>{instance_id}</instanceId><availabilityZone>us-east-1a</availabilityZone>
         <eventsSet>{events}</eventsSet><instanceState><code>16</code><name>running</name></instanceState></item>"
    )
}

fn page(statuses: &str, next: &str) -> (u16, String) {
    let next = if next.is_empty() { String::new() } else { format!("<nextToken>{next}</nextToken>") };
    xml("DescribeInstanceStatusResponse", &format!("<instanceStatusSet>{statuses}</instanceStatusSet>{next}"))
}

#[tokio::test]
async fn scheduled_events_are_one_list_of_all_pages_and_what_is_over_says_so() {
    let fake = Fake::start(|_, form, _| {
        if form.contains_key("NextToken") {
            return page(&status("i-0003", &event("instance-event-4", "instance-stop", "[Canceled] it")), "");
        }
        let two =
            event("instance-event-1", "instance-retirement", "The instance is running on degraded hardware")
                + &event("instance-event-2", "system-reboot", "[Completed] scheduled reboot")
                + &event("instance-event-3", "instance-upgrade", "a code that EC2 adds one day");
        page(&(status("i-0001", &two) + &status("i-0002", "")), "more")
    })
    .await;
    let events = fake.ec2().await.scheduled_events().await.unwrap();
    let found: Vec<_> = events
        .iter()
        .map(|event| (event.id.as_str(), event.instance_id.as_str(), event.kind, event.progress))
        .collect();
    assert_eq!(
        found,
        [
            ("instance-event-1", "i-0001", EventKind::InstanceRetirement, EventProgress::Scheduled),
            ("instance-event-2", "i-0001", EventKind::SystemReboot, EventProgress::Completed),
            ("instance-event-4", "i-0003", EventKind::InstanceStop, EventProgress::Canceled),
        ]
    );
    assert_eq!(events[0].not_before.unwrap().to_string(), "2026-12-01T10:00:00Z");
    assert_eq!(events[0].not_after.unwrap().to_string(), "2026-12-01T12:00:00Z");
    let asked = fake.asked("DescribeInstanceStatus");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0]["IncludeAllInstances"], "false");
    assert_eq!(asked[0]["Filter.1.Name"], "event.code");
    let codes: Vec<&String> = (1..=5).map(|n| &asked[0][&format!("Filter.1.Value.{n}")]).collect();
    assert_eq!(
        codes,
        ["instance-reboot", "system-reboot", "system-maintenance", "instance-retirement", "instance-stop"]
    );
    assert!(!asked[0].keys().any(|key| key.starts_with("InstanceId")), "ids and pages exclude each other");
    assert_eq!(asked[1]["NextToken"], "more");
}

#[tokio::test]
async fn a_list_of_events_that_is_denied_says_so_and_is_asked_for_once() {
    let fake = Fake::start(|_, _, _| error(403, "UnauthorizedOperation", "no")).await;
    let refused = fake.ec2().await.scheduled_events().await.unwrap_err();
    assert_eq!(refused.kind(), "denied");
    assert_eq!(fake.asked("DescribeInstanceStatus").len(), 1);
}
