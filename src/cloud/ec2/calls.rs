//! Around every call: count it, and translate its refusal.

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use super::{Ec2, errors};
use crate::cloud::CloudError;
use crate::telemetry::CloudCalls;

impl Ec2 {
    /// See [`call`].
    pub(super) async fn call<T, E>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, CloudError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self::call(&self.calls, action, call).await
    }
}

/// Makes one call and counts it by its result.
pub(super) async fn call<T, E>(
    calls: &CloudCalls,
    action: &'static str,
    call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, CloudError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let result = call.await.map_err(|error| errors::translate(&error));
    calls.observe(action, result.as_ref().map_or_else(CloudError::kind, |_| "ok"));
    if let Err(error) = &result {
        tracing::debug!(action, error = %error, "a cloud call was refused");
    }
    result
}
