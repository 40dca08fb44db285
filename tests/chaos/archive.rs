//! The local cloud's archive of logs, as its owner sees it.

use anyhow::Result;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cloudwatchlogs::Client;

use crate::world::CLOUD;

/// Deletes every log group.
pub(crate) fn forget() -> Result<()> {
    let keys = Credentials::new("test", "test", None, None, "test");
    tokio::runtime::Runtime::new()?.block_on(async {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(CLOUD)
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .load()
            .await;
        let client = Client::new(&config);
        for group in client.describe_log_groups().send().await?.log_groups() {
            client.delete_log_group().set_log_group_name(group.log_group_name.clone()).send().await?;
        }
        Ok(())
    })
}
