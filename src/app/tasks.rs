//! The tasks of the process, each under the name that an early end is told with.

use anyhow::{Context as _, Result, anyhow};
use tokio::task::JoinSet;

/// Everything that runs. Dropped, it ends.
#[derive(Debug, Default)]
pub(super) struct Tasks(JoinSet<(&'static str, Result<()>)>);

impl Tasks {
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.0.spawn(async move { (name, task.await) });
    }

    /// One that never has anything to complain of.
    pub(super) fn keep(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            task.await;
            Ok(())
        });
    }

    /// Waits until one ends, which none should; why it did.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        match self.0.join_next().await.context("nothing runs") {
            Err(error) => error,
            Ok(Err(died)) => anyhow::Error::new(died).context("a task failed"),
            Ok(Ok((name, Ok(())))) => anyhow!("{name} ended by itself"),
            Ok(Ok((name, Err(error)))) => error.context(name),
        }
    }

    pub(super) async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }
}
