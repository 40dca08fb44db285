//! RunPod: REST v2, a little GraphQL, and pods that are real containers or states only.
//!
//! Its members, bounds, statuses and limits are those of RunPod's published reference (docs.runpod.io/api-reference-v2);
//! where that is silent, the comment beside a choice says so. Behind one short-lived lock lies pure state; containers
//! follow it (`driver`), and what happens to them changes it.

pub mod account;
pub mod api;
pub mod bank;
pub mod billing;
pub mod body;
pub mod catalog;
pub mod command;
pub mod container;
pub mod control;
mod driver;
pub mod graphql;
pub mod history;
pub mod ids;
pub mod keys;
pub mod log;
pub mod meter;
pub mod order;
pub mod page;
pub mod pod;
pub mod pods;
pub mod problem;
pub mod query;
pub mod rates;
pub mod registries;
pub mod render;
pub mod routes;
pub mod scenario;
pub mod schema;
pub mod secrets;
pub mod settings;
pub mod status;
pub mod stock;
pub mod stream;
#[cfg(test)]
pub mod testing;
pub mod volumes;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::account::Account;
use self::container::Containers;
use self::settings::Settings;
use crate::clock;
use crate::faults::Calls;

/// How long the containers have to be gone when the cloud ends.
const END: Duration = Duration::from_secs(30);

/// The account, and its containers.
#[derive(Debug)]
pub struct RunPod {
    account: Mutex<Account>,
    containers: Arc<dyn Containers>,
    pub calls: Calls,
    wake: Arc<Notify>,
    ending: CancellationToken,
    driver: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl RunPod {
    /// An account without pods, whose containers are driven until it is dropped. Needs a tokio runtime.
    ///
    /// # Panics
    /// When somebody else has the events of these containers.
    pub fn start(settings: Settings, containers: Arc<dyn Containers>) -> Arc<Self> {
        let events = containers.events().expect("an account has its containers for itself");
        let runpod = Arc::new(Self {
            account: Mutex::new(Account::new(settings, clock::now())),
            containers,
            calls: Calls::default(),
            wake: Arc::default(),
            ending: CancellationToken::new(),
            driver: Mutex::default(),
        });
        let driver = tokio::spawn(driver::run(Arc::downgrade(&runpod), events, runpod.ending.clone()));
        *runpod.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(driver));
        runpod
    }

    /// Looks at the state of now.
    pub fn view<T>(&self, look: impl FnOnce(&mut Account, Timestamp) -> T) -> T {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        account.settle(now);
        look(&mut account, now)
    }

    /// Changes the state of now, and lets the containers follow.
    pub fn change<T>(&self, act: impl FnOnce(&mut Account, Timestamp) -> T) -> T {
        let result = self.view(act);
        self.wake.notify_one();
        result
    }

    /// Ends every container, now. The account is of no use afterwards.
    pub async fn end(&self) {
        self.ending.cancel();
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver
            && timeout(END, driver).await.is_err()
        {
            tracing::error!("a container's job did not stop in time");
        }
        let made = |account: &mut Account, _| {
            let made = account.pods.values().filter(|pod| pod.made);
            made.map(|pod| pod.id.clone()).collect::<Vec<_>>()
        };
        let mut jobs = JoinSet::new();
        for id in self.view(made) {
            let containers = self.containers.clone();
            jobs.spawn(async move { containers.remove(&id, Duration::ZERO).await });
        }
        if timeout(END, jobs.join_all()).await.is_err() {
            tracing::error!(seconds = END.as_secs(), "containers were not gone in time");
        }
    }
}

/// Everything behind RunPod's port.
pub fn router(runpod: Arc<RunPod>) -> Router {
    Router::new()
        .nest("/_local", control::router(runpod.clone()))
        .fallback_service(Router::new().fallback(api::answer).with_state(runpod))
}
