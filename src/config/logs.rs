//! `logs`: the archive of container logs.

use super::raw::Reader;
use super::{Logs, values};
use crate::logs::names;

/// Days that PutRetentionPolicy takes: <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html>.
const RETENTION_DAYS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
/// Stands for no limit.
const FOR_EVER: u32 = 0;

/// `None` where the archive is switched off; its other keys are checked all the same.
pub(super) fn logs(read: &mut Reader) -> Option<Logs> {
    let enabled = read.flag("logs.enabled").unwrap_or_default();
    let days = read.integer("logs.retentionDays", 0..=3653).unwrap_or_default();
    if days != FOR_EVER && !RETENTION_DAYS.contains(&days) {
        let near = RETENTION_DAYS.into_iter().min_by_key(|other| other.abs_diff(days)).unwrap_or_default();
        read.problem(
            "logs.retentionDays",
            format!(
                "logs.retentionDays is `{days}`, which CloudWatch Logs does not offer: the nearest is `{near}`"
            ),
        );
    }
    let logs = Logs {
        group: read.text("logs.group", |text| names::check_group(text.to_owned()).ok()),
        retention_days: Some(days).filter(|days| *days != FOR_EVER),
        kms_key_id: read.text("logs.kmsKeyId", values::text_if(is_key_arn)),
        drain_deadline: read.text("logs.drainDeadline", values::duration).unwrap_or_default(),
    };
    enabled.then_some(logs)
}

/// CreateLogGroup takes no ids and no aliases.
fn is_key_arn(text: &str) -> bool {
    text.starts_with("arn:") && text.contains(":kms:") && text.contains(":key/")
}
