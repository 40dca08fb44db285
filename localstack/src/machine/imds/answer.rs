//! The rules of IMDS, request in and reply out: versions 1 and 2, tokens, listings. Pure but for random tokens;
//! the time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::tree::{Entry, Tree};
use crate::machine::{ImdsOptions, MachineSpec, Notices};

/// Six hours; more is refused, as on EC2.
const MAX_TOKEN_SECONDS: u64 = 21600;

/// A program that asks for a token per request must not fill the memory; the oldest are forgotten.
const MAX_TOKENS: usize = 4096;

/// One instance's metadata.
#[derive(Debug)]
pub(super) struct Metadata {
    instance: String,
    options: ImdsOptions,
    tree: Tree,
    user_data: Vec<u8>,
    /// Token to its end.
    tokens: HashMap<String, Instant>,
}

/// What matters of an HTTP request.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// `X-aws-ec2-metadata-token`
    pub(super) token: Option<&'a str>,
    /// `X-aws-ec2-metadata-token-ttl-seconds`
    pub(super) token_seconds: Option<&'a str>,
    /// `X-Forwarded-For`, which only a proxy adds
    pub(super) forwarded: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The header of that name, with a new token.
    pub(super) token_seconds: Option<u64>,
}

impl Reply {
    fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), token_seconds: None }
    }

    pub(super) fn not_found() -> Self {
        Self::text(404, "404 - Not Found\n")
    }
}

impl Metadata {
    pub(super) fn of(spec: &MachineSpec, started: Timestamp) -> Self {
        Self {
            instance: spec.id.clone(),
            options: spec.imds,
            tree: Tree::of(spec, started),
            user_data: spec.user_data.clone(),
            tokens: HashMap::new(),
        }
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn notify(&mut self, notices: Notices) {
        self.tree.notify(notices);
    }

    pub(super) fn answer(&mut self, asked: &Asked<'_>, now: Instant) -> Reply {
        match (asked.method, asked.path) {
            ("PUT", "/latest/api/token") => self.new_token(asked, now),
            ("GET" | "HEAD", path) => {
                let known = asked.token.map(|token| self.tokens.get(token).is_some_and(|end| now < *end));
                match (known, self.options.tokens_required) {
                    (Some(true), _) | (None, false) => self.read(path),
                    (Some(false), _) | (None, true) => Reply::text(401, "401 - Unauthorized\n"),
                }
            }
            _ => Reply::text(405, "405 - Method Not Allowed\n"),
        }
    }

    fn new_token(&mut self, asked: &Asked<'_>, now: Instant) -> Reply {
        if asked.forwarded {
            return Reply::text(403, "403 - Forbidden\n");
        }
        let seconds = asked.token_seconds.and_then(|seconds| seconds.parse::<u64>().ok());
        let Some(seconds) = seconds.filter(|seconds| (1..=MAX_TOKEN_SECONDS).contains(seconds)) else {
            return Reply::text(400, "400 - Bad Request\n");
        };
        self.tokens.retain(|_, end| now < *end);
        if self.tokens.len() >= MAX_TOKENS {
            let first = self.tokens.iter().min_by_key(|(_, end)| **end).map(|(token, _)| token.clone());
            first.and_then(|token| self.tokens.remove(&token));
        }
        let token = format!("{}{}==", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        self.tokens.insert(token.clone(), now + Duration::from_secs(seconds));
        Reply { status: 200, body: token.into_bytes(), token_seconds: Some(seconds) }
    }

    fn read(&self, path: &str) -> Reply {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let version = parts.next().unwrap_or_default();
        if version.is_empty() {
            return Reply::text(200, "1.0\n2009-04-04\n2016-09-02\n2021-03-23\nlatest");
        }
        if !is_version(version) {
            return Reply::not_found();
        }
        match parts.next().unwrap_or_default() {
            "" if self.user_data.is_empty() => Reply::text(200, "dynamic\nmeta-data"),
            "" => Reply::text(200, "dynamic\nmeta-data\nuser-data"),
            "user-data" | "user-data/" if self.user_data.is_empty() => Reply::not_found(),
            "user-data" | "user-data/" => Reply::text(200, self.user_data.clone()),
            rest => match self.tree.get(rest) {
                Entry::File(text) | Entry::Folder(text) => Reply::text(200, text),
                Entry::Missing => Reply::not_found(),
            },
        }
    }
}

/// `latest`, `1.0`, or a date such as `2021-03-23`.
fn is_version(text: &str) -> bool {
    text == "latest"
        || text == "1.0"
        || text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::mk_spec;

    const OPTIONAL: ImdsOptions = ImdsOptions { tokens_required: false, hop_limit: 1 };

    fn started() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    fn metadata(options: ImdsOptions) -> Metadata {
        Metadata::of(&MachineSpec { imds: options, ..mk_spec() }, started())
    }

    fn put_token<'a>(seconds: Option<&'a str>) -> Asked<'a> {
        Asked { method: "PUT", path: "/latest/api/token", token_seconds: seconds, ..Asked::default() }
    }

    fn get<'a>(path: &'a str, token: Option<&'a str>) -> Asked<'a> {
        Asked { method: "GET", path, token, ..Asked::default() }
    }

    fn read(path: &str) -> String {
        let reply = metadata(OPTIONAL).answer(&get(path, None), Instant::now());
        assert_eq!(reply.status, 200, "{path}");
        String::from_utf8(reply.body).unwrap()
    }

    fn status(path: &str) -> u16 {
        metadata(OPTIONAL).answer(&get(path, None), Instant::now()).status
    }

    #[test]
    fn where_tokens_are_required_only_a_token_of_this_instance_reads() {
        let now = Instant::now();
        let mut mine = metadata(mk_spec().imds);
        let mut other = metadata(mk_spec().imds);
        let token = String::from_utf8(mine.answer(&put_token(Some("60")), now).body).unwrap();
        let path = "/latest/meta-data/instance-id";
        assert_eq!(mine.answer(&get(path, None), now).status, 401);
        assert_eq!(mine.answer(&get(path, Some("nonsense")), now).status, 401);
        assert_eq!(other.answer(&get(path, Some(&token)), now).status, 401);
        assert_eq!(mine.answer(&get(path, Some(&token)), now).body, b"i-0123456789abcdef0");
    }

    #[test]
    fn where_tokens_are_optional_none_reads_and_a_wrong_one_does_not() {
        let mut metadata = metadata(OPTIONAL);
        let now = Instant::now();
        assert_eq!(metadata.answer(&get("/latest/meta-data/", None), now).status, 200);
        assert_eq!(metadata.answer(&get("/latest/meta-data/", Some("nonsense")), now).status, 401);
    }

    #[test]
    fn a_token_ends_when_it_was_asked_to() {
        let now = Instant::now();
        let mut metadata = metadata(mk_spec().imds);
        let reply = metadata.answer(&put_token(Some("2")), now);
        assert_eq!(reply.token_seconds, Some(2));
        let token = String::from_utf8(reply.body).unwrap();
        let asked = get("/latest/meta-data/mac", Some(&token));
        assert_eq!(metadata.answer(&asked, now + Duration::from_millis(1999)).status, 200);
        assert_eq!(metadata.answer(&asked, now + Duration::from_secs(2)).status, 401);
    }

    #[test]
    fn tokens_are_refused_without_a_life_in_range_and_through_a_proxy() {
        let mut metadata = metadata(mk_spec().imds);
        let mut ask = |asked: &Asked<'_>| metadata.answer(asked, Instant::now()).status;
        for wrong in [None, Some(""), Some("0"), Some("21601"), Some("-1"), Some("many")] {
            assert_eq!(ask(&put_token(wrong)), 400, "{wrong:?}");
        }
        assert_eq!(ask(&put_token(Some("21600"))), 200);
        assert_eq!(ask(&Asked { forwarded: true, ..put_token(Some("60")) }), 403);
        assert_eq!(ask(&Asked { method: "POST", ..put_token(Some("60")) }), 405);
    }

    #[test]
    fn a_flood_of_tokens_is_bounded_and_the_newest_works() {
        let now = Instant::now();
        let mut metadata = metadata(mk_spec().imds);
        let mut last = Vec::new();
        for _ in 0..MAX_TOKENS + 10 {
            last = metadata.answer(&put_token(Some("60")), now).body;
        }
        assert_eq!(metadata.tokens.len(), MAX_TOKENS);
        let token = String::from_utf8(last).unwrap();
        assert_eq!(metadata.answer(&get("/latest/", Some(&token)), now).status, 200);
    }

    #[test]
    fn folders_list_their_children_at_every_level_and_in_every_version() {
        assert_eq!(read("/latest/"), "dynamic\nmeta-data\nuser-data");
        assert_eq!(
            read("/2021-03-23/meta-data/placement/"),
            "availability-zone\navailability-zone-id\nregion"
        );
        assert_eq!(read("/latest/meta-data/network"), "interfaces/");
        assert_eq!(read("/latest/meta-data/network/interfaces/macs/"), "0a:00:0a:58:01:0a/");
        assert_eq!(read("/latest/meta-data/iam/security-credentials/"), "node");
        insta::assert_snapshot!(read("/1.0/meta-data/").replace('\n', " "), @"ami-id ami-launch-index hostname iam/ instance-action instance-id instance-life-cycle instance-type local-hostname local-ipv4 mac network/ placement/ reservation-id security-groups services/");
    }

    #[test]
    fn values_are_the_instances_own() {
        let interface = "/latest/meta-data/network/interfaces/macs/0a:00:0a:58:01:0a";
        for (path, value) in [
            ("/latest/meta-data/local-hostname".to_owned(), "ip-10-88-1-10.ec2.internal"),
            ("/latest/meta-data/placement/region".to_owned(), "us-east-1"),
            (format!("{interface}/local-ipv4s"), "10.88.1.10\n10.88.1.11"),
            (format!("{interface}/subnet-ipv4-cidr-block"), "10.88.1.0/24"),
            (format!("{interface}/vpc-ipv4-cidr-blocks"), "10.88.0.0/16"),
            ("/latest/user-data".to_owned(), "#cloud-boothook\n"),
        ] {
            assert_eq!(read(&path), value, "{path}");
        }
        let document: serde_json::Value =
            serde_json::from_str(&read("/latest/dynamic/instance-identity/document")).unwrap();
        assert_eq!(document["instanceId"], "i-0123456789abcdef0");
        assert_eq!(document["pendingTime"], "2026-01-31T12:00:00Z");
        let credentials: serde_json::Value =
            serde_json::from_str(&read("/latest/meta-data/iam/security-credentials/node")).unwrap();
        assert_eq!(credentials["Expiration"], "2026-01-31T18:00:00Z");
    }

    #[test]
    fn what_ec2_announces_is_there_from_then_on() {
        let mut metadata = metadata(OPTIONAL);
        let read = |metadata: &mut Metadata, path: &str| {
            let path = format!("/latest/meta-data/{path}");
            let reply = metadata.answer(&get(&path, None), Instant::now());
            (reply.status, String::from_utf8(reply.body).unwrap())
        };
        let paths =
            ["spot/instance-action", "spot/termination-time", "events/recommendations/rebalance", "spot/"];
        for path in paths {
            assert_eq!(read(&mut metadata, path).0, 404, "{path}");
        }
        let at = |text: &str| Some(text.parse().unwrap());
        let (interruption, rebalance) = (at("2026-01-31T12:02:00.9Z"), at("2026-01-31T11:00:00Z"));
        metadata.notify(Notices { interruption, rebalance });
        for (path, text) in [
            (paths[0], r#"{"action":"terminate","time":"2026-01-31T12:02:00Z"}"#),
            (paths[1], "2026-01-31T12:02:00Z"),
            (paths[2], r#"{"noticeTime":"2026-01-31T11:00:00Z"}"#),
            (paths[3], "instance-action\ntermination-time"),
        ] {
            assert_eq!(read(&mut metadata, path), (200, text.to_owned()), "{path}");
        }
        metadata.notify(Notices::default());
        assert_eq!(read(&mut metadata, paths[0]).0, 404);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in [
            "/latest/meta-data/spot/instance-action",
            "/latest/meta-data/tags/instance",
            "/latest/meta-data/instance-id/more",
            "/latest/meta-data/insta",
            "/earliest/meta-data/",
            "/latest/nothing",
        ] {
            assert_eq!(status(path), 404, "{path}");
        }
        let spec = MachineSpec { user_data: Vec::new(), role: None, imds: OPTIONAL, ..mk_spec() };
        let mut bare = Metadata::of(&spec, started());
        for path in ["/latest/user-data", "/latest/meta-data/iam/info", "/latest/meta-data/iam/"] {
            assert_eq!(bare.answer(&get(path, None), Instant::now()).status, 404, "{path}");
        }
    }
}
