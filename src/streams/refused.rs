//! What is answered instead of an upgrade, with a kubelet's codes and in its words: kubectl shows the text.

use http::StatusCode;

/// Versions of the remote command protocol that are spoken over SPDY, best first.
pub(super) const COMMAND_VERSIONS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// The one version of port-forward.
pub(super) const FORWARD_VERSION: &str = "portforward.k8s.io";

/// Why a connection is not upgraded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody would hear anything.
    #[error("you must specify at least 1 of stdin, stdout, stderr")]
    NoStreams,
    /// Of the query; says what is wrong with it.
    #[error("{0}")]
    Query(String),
    /// Neither SPDY/3.1 nor a WebSocket is asked for.
    #[error("unable to upgrade: missing upgrade headers in request")]
    NoUpgrade,
    /// SPDY without a version of what is spoken in it.
    #[error("unable to upgrade: header X-Stream-Protocol-Version does not exist in request")]
    NoVersion,
    /// None of the versions that the client knows is known here.
    #[error(
        "unable to upgrade: unable to negotiate protocol: client supports {client:?}, server accepts {server:?}"
    )]
    Versions { client: Vec<String>, server: Vec<&'static str> },
    /// The pod is not this node's.
    #[error("pod does not exist")]
    NoPod,
    /// The pod of this name is another one, or does not run.
    #[error("pod not found ({0:?})")]
    OtherPod(String),
    /// The container does not run.
    #[error("container not found ({0:?})")]
    NoContainer(String),
    /// Too much is going on already.
    #[error("too many streams are open already, try again later")]
    Busy,
}

impl Refused {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoStreams | Self::Query(_) | Self::NoUpgrade | Self::NoVersion => StatusCode::BAD_REQUEST,
            Self::Versions { .. } => StatusCode::FORBIDDEN,
            Self::NoPod => StatusCode::NOT_FOUND,
            Self::OtherPod(_) | Self::NoContainer(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Headers that belong to the answer, beside `Connection: close`, which every one needs: the API server dials one
    /// connection an upgrade, and closes it late.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Versions { server, .. } => {
                server.iter().map(|version| ("x-accepted-stream-protocol-versions", *version)).collect()
            }
            Self::Busy => vec![("retry-after", "5")],
            Self::NoStreams
            | Self::Query(_)
            | Self::NoUpgrade
            | Self::NoVersion
            | Self::NoPod
            | Self::OtherPod(_)
            | Self::NoContainer(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_a_kubelets() {
        for (refused, status, words) in [
            (Refused::NoStreams, 400, "you must specify at least 1 of stdin, stdout, stderr"),
            (Refused::NoContainer("c".to_owned()), 500, "container not found (\"c\")"),
            (Refused::OtherPod("p_ns".to_owned()), 500, "pod not found (\"p_ns\")"),
            (Refused::NoPod, 404, "pod does not exist"),
        ] {
            assert_eq!((refused.status().as_u16(), refused.to_string().as_str()), (status, words));
        }
        let versions = Refused::Versions { client: vec!["v9".to_owned()], server: COMMAND_VERSIONS.to_vec() };
        assert_eq!((versions.status().as_u16(), versions.headers().len()), (403, 4));
        assert_eq!(Refused::Busy.headers(), [("retry-after", "5")]);
    }
}
