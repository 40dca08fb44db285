//! Pages of the running ORCA: what it alone knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::Authority;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Trouble;
use crate::capacity::live::Live;
use crate::pod::stuck;

const DEADLINE: Duration = Duration::from_secs(5);
/// Its page is far smaller.
const LARGEST: usize = 8 << 20;

/// Where it is asked; nowhere if the configuration serves no page.
#[derive(Clone, Debug)]
pub(super) struct Running(Option<Authority>);

impl Running {
    /// As `--server` says, else where the configuration has it listen.
    ///
    /// # Errors
    /// `--server` is not `http://HOST:PORT`.
    pub(super) fn find(server: Option<&str>, listen: Option<SocketAddr>) -> Result<Self, Trouble> {
        let Some(server) = server else { return Ok(Self(listen.map(server_at))) };
        let wrong = || Trouble::Typed(format!("--server is `{server}`, expected `http://HOST:PORT`"));
        server_of(server).map(|server| Self(Some(server))).ok_or_else(wrong)
    }

    /// What it knows of capacity now, or in words why that cannot be said.
    pub(super) async fn ask(&self) -> Result<Live, String> {
        self.page("/capacity").await
    }

    /// What fails for it again and again, or in words why that cannot be said.
    pub(super) async fn stuck(&self) -> Result<stuck::Page, String> {
        self.page("/stuck").await
    }

    async fn page<T: DeserializeOwned>(&self, path: &'static str) -> Result<T, String> {
        let Some(server) = &self.0 else {
            return Err("metrics.listen is `none`; --server names another address".to_owned());
        };
        let page = page_of(server, path);
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let fetch = async {
            let answer = client.get(page.clone()).await.map_err(|error| root(&error))?;
            if answer.status() != http::StatusCode::OK {
                return Err(format!("answered {}", answer.status()));
            }
            let body = Limited::new(answer.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| format!("not the page of an orca: {error}"))
        };
        let fetched = timeout(DEADLINE, fetch).await;
        fetched
            .unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")))
            .map_err(|error| format!("{page}: {error}"))
    }
}

/// The ORCA that listens there; an address of all interfaces is asked on this host.
fn server_at(listen: SocketAddr) -> Authority {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let server = SocketAddr::new(ip, listen.port()).to_string();
    server.parse().expect("every socket address is an authority")
}

/// The ORCA at an address as it is typed; `None` if it is not `http://HOST:PORT`.
fn server_of(server: &str) -> Option<Authority> {
    let base: Uri = server.trim_end_matches('/').parse().ok()?;
    let is_plain =
        base.scheme_str() == Some("http") && matches!(base.path(), "" | "/") && base.query().is_none();
    base.authority().filter(|_| is_plain).cloned()
}

fn page_of(server: &Authority, path: &'static str) -> Uri {
    let page = Uri::builder().scheme("http").authority(server.clone()).path_and_query(path);
    page.build().expect("the path is one of ours")
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
        let at = |listen: &str| page_of(&server_at(listen.parse().unwrap()), "/capacity").to_string();
        assert_eq!(at("0.0.0.0:8080"), "http://127.0.0.1:8080/capacity");
        assert_eq!(at("[::]:8080"), "http://[::1]:8080/capacity");
        assert_eq!(at("10.0.0.1:9"), "http://10.0.0.1:9/capacity");
        let of = |server: &str| server_of(server).map(|server| page_of(&server, "/stuck").to_string());
        assert_eq!(of("http://orca:8080/").as_deref(), Some("http://orca:8080/stuck"));
        for wrong in ["orca:8080", "https://orca:8080", "http://orca/metrics", "http://", ""] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
