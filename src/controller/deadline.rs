//! No call waits for ever.

use std::time::Duration;

use crate::cloud::CloudError;

/// For one request to the API server or to a cloud. RunInstances may take half of it.
const LIMIT: Duration = Duration::from_secs(60);

/// An error that can say that no answer came.
pub(super) trait Late {
    /// No answer within `limit` while doing `what`.
    fn late(what: &'static str, limit: Duration) -> Self;
}

impl Late for CloudError {
    fn late(what: &'static str, limit: Duration) -> Self {
        Self::Transient {
            code: "Timeout".to_owned(),
            message: format!("no answer within {limit:?} while {what}"),
        }
    }
}

impl Late for kube::Error {
    fn late(what: &'static str, limit: Duration) -> Self {
        Self::Service(format!("no answer within {limit:?} while {what}").into())
    }
}

/// The call's answer, or that it is late.
pub(super) async fn deadline<T, E: Late>(
    what: &'static str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| Err(E::late(what, LIMIT)))
}
