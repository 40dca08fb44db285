//! Scheduled events: one list for all machines of the account, since DescribeInstanceStatus knows no tags.

use aws_sdk_ec2::types as sdk;

use super::calls::Calls;
use super::{decode, filter};
use crate::cloud::{CloudError, EventKind, EventProgress, ScheduledEvent};

/// Every event of the account's running instances.
pub(super) async fn events(calls: &Calls) -> Result<Vec<ScheduledEvent>, CloudError> {
    let mut events = Vec::new();
    let mut token = None;
    loop {
        let request = calls
            .client
            .describe_instance_status()
            .include_all_instances(false)
            .filters(filter("event.code", EventKind::ALL.map(|kind| kind.code().to_owned())))
            .max_results(1000)
            .set_next_token(token);
        let page = calls.read("DescribeInstanceStatus", || request.clone().send()).await?;
        for status in page.instance_statuses() {
            let instance_id = status.instance_id().unwrap_or_default();
            events.extend(status.events().iter().filter_map(|event| decoded(instance_id, event)));
        }
        token = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if token.is_none() {
            return Ok(events);
        }
    }
}

/// `None` for a kind that EC2 added since, and without an id, which EC2 does not send.
fn decoded(instance_id: &str, event: &sdk::InstanceStatusEvent) -> Option<ScheduledEvent> {
    let description = event.description().unwrap_or_default();
    Some(ScheduledEvent {
        id: event.instance_event_id()?.to_owned(),
        instance_id: instance_id.to_owned(),
        kind: EventKind::of_code(event.code()?.as_str())?,
        description: description.to_owned(),
        not_before: event.not_before().and_then(decode::timestamp),
        not_after: event.not_after().and_then(decode::timestamp),
        progress: EventProgress::of_description(description),
    })
}
