//! The calls about single instances that are made for many at once.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_ec2::types::Filter;
use futures::FutureExt as _;

use super::batch::{Answers, Batch, Window};
use super::calls::Calls;
use super::decode;
use crate::cloud::{CloudError, Instance};

/// Karpenter's windows: short beside the call itself, long enough for a burst.
const WINDOW: Window =
    Window { idle: Duration::from_millis(100), longest: Duration::from_secs(1), most: 500 };

/// Instances by id; `None` for one that EC2 does not know.
pub(super) fn describes(calls: Calls, of_this_cluster: Filter) -> Batch<String, Option<Instance>> {
    Batch::new(WINDOW, move |ids| {
        let (calls, filter) = (calls.clone(), of_this_cluster.clone());
        async move { describe(&calls, filter, ids).await }.boxed()
    })
}

/// TerminateInstances by id. One that EC2 does not know is ended already.
pub(super) fn terminations(calls: Calls) -> Batch<String, ()> {
    Batch::new(WINDOW, move |ids| {
        let calls = calls.clone();
        async move { terminate(&calls, ids).await }.boxed()
    })
}

async fn describe(
    calls: &Calls,
    of_this_cluster: Filter,
    ids: Vec<String>,
) -> Result<Answers<String, Option<Instance>>, CloudError> {
    let request =
        calls.client.describe_instances().set_instance_ids(Some(ids.clone())).filters(of_this_cluster);
    let page = match calls.read("DescribeInstances", || request.clone().send()).await {
        Ok(page) => page,
        // One unknown id fails the call for all; alone, it is the answer.
        Err(CloudError::NotFound { .. }) if ids.len() == 1 => {
            return Ok(ids.into_iter().map(|id| (id, Ok(None))).collect());
        }
        Err(error) => return Err(error),
    };
    let mut answers: Answers<_, _> = ids.into_iter().map(|id| (id, Ok(None))).collect();
    let found = page.reservations().iter().flat_map(|reservation| reservation.instances());
    for instance in found.filter_map(decode::instance) {
        if let Some(answer) = answers.get_mut(&instance.id) {
            *answer = Ok(Some(instance));
        }
    }
    Ok(answers)
}

async fn terminate(calls: &Calls, ids: Vec<String>) -> Result<Answers<String, ()>, CloudError> {
    let request = calls.client.terminate_instances().set_instance_ids(Some(ids.clone()));
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let send = || request.clone().send();
    match calls.repeat(&calls.rates.terminate, count, "TerminateInstances", send).await {
        Ok(answer) => {
            let mentioned: HashSet<&str> =
                answer.terminating_instances().iter().filter_map(|change| change.instance_id()).collect();
            Ok(ids.into_iter().filter(|id| mentioned.contains(id.as_str())).map(|id| (id, Ok(()))).collect())
        }
        Err(CloudError::NotFound { .. }) if ids.len() == 1 => {
            Ok(ids.into_iter().map(|id| (id, Ok(()))).collect())
        }
        Err(error) => Err(error),
    }
}
