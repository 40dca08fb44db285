//! Around every call: wait for its turn, count it, repeat it where that is safe, and translate its refusal.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;

use super::errors;
use super::rates::{Gate, Rates};
use crate::cloud::CloudError;
use crate::telemetry::CloudCalls;

/// A call is made so often when it has no definite answer.
const TRIES: u32 = 3;
/// A refusal for rate was not looked at, so it is repeated more often; the gate spreads it.
const THROTTLED_TRIES: u32 = 10;
/// Between tries without a definite answer; doubled, with jitter.
const PAUSE: Duration = Duration::from_millis(200);

/// What calls to EC2 are made with. The SDK's own retries are off: each try passes the gate.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    pub(super) client: aws_sdk_ec2::Client,
    pub(super) counted: CloudCalls,
    pub(super) rates: Arc<Rates>,
}

impl Calls {
    /// Waits for this gate.
    pub(super) async fn turn(&self, gate: &Gate, resources: u32) -> Result<(), CloudError> {
        let began = Instant::now();
        gate.take(resources).await?;
        self.counted.waited(gate.kind, began.elapsed());
        Ok(())
    }

    /// A call that only looks.
    pub(super) async fn read<T, E, F>(
        &self,
        action: &'static str,
        send: impl Fn() -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.repeat(&self.rates.read, 1, action, send).await
    }

    /// A call through this gate that may be made twice without harm.
    pub(super) async fn repeat<T, E, F>(
        &self,
        gate: &Gate,
        resources: u32,
        action: &'static str,
        send: impl Fn() -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut tries = 1;
        loop {
            self.turn(gate, resources).await?;
            match self.admitted(gate, resources, action, &send).await {
                Err(CloudError::Transient { .. }) if tries < TRIES => {
                    let pause = PAUSE * 2u32.pow(tries - 1);
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    /// A call that the gate has admitted already. It is repeated, through the gate, only when EC2 says that it did not
    /// look at it.
    pub(super) async fn admitted<T, E, F>(
        &self,
        gate: &Gate,
        resources: u32,
        action: &'static str,
        send: impl Fn() -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut tries = 1;
        loop {
            let answer = call(&self.counted, action, send()).await;
            if matches!(answer, Err(CloudError::Throttled { .. })) {
                gate.throttled();
                if tries < THROTTLED_TRIES {
                    tries += 1;
                    self.turn(gate, resources).await?;
                    continue;
                }
            }
            return answer;
        }
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
    let began = Instant::now();
    let result = call.await.map_err(|error| errors::translate(&error));
    calls.observe(action, result.as_ref().map_or_else(CloudError::kind, |_| "ok"), began.elapsed());
    if let Err(error) = &result {
        tracing::debug!(action, error = %error, "a cloud call was refused");
    }
    result
}
