//! What AWS is asked, each with a deadline, and the running ORCA.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::overview::{self, Overview};
use crate::cli::running::Running;
use crate::clock;
use crate::cloud::ec2::Ec2;
use crate::cloud::{CloudError, Market as _, SpotPrice};

/// For one reading of AWS; all spot prices have many pages.
const PATIENCE: Duration = Duration::from_secs(60);
/// Spot prices change slowly, and are many.
const SPOT: Duration = Duration::from_secs(300);

/// Asks again and again.
pub(super) struct Asker {
    pub(super) ec2: Ec2,
    pub(super) region: String,
    /// Types, or patterns of types, whose spot prices are shown.
    pub(super) types: Vec<String>,
    pub(super) running: Running,
    spot: Option<(Instant, Vec<SpotPrice>)>,
}

impl Asker {
    pub(super) fn new(ec2: Ec2, region: String, types: Vec<String>, running: Running) -> Self {
        Self { ec2, region, types, running, spot: None }
    }

    /// Everything as it is now, and whether all of AWS could be read.
    pub(super) async fn ask(&mut self) -> (Overview, Outcome) {
        let mut overview =
            Overview { region: self.region.clone(), as_of: clock::now(), ..Overview::default() };
        let mut outcome = Outcome::Complete;
        let mut fail = |notes: &mut Vec<String>, what: &str, error: &CloudError| {
            notes.push(format!("{what} cannot be read: {error}"));
            outcome = Outcome::Partial;
        };
        let (reservations, blocks, subnets) = tokio::join!(
            within(self.ec2.reservations()),
            within(self.ec2.blocks()),
            within(self.ec2.subnets())
        );
        match (&reservations, &blocks) {
            (Ok(reservations), Ok(blocks)) => {
                overview.blocks = Some(overview::blocks(reservations, blocks));
            }
            (Ok(_), Err(error)) => fail(&mut overview.notes, "Capacity Blocks", error),
            (Err(error), _) => fail(&mut overview.notes, "reservations", error),
        }
        overview.reservations = reservations.ok().map(|all| overview::reservations(&all));
        let subnets = subnets.unwrap_or_else(|error| {
            fail(&mut overview.notes, "subnets", &error);
            Vec::new()
        });
        if self.types.is_empty() {
            overview
                .notes
                .push("spot prices: the configuration names no types; --type names some".to_owned());
        } else {
            if let Err(error) = self.read_spot().await {
                fail(&mut overview.notes, "spot prices", &error);
            }
            let prices = self.spot.as_ref().map(|(_, prices)| prices);
            overview.spot_prices = prices.map(|prices| overview::spot(prices, &subnets, &self.types));
        }
        match self.running.ask().await {
            Ok(live) => overview.running = Some(live),
            Err(error) => overview.notes.push(format!(
                "what is avoided, being launched, learned or in use of quotas is not known, as the running orca \
                 cannot be asked: {error}"
            )),
        }
        (overview, outcome)
    }

    async fn read_spot(&mut self) -> Result<(), CloudError> {
        let is_fresh = self.spot.as_ref().is_some_and(|(read, _)| read.elapsed() < SPOT);
        if !is_fresh {
            self.spot = Some((Instant::now(), within(self.ec2.spot_prices()).await?));
        }
        Ok(())
    }
}

/// How much of AWS could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete,
    Partial,
}

async fn within<T>(call: impl Future<Output = Result<T, CloudError>>) -> Result<T, CloudError> {
    timeout(PATIENCE, call).await.unwrap_or_else(|_| {
        let message = format!("no answer within {PATIENCE:?}");
        Err(CloudError::Transient { code: "Timeout".to_owned(), message })
    })
}
