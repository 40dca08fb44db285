//! What AWS and the running ORCA are asked, each with a deadline.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, timeout};

use super::overview::{self, Overview};
use crate::capacity::live::Live;
use crate::clock;
use crate::cloud::ec2::Ec2;
use crate::cloud::{CloudError, Market as _, SpotPrice};

/// For one reading of AWS; all spot prices have many pages.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the running ORCA.
const HERE: Duration = Duration::from_secs(5);
/// Its page is far smaller.
const LARGEST: usize = 8 << 20;
/// Spot prices change slowly, and are many.
const SPOT: Duration = Duration::from_secs(300);

/// Asks again and again.
pub(super) struct Asker {
    pub(super) ec2: Ec2,
    pub(super) region: String,
    /// Types, or patterns of types, whose spot prices are shown.
    pub(super) types: Vec<String>,
    /// `None` if the configuration serves no page.
    pub(super) server: Option<Uri>,
    spot: Option<(Instant, Vec<SpotPrice>)>,
}

impl Asker {
    pub(super) fn new(ec2: Ec2, region: String, types: Vec<String>, server: Option<Uri>) -> Self {
        Self { ec2, region, types, server, spot: None }
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
        match self.running().await {
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

    async fn running(&self) -> Result<Live, String> {
        let Some(server) = &self.server else {
            return Err("metrics.listen is `none`; --server names another address".to_owned());
        };
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let fetch = async {
            let answer = client.get(server.clone()).await.map_err(|error| root(&error))?;
            if answer.status() != http::StatusCode::OK {
                return Err(format!("answered {}", answer.status()));
            }
            let body = Limited::new(answer.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| format!("not the page of an orca: {error}"))
        };
        let fetched = timeout(HERE, fetch).await;
        fetched
            .unwrap_or_else(|_| Err(format!("no answer within {HERE:?}")))
            .map_err(|error| format!("{server}: {error}"))
    }
}

/// How much of AWS could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete,
    Partial,
}

/// The page of the ORCA that listens there; an address of all interfaces is asked on this host.
pub(super) fn page_at(listen: SocketAddr) -> Option<Uri> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    page_of(&format!("http://{}", SocketAddr::new(ip, listen.port())))
}

/// The page under an address as it is typed; `None` if it is not `http://HOST:PORT`.
pub(super) fn page_of(server: &str) -> Option<Uri> {
    let base: Uri = server.trim_end_matches('/').parse().ok()?;
    let is_plain =
        base.scheme_str() == Some("http") && matches!(base.path(), "" | "/") && base.query().is_none();
    let authority = base.authority().filter(|_| is_plain)?;
    Uri::builder().scheme("http").authority(authority.clone()).path_and_query("/capacity").build().ok()
}

async fn within<T>(call: impl Future<Output = Result<T, CloudError>>) -> Result<T, CloudError> {
    timeout(PATIENCE, call).await.unwrap_or_else(|_| {
        let message = format!("no answer within {PATIENCE:?}");
        Err(CloudError::Transient { code: "Timeout".to_owned(), message })
    })
}

/// The innermost cause: what hyper says around it helps nobody.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_where_somebody_can_reach_it() {
        let at = |listen: &str| page_at(listen.parse().unwrap()).unwrap().to_string();
        assert_eq!(at("0.0.0.0:8080"), "http://127.0.0.1:8080/capacity");
        assert_eq!(at("[::]:8080"), "http://[::1]:8080/capacity");
        assert_eq!(at("10.0.0.1:9"), "http://10.0.0.1:9/capacity");
        let of = |server: &str| page_of(server).map(|page| page.to_string());
        assert_eq!(of("http://orca:8080/").as_deref(), Some("http://orca:8080/capacity"));
        for wrong in ["orca:8080", "https://orca:8080", "http://orca/metrics", "http://", ""] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
