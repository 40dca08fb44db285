//! Names in CloudWatch Logs: one group a cluster, and in it one stream for each run of each container.
//!
//! Pure. Limits are those of CreateLogGroup and CreateLogStream.

use std::fmt;
use std::str::FromStr;

/// Characters of a group's or a stream's name, at most.
pub const MAX_NAME: usize = 512;

/// A name that CloudWatch Logs would refuse, or that could not be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("`{0}` is no name of a log group: expected 1 to 512 of `A-Z a-z 0-9 . - _ / #`")]
    Group(String),
    #[error(
        "`{0}` cannot be part of a log stream's name: expected it not empty and without `/`, `:`, `*` and control characters"
    )]
    Part(String),
    #[error(
        "`{0}` is no log stream of ours: expected `namespace/pod/uid/container/restart` in at most 512 characters"
    )]
    Stream(String),
}

/// The group of a cluster's pods: `/orca/<cluster>/pods`.
///
/// # Errors
/// [`BadName::Group`].
pub fn group(cluster: &str) -> Result<String, BadName> {
    if cluster.is_empty() || cluster.contains('/') {
        return Err(BadName::Group(cluster.to_owned()));
    }
    check_group(format!("/orca/{cluster}/pods"))
}

/// A group's name as somebody configured it, if CloudWatch takes it.
///
/// # Errors
/// [`BadName::Group`].
pub fn check_group(name: String) -> Result<String, BadName> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_allowed) {
        Ok(name)
    } else {
        Err(BadName::Group(name))
    }
}

/// One run of one container. `Display` is the stream's name: `<namespace>/<pod>/<uid>/<container>/<restart>`.
///
/// What is no container but belongs to the pod takes a container's place with a name that no container can have:
/// [`KUBELET`] and [`CONSOLE`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    /// As in the name of its log file: 0 at first, one more with every restart.
    pub restart: u32,
}

/// Whether a container can have this name: a DNS label, as the API server checks it.
#[must_use]
pub fn is_container(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Stands in the container's place for what the machine's kubelet wrote.
pub const KUBELET: &str = "_kubelet";
/// Stands in the container's place for what the machine's console showed.
pub const CONSOLE: &str = "_console";

impl StreamName {
    /// # Errors
    /// [`BadName`] for what is no Kubernetes name anyway.
    pub fn new(
        namespace: &str,
        pod: &str,
        uid: &str,
        container: &str,
        restart: u32,
    ) -> Result<Self, BadName> {
        let own = |part: &str| {
            let is_refused = |char: char| matches!(char, '/' | ':' | '*') || char.is_control();
            if part.is_empty() || part.contains(is_refused) {
                return Err(BadName::Part(part.to_owned()));
            }
            Ok(part.to_owned())
        };
        let (namespace, pod, uid, container) = (own(namespace)?, own(pod)?, own(uid)?, own(container)?);
        let stream = Self { namespace, pod, uid, container, restart };
        let name = stream.to_string();
        if name.chars().count() > MAX_NAME { Err(BadName::Stream(name)) } else { Ok(stream) }
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    #[must_use]
    pub fn pod(&self) -> &str {
        &self.pod
    }

    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// With what the streams of this pod begin, by its UID, and no other's.
    #[must_use]
    pub fn prefix_of_pod(&self) -> String {
        format!("{}/{}/{}/", self.namespace, self.pod, self.uid)
    }

    /// With what the streams of all runs of this container begin, and no other's.
    #[must_use]
    pub fn prefix_of_container(&self) -> String {
        format!("{}{}/", self.prefix_of_pod(), self.container)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}/{}", self.namespace, self.pod, self.uid, self.container, self.restart)
    }
}

impl FromStr for StreamName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let bad = || BadName::Stream(name.to_owned());
        let mut parts = name.split('/');
        let mut part = || parts.next().ok_or_else(bad);
        let (namespace, pod, uid, container, restart) = (part()?, part()?, part()?, part()?, part()?);
        let stream = Self::new(namespace, pod, uid, container, restart.parse().map_err(|_| bad())?)?;
        // Only the one spelling: `+1` and `01` are other streams.
        if stream.to_string() == name { Ok(stream) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_and_read_back() {
        let stream = StreamName::new("ml", "train-0", "6f1c-uid", "main", 3).unwrap();
        assert_eq!(stream.to_string(), "ml/train-0/6f1c-uid/main/3");
        assert_eq!(stream.to_string().parse(), Ok(stream.clone()));
        assert_eq!(stream.prefix_of_pod(), "ml/train-0/6f1c-uid/");
        assert_eq!(stream.prefix_of_container(), "ml/train-0/6f1c-uid/main/");
        assert_eq!((stream.namespace(), stream.pod()), ("ml", "train-0"));
        assert_eq!((stream.uid(), stream.container()), ("6f1c-uid", "main"));
    }

    #[test]
    fn the_longest_names_of_kubernetes_fit() {
        let label = "a".repeat(63);
        let stream = StreamName::new(&label, &"p".repeat(253), &"u".repeat(36), &label, u32::MAX).unwrap();
        assert_eq!(stream.to_string().parse(), Ok(stream));
    }

    #[test]
    fn names_that_could_not_be_read_back_are_refused() {
        for part in ["", "a/b", "a:b", "a*b", "a\nb"] {
            assert_eq!(StreamName::new("ns", part, "u", "c", 0), Err(BadName::Part(part.to_owned())));
        }
        assert!(matches!(StreamName::new("ns", &"p".repeat(512), "u", "c", 0), Err(BadName::Stream(_))));
        for name in [
            "",
            "ns/p/u/c",
            "ns/p/u/c/",
            "ns/p/u/c/+1",
            "ns/p/u/c/01",
            "ns/p/u/c/1/",
            "ns/p/u/c/x",
            "/p/u/c/1",
        ] {
            assert!(name.parse::<StreamName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_group_is_named_after_its_cluster() {
        assert_eq!(group("prod.eu-1_a").as_deref(), Ok("/orca/prod.eu-1_a/pods"));
        for cluster in ["", "a b", "a/b", "ä", &"c".repeat(502)] {
            assert!(group(cluster).is_err(), "{cluster}");
        }
        assert!(check_group("/team/logs#1".to_owned()).is_ok());
        assert!(check_group(String::new()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_read_back_or_refused(name: String, parts in "[a-z/:*0-9+]{0,30}") {
            for name in [name, parts] {
                if let Ok(stream) = name.parse::<StreamName>() {
                    proptest::prop_assert_eq!(stream.to_string(), name);
                }
            }
        }
    }
}
