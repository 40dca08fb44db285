//! The account's balance, read now and then, and what was spent since.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::balance::{Balance, BalanceSource};
use super::metrics::Metrics;
use crate::capacity::money::MicroUsd;

/// A balance is good for so long.
const FRESH: Duration = Duration::from_secs(60);

/// The balance, for all launches.
#[derive(Debug)]
pub(super) struct Funds {
    source: Arc<dyn BalanceSource>,
    /// When it was asked for, and what was answered.
    last: Mutex<Option<(Instant, Option<Balance>)>>,
    metrics: Metrics,
}

impl Funds {
    pub(super) fn new(source: Arc<dyn BalanceSource>, metrics: Metrics) -> Self {
        Self { source, last: Mutex::default(), metrics }
    }

    /// The balance of about now; `None` where nobody can tell, which is asked again after a while.
    pub(super) async fn balance(&self) -> Option<Balance> {
        let mut last = self.last.lock().await;
        if let Some((at, balance)) = *last
            && at.elapsed() < FRESH
        {
            return balance;
        }
        let balance = match self.source.balance().await {
            Ok(balance) => Some(balance),
            Err(error) => {
                tracing::warn!(%error, "RunPod's balance cannot be read");
                None
            }
        };
        if let Some(balance) = balance {
            self.metrics.balance(balance);
        }
        *last = Some((Instant::now(), balance));
        balance
    }

    /// A pod of this price was created: whoever comes next counts with it.
    pub(super) async fn spent(&self, price: MicroUsd) {
        if let Some((_, Some(balance))) = &mut *self.last.lock().await {
            balance.spend = MicroUsd(balance.spend.0.saturating_add(price.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::cloud::CloudError;

    /// Answers with its count as credits, and not at all the third time.
    #[derive(Debug, Default)]
    struct Counting(AtomicU32);

    #[async_trait]
    impl BalanceSource for Counting {
        async fn balance(&self) -> Result<Balance, CloudError> {
            let count = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            if count == 3 {
                return Err(CloudError::Transient { code: "x".to_owned(), message: "y".to_owned() });
            }
            Ok(Balance { credits: MicroUsd(count.into()), spend: MicroUsd(10), limit: None })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_balance_is_asked_for_once_a_minute_and_what_is_spent_meanwhile_counts() {
        let funds = Funds::new(Arc::new(Counting::default()), Metrics::default());
        let read = async || funds.balance().await.map(|it| (it.credits.0, it.spend.0));
        assert_eq!(read().await, Some((1, 10)));
        funds.spent(MicroUsd(5)).await;
        tokio::time::sleep(FRESH - Duration::from_secs(1)).await;
        assert_eq!(read().await, Some((1, 15)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(read().await, Some((2, 10)));
        tokio::time::sleep(FRESH).await;
        assert_eq!((read().await, read().await), (None, None), "it is not asked again at once");
        funds.spent(MicroUsd(5)).await;
        tokio::time::sleep(FRESH).await;
        assert_eq!(read().await, Some((4, 10)));
    }
}
