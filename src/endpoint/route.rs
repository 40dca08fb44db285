//! A request path of the kubelet API, parsed once. Pure.

use super::error::ApiError;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/healthz` and the checks below it.
    Healthz,
    /// `/pods`.
    Pods,
    /// `/containerLogs/{namespace}/{pod}/{container}`.
    ContainerLogs { namespace: String, pod: String, container: String },
    /// `/exec`, `/attach`, `/portForward`, with or without a UID.
    Stream {
        kind: StreamKind,
        namespace: String,
        pod: String,
        uid: Option<String>,
        container: Option<String>,
    },
    /// `/metrics/…`.
    Metrics { family: String },
    /// `/stats/…`.
    Stats { page: String },
    /// Anything else: authorized as `proxy`, then 404.
    Other,
}

/// The upgraded connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    Exec,
    Attach,
    PortForward,
}

impl Route {
    /// Parses a path. Paths that a proxy and a server could read differently (`.`, `..`, empty or encoded
    /// segments) are refused.
    pub fn parse(path: &str) -> Result<Self, ApiError> {
        let trimmed = path.strip_prefix('/').unwrap_or(path);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let segments: Vec<&str> = trimmed.split('/').collect();
        let odd =
            |segment: &&str| segment.is_empty() || matches!(*segment, "." | "..") || segment.contains('%');
        if !trimmed.is_empty() && segments.iter().any(odd) {
            return Err(ApiError::bad_request(format!("path `{path}` is not a plain kubelet path")));
        }
        let own = |segment: &str| segment.to_owned();
        Ok(match segments.as_slice() {
            ["healthz", ..] => Self::Healthz,
            ["pods"] => Self::Pods,
            ["metrics"] => Self::Metrics { family: String::new() },
            ["metrics", family] => Self::Metrics { family: own(family) },
            ["stats", pages @ ..] => Self::Stats { page: pages.join("/") },
            ["containerLogs", namespace, pod, container] => {
                Self::ContainerLogs { namespace: own(namespace), pod: own(pod), container: own(container) }
            }
            [kind @ ("exec" | "attach"), namespace, pod, rest @ ..] => {
                let kind = if *kind == "exec" { StreamKind::Exec } else { StreamKind::Attach };
                let (uid, container) = match rest {
                    [container] => (None, own(container)),
                    [uid, container] => (Some(own(uid)), own(container)),
                    _ => return Ok(Self::Other),
                };
                Self::Stream {
                    kind,
                    namespace: own(namespace),
                    pod: own(pod),
                    uid,
                    container: Some(container),
                }
            }
            ["portForward", namespace, pod, rest @ ..] => {
                let uid = match rest {
                    [] => None,
                    [uid] => Some(own(uid)),
                    _ => return Ok(Self::Other),
                };
                let kind = StreamKind::PortForward;
                Self::Stream { kind, namespace: own(namespace), pod: own(pod), uid, container: None }
            }
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_parsed_with_and_without_a_uid() {
        let exec = |uid: Option<&str>| Route::Stream {
            kind: StreamKind::Exec,
            namespace: "ns".into(),
            pod: "p".into(),
            uid: uid.map(Into::into),
            container: Some("c".into()),
        };
        assert_eq!(Route::parse("/exec/ns/p/c").unwrap(), exec(None));
        assert_eq!(Route::parse("/exec/ns/p/u-1/c").unwrap(), exec(Some("u-1")));
        assert_eq!(Route::parse("/exec/ns/p/u-1/c/more").unwrap(), Route::Other);
        assert!(matches!(
            Route::parse("/portForward/ns/p/u-1").unwrap(),
            Route::Stream { kind: StreamKind::PortForward, uid: Some(_), container: None, .. }
        ));
    }

    #[test]
    fn paths_that_could_be_read_in_two_ways_are_refused() {
        for path in
            ["/exec/ns/../c", "/pods/%2e%2e/exec", "/containerLogs/ns//c", "/exec/ns/p%2Fq/c", "//pods"]
        {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn unknown_paths_are_other() {
        for path in ["/", "/run/ns/p/c", "/configz", "/exec", "/exec/ns/p", "/containerLogs/ns/p"] {
            assert_eq!(Route::parse(path).unwrap(), Route::Other, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_parsed_or_refused_and_names_hold_no_slash(path in "[/.%a-zA-Z0-9-]{0,60}", any: String) {
            drop(Route::parse(&any));
            if let Ok(Route::ContainerLogs { namespace, pod, container }) =
                Route::parse(&format!("/containerLogs/{path}"))
            {
                for name in [namespace, pod, container] {
                    proptest::prop_assert!(!name.is_empty() && !name.contains(['/', '%']) && name != "..");
                }
            }
        }
    }
}
