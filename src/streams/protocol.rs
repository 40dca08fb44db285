//! What a client and we speak on an upgraded connection: agreed upon by the headers of the request. Pure.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::asked::Asked;
use super::refused::{COMMAND_VERSIONS, FORWARD_VERSION, Refused};
use super::roles::Roles;
use super::spdy::Spdy;
use super::status::Words;
use super::wire::Wire;
use super::ws::WebSocket;
use super::ws::channels::{Channels, Closing, Encoding};

/// SPDY bytes in WebSocket messages, for port-forward alone.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const VERSION_HEADER: &str = "x-stream-protocol-version";

/// What was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Spdy(Spoken),
    Channels(Encoding, Closing, Spoken),
    /// Of port-forward, too.
    Tunnelled,
}

/// What differs between versions of the remote command protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) words: Words,
    /// Sizes of a terminal have a stream.
    pub(super) has_sizes: bool,
}

const OLD: Spoken = Spoken { words: Words::Text, has_sizes: false };
const SIZED: Spoken = Spoken { words: Words::Text, has_sizes: true };
const NEW: Spoken = Spoken { words: Words::Json, has_sizes: true };

/// Agrees on a protocol: it, and the answer that says so.
pub(super) fn agree(
    asked: &Asked,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(Protocol, Response<()>), Refused> {
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(Refused::NoUpgrade);
    }
    if has_token(headers, &header::UPGRADE, "spdy/3.1") {
        return spdy(asked, headers);
    }
    if has_token(headers, &header::UPGRADE, "websocket") && method == Method::GET {
        return websocket(asked, headers);
    }
    Err(Refused::NoUpgrade)
}

fn spdy(asked: &Asked, headers: &HeaderMap) -> Result<(Protocol, Response<()>), Refused> {
    let client = list(headers, VERSION_HEADER);
    if client.is_empty() {
        return Err(Refused::NoVersion);
    }
    let server: &[&'static str] = match asked {
        Asked::Exec { .. } | Asked::Attach { .. } => &COMMAND_VERSIONS,
        Asked::Forward { .. } => &[FORWARD_VERSION],
    };
    // The client's order counts.
    let Some(version) = client.iter().find_map(|it| server.iter().find(|known| *known == it)) else {
        return Err(Refused::Versions {
            client: client.into_iter().map(str::to_owned).collect(),
            server: server.to_vec(),
        });
    };
    let spoken = match *version {
        "v4.channel.k8s.io" => NEW,
        "v3.channel.k8s.io" => SIZED,
        _ => OLD,
    };
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(version));
    Ok((Protocol::Spdy(spoken), response))
}

/// What is spoken under that name, which is empty when the client gives none.
fn channels(asked: &Asked, name: &str) -> Option<Protocol> {
    let of_command = matches!(asked, Asked::Exec { .. } | Asked::Attach { .. });
    Some(match name {
        "" | "channel.k8s.io" => Protocol::Channels(Encoding::Binary, Closing::Never, SIZED),
        "base64.channel.k8s.io" => Protocol::Channels(Encoding::Base64, Closing::Never, SIZED),
        "v4.channel.k8s.io" => Protocol::Channels(Encoding::Binary, Closing::Never, NEW),
        "v4.base64.channel.k8s.io" => Protocol::Channels(Encoding::Base64, Closing::Never, NEW),
        "v5.channel.k8s.io" if of_command => Protocol::Channels(Encoding::Binary, Closing::BySignal, NEW),
        TUNNEL if !of_command => Protocol::Tunnelled,
        _ => return None,
    })
}

fn websocket(asked: &Asked, headers: &HeaderMap) -> Result<(Protocol, Response<()>), Refused> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(Refused::NoUpgrade)?;
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::NoUpgrade);
    }
    let client = list(headers, header::SEC_WEBSOCKET_PROTOCOL.as_str());
    let names = if client.is_empty() { &[""][..] } else { &client };
    let agreed = names.iter().find_map(|name| Some((*name, channels(asked, name)?)));
    let Some((name, protocol)) = agreed else {
        return Err(Refused::Versions {
            client: client.into_iter().map(str::to_owned).collect(),
            server: match asked {
                Asked::Exec { .. } | Asked::Attach { .. } => {
                    vec!["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"]
                }
                Asked::Forward { .. } => vec![TUNNEL, "v4.channel.k8s.io"],
            },
        });
    };
    if let (Asked::Forward { ports, .. }, Protocol::Channels(..)) = (asked, protocol)
        && ports.is_empty()
    {
        return Err(Refused::Query("query parameter \"port\" is required".to_owned()));
    }
    let mut response = switching("websocket");
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| Refused::NoUpgrade)?;
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if !name.is_empty() {
        let name = HeaderValue::from_str(name).map_err(|_| Refused::NoUpgrade)?;
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok((protocol, response))
}

fn switching(upgrade: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(upgrade));
    response
}

/// The values of a header, whether they stand in one line or in several.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    list(headers, name.as_str()).iter().any(|value| value.eq_ignore_ascii_case(token))
}

impl Protocol {
    /// How a command's end is told.
    pub(super) fn spoken(self) -> Spoken {
        match self {
            Self::Spdy(spoken) | Self::Channels(_, _, spoken) => spoken,
            Self::Tunnelled => NEW,
        }
    }

    /// The wire of a new connection with `ports`, and how many channels it has from the beginning.
    pub(super) fn wire(self, ports: usize) -> (Wire, Option<u8>) {
        match self {
            Self::Spdy(_) => (Wire::Spdy(Spdy::default()), None),
            Self::Tunnelled => (Wire::Tunnelled(WebSocket::default(), Spdy::default()), None),
            Self::Channels(encoding, closing, _) => {
                // Two for each port, of which there are 64 at most; a command has no ports.
                let count =
                    if ports == 0 { Roles::CHANNELS } else { u8::try_from(2 * ports).unwrap_or(u8::MAX) };
                (Wire::Channels(WebSocket::default(), Channels::new(count, encoding, closing)), Some(count))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> Asked {
        Asked::exec("command=a&output=1").unwrap()
    }

    fn forward() -> Asked {
        Asked::forward("ns/p", "u", "port=80").unwrap()
    }

    fn request(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        headers
    }

    fn over_spdy(asked: &Asked, versions: &[&str]) -> Result<(Protocol, Response<()>), Refused> {
        let mut lines = vec![("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")];
        lines.extend(versions.iter().map(|version| (VERSION_HEADER, *version)));
        agree(asked, &Method::POST, &request(&lines))
    }

    fn over_websocket(asked: &Asked, protocols: &[&str]) -> Result<(Protocol, Response<()>), Refused> {
        let mut lines = vec![
            ("connection", "upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        lines.extend(protocols.iter().map(|protocol| ("sec-websocket-protocol", *protocol)));
        agree(asked, &Method::GET, &request(&lines))
    }

    fn header<'a>(response: &'a Response<()>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn the_clients_first_known_version_is_spoken_over_spdy() {
        // As kubectl offers them; v5 is no version of SPDY.
        let offers = [
            "v5.channel.k8s.io",
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "v2.channel.k8s.io",
            "channel.k8s.io",
        ];
        let (protocol, response) = over_spdy(&exec(), &offers).unwrap();
        assert_eq!(protocol, Protocol::Spdy(NEW));
        assert_eq!(response.status(), 101);
        assert_eq!(header(&response, "upgrade"), Some("SPDY/3.1"));
        assert_eq!(header(&response, VERSION_HEADER), Some("v4.channel.k8s.io"));
        for (versions, spoken) in [
            (&["v3.channel.k8s.io"][..], SIZED),
            (&["v2.channel.k8s.io, v4.channel.k8s.io"], OLD),
            (&["channel.k8s.io"], OLD),
        ] {
            assert_eq!(over_spdy(&exec(), versions).unwrap().0, Protocol::Spdy(spoken), "{versions:?}");
        }
        let (_, response) = over_spdy(&forward(), &["portforward.k8s.io"]).unwrap();
        assert_eq!(header(&response, VERSION_HEADER), Some("portforward.k8s.io"));
    }

    #[test]
    fn without_a_version_that_is_known_nothing_is_upgraded() {
        assert_eq!(over_spdy(&exec(), &[]).unwrap_err(), Refused::NoVersion);
        let refused = over_spdy(&exec(), &["v9.channel.k8s.io", "portforward.k8s.io"]).unwrap_err();
        assert_eq!(refused.status(), 403);
        assert_eq!(refused.headers()[0], ("x-accepted-stream-protocol-versions", "v4.channel.k8s.io"));
        assert_eq!(over_spdy(&forward(), &["v4.channel.k8s.io"]).unwrap_err().status(), 403);
        assert_eq!(over_websocket(&exec(), &["v9.channel.k8s.io"]).unwrap_err().status(), 403);
        assert_eq!(over_websocket(&exec(), &[TUNNEL]).unwrap_err().status(), 403);
        assert_eq!(over_websocket(&forward(), &["v5.channel.k8s.io"]).unwrap_err().status(), 403);
        let no_port = Asked::forward("ns/p", "u", "").unwrap();
        assert!(matches!(over_websocket(&no_port, &["v4.channel.k8s.io"]), Err(Refused::Query(_))));
        assert!(over_websocket(&no_port, &[TUNNEL]).is_ok());
    }

    #[test]
    fn websockets_speak_what_the_client_names_first() {
        for (offers, protocol, said) in [
            (&[][..], Protocol::Channels(Encoding::Binary, Closing::Never, SIZED), None),
            (
                &["v9, v5.channel.k8s.io"],
                Protocol::Channels(Encoding::Binary, Closing::BySignal, NEW),
                Some("v5.channel.k8s.io"),
            ),
            (
                &["base64.channel.k8s.io"],
                Protocol::Channels(Encoding::Base64, Closing::Never, SIZED),
                Some("base64.channel.k8s.io"),
            ),
            (
                &["v4.base64.channel.k8s.io", "v4.channel.k8s.io"],
                Protocol::Channels(Encoding::Base64, Closing::Never, NEW),
                Some("v4.base64.channel.k8s.io"),
            ),
        ] {
            let (agreed, response) = over_websocket(&exec(), offers).unwrap();
            assert_eq!((agreed, header(&response, "sec-websocket-protocol")), (protocol, said), "{offers:?}");
            // The example of RFC 6455, section 1.3.
            assert_eq!(header(&response, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        }
        assert_eq!(over_websocket(&forward(), &[TUNNEL]).unwrap().0, Protocol::Tunnelled);
    }

    #[test]
    fn what_asks_for_no_upgrade_gets_none() {
        let spdy = ("upgrade", "SPDY/3.1");
        let version = (VERSION_HEADER, "v4.channel.k8s.io");
        for lines in [
            &[][..],
            &[spdy, version],
            &[("connection", "upgrade"), version],
            &[("connection", "upgrade"), ("upgrade", "h2c"), version],
            &[("connection", "upgrade"), ("upgrade", "websocket")],
            &[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-key", "a"),
                ("sec-websocket-version", "8"),
            ],
        ] {
            for method in [Method::GET, Method::POST] {
                assert_eq!(
                    agree(&exec(), &method, &request(lines)).unwrap_err(),
                    Refused::NoUpgrade,
                    "{lines:?}"
                );
            }
        }
    }
}
