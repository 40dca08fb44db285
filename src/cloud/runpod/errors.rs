//! What RunPod answers instead of doing it, sorted by what the caller does next. One function, no I/O.
//!
//! Its errors have no codes, only a status and a text in English (`detail` of problem+json), so that the text decides
//! where one status stands for several things: <https://docs.runpod.io/api-reference-v2/pods/create-a-pod>.

use std::time::Duration;

use http::Method;

use crate::cloud::CloudError;

/// Codes of the [`CloudError`]s that this adapter makes, so that others can tell them apart.
pub mod codes {
    /// Nothing of that kind is free: another candidate.
    pub const NO_INSTANCES: &str = "NoInstances";
    /// What was given is less than what was asked for, and was given back: another candidate.
    pub const TOO_SMALL: &str = "HostTooSmall";
    /// The account may not use that pool: another candidate, and this one not for an hour.
    pub const POOL: &str = "PoolNotAccessible";
    /// A rule between fields is broken, or there is no capacity in words that nobody listed: when every candidate is
    /// refused so, it is the request.
    pub const RULE: &str = "RequestRefused";
    /// The account has no money left for it.
    pub const BALANCE: &str = "InsufficientBalance";
    /// The account, or the configuration, allows no more spending per hour.
    pub const SPEND_LIMIT: &str = "SpendLimitReached";
    /// The API key is not known.
    pub const KEY: &str = "InvalidApiKey";
    /// There is no API key to call with.
    pub const NO_KEY: &str = "NoApiKey";
    /// The API key may not do that.
    pub const KEY_SCOPE: &str = "KeyNotAllowed";
    /// Not there, or not this account's.
    pub const NOT_FOUND: &str = "NotFound";
    /// Not in this state.
    pub const CONFLICT: &str = "Conflict";
    /// Larger than RunPod takes.
    pub const TOO_LARGE: &str = "RequestTooLarge";
    /// Not what the API's schema says.
    pub const SCHEMA: &str = "RequestInvalid";
    /// Too many requests.
    pub const RATE: &str = "RateLimited";
    /// It may have been done.
    pub const UNKNOWN: &str = "OutcomeUnknown";
    /// No connection: nothing was sent.
    pub const UNREACHABLE: &str = "Unreachable";
    /// No answer in time, to a call that may be repeated.
    pub const TIMEOUT: &str = "Timeout";
    /// The server failed, in a call that may be repeated.
    pub const SERVER: &str = "ServerError";
    /// An answer that cannot be read, or that lacks what it must have.
    pub const UNREADABLE: &str = "UnreadableAnswer";
    /// RunPod's pods have no tags.
    pub const NO_TAGS: &str = "NoTags";
    /// This process does not lead.
    pub const NOT_LEADING: &str = "NotLeading";
    /// Not one of this cluster and node.
    pub const NOT_OURS: &str = "NotOurs";
}

/// A pod was refused for want of capacity, if the text has one of these; compared in lower case.
pub(super) const CAPACITY: [&str; 9] = [
    "no longer any instances available with the requested specifications",
    "no longer any instances available with the request specifications",
    "no longer any instances available with enough disk space",
    "this machine does not have the resources to deploy your pod",
    "not enough free gpus on the host machine",
    "insufficient capacity",
    "no instances",
    "resourcesunavailable",
    "no resources available",
];
/// A key is meant and not a pool of machines.
const OF_THE_KEY: [&str; 6] = ["read-only", "read only", "scope", "permission", "api key", "token"];
/// The limit for spending is meant and not the balance.
const OF_THE_LIMIT: [&str; 3] = ["spend limit", "spending limit", "spendlimit"];
/// Without `Retry-After`.
const PAUSE: Duration = Duration::from_secs(5);

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    /// RunPod's own words, on one line.
    pub(super) detail: String,
}

/// What is refused, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NoCapacity,
    Pool,
    Rule,
    Balance,
    SpendLimit,
    Key,
    KeyScope,
    NotFound,
    Conflict,
    TooLarge,
    Schema,
    /// It was not looked at, so that any call may be repeated after this.
    Throttled(Duration),
    /// It may have been done.
    Unknown,
    /// It may be repeated.
    Server,
    /// No connection was made: it was not sent.
    Unreachable,
    /// No answer in time, to a call that may be repeated.
    Timeout,
    /// The answer is not what it must be, to a call that may be repeated.
    Unreadable,
    /// There is no key to call with.
    NoKey,
    /// This process may not change anything now: it was not sent.
    Fenced,
}

/// What a status other than 2xx means. `detail` is the text of the problem, `retry_after` the header of that name.
pub(super) fn classify(method: &Method, status: u16, detail: &str, retry_after: Option<Duration>) -> Refusal {
    let text = detail.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    let creates = *method == Method::POST;
    let kind = match status {
        400 if creates && says(&CAPACITY) => Kind::NoCapacity,
        400 => Kind::Rule,
        401 => Kind::Key,
        402 if says(&OF_THE_LIMIT) => Kind::SpendLimit,
        402 => Kind::Balance,
        403 if creates && !says(&OF_THE_KEY) => Kind::Pool,
        403 => Kind::KeyScope,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        413 => Kind::TooLarge,
        422 => Kind::Schema,
        429 => Kind::Throttled(retry_after.unwrap_or(PAUSE)),
        408 | 500.. if creates => Kind::Unknown,
        408 | 500.. => Kind::Server,
        // Other statuses of 4xx are about the request; redirections are not followed.
        _ => Kind::Schema,
    };
    let detail = if detail.is_empty() { format!("HTTP status {status}") } else { detail.to_owned() };
    Refusal { kind, detail }
}

impl Refusal {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Whether nobody knows if it was done.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.kind == Kind::Unknown
    }

    /// In the words of the port.
    pub(super) fn into_error(self) -> CloudError {
        let Self { kind, detail: message } = self;
        let code = kind.code().to_owned();
        match kind {
            Kind::NoCapacity | Kind::Pool => CloudError::NoCapacity { code, message },
            Kind::Balance | Kind::SpendLimit => CloudError::Quota { code, message },
            Kind::Key | Kind::KeyScope | Kind::NoKey => CloudError::Denied { code, message },
            Kind::NotFound => CloudError::NotFound { code, message },
            Kind::Rule | Kind::TooLarge | Kind::Schema => CloudError::Invalid { code, message },
            Kind::Throttled(_) => CloudError::Throttled { code, message },
            Kind::Conflict
            | Kind::Unknown
            | Kind::Server
            | Kind::Unreachable
            | Kind::Timeout
            | Kind::Unreadable
            | Kind::Fenced => CloudError::Transient { code, message },
        }
    }
}

impl Kind {
    fn code(self) -> &'static str {
        match self {
            Self::NoCapacity => codes::NO_INSTANCES,
            Self::Pool => codes::POOL,
            Self::Rule => codes::RULE,
            Self::Balance => codes::BALANCE,
            Self::SpendLimit => codes::SPEND_LIMIT,
            Self::Key => codes::KEY,
            Self::KeyScope => codes::KEY_SCOPE,
            Self::NotFound => codes::NOT_FOUND,
            Self::Conflict => codes::CONFLICT,
            Self::TooLarge => codes::TOO_LARGE,
            Self::Schema => codes::SCHEMA,
            Self::Throttled(_) => codes::RATE,
            Self::Unknown => codes::UNKNOWN,
            Self::Server => codes::SERVER,
            Self::Unreachable => codes::UNREACHABLE,
            Self::Timeout => codes::TIMEOUT,
            Self::Unreadable => codes::UNREADABLE,
            Self::NoKey => codes::NO_KEY,
            Self::Fenced => codes::NOT_LEADING,
        }
    }
}

/// Whether a status means what it says only together with RunPod's own form of it.
pub(super) fn needs_a_problem(status: u16) -> bool {
    matches!(status, 300..=400 | 403..=412 | 414..=421 | 423..=428 | 430..=499)
}

/// Whether a body is RunPod's form of an error.
pub(super) fn is_problem(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|problem| problem.is_object())
}

/// The text of a problem, on one line and not too long: `detail`, and the `errors` that a schema makes.
pub(super) fn detail_of(body: &[u8]) -> String {
    /// What a status message of a pod has room for.
    const LONGEST: usize = 400;
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| problem.get(key).and_then(serde_json::Value::as_str);
    let said = text("detail").or_else(|| text("message")).or_else(|| text("error")).or_else(|| text("title"));
    let errors = problem.get("errors").and_then(serde_json::Value::as_array).into_iter().flatten();
    let errors = errors.filter_map(|error| error.as_str().or_else(|| error.get("message")?.as_str()));
    let all: Vec<&str> = said.into_iter().chain(errors).collect();
    // A proxy's page is not worth telling, but for its first words.
    let all = if all.is_empty() {
        String::from_utf8_lossy(&body[..body.len().min(LONGEST)]).into()
    } else {
        all.join("; ")
    };
    let line: Vec<&str> =
        all.split(|c: char| c.is_whitespace() || c.is_control()).filter(|it| !it.is_empty()).collect();
    let line = line.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &Method, status: u16, detail: &str) -> (&'static str, String) {
        let error = classify(method, status, detail, None).into_error();
        (error.kind(), error.code().to_owned())
    }

    #[test]
    fn each_status_says_what_the_caller_does_next() {
        let (post, get, delete) = (&Method::POST, &Method::GET, &Method::DELETE);
        for (method, status, detail, expected, code) in [
            (post, 400, "gpu and cpu are mutually exclusive", "invalid", codes::RULE),
            (get, 400, "insufficient capacity", "invalid", codes::RULE),
            (post, 401, "missing bearer token", "denied", codes::KEY),
            (get, 401, "", "denied", codes::KEY),
            (delete, 401, "", "denied", codes::KEY),
            (post, 402, "Insufficient balance", "quota", codes::BALANCE),
            (post, 402, "You have reached your Spend Limit of $80/hr", "quota", codes::SPEND_LIMIT),
            (post, 402, "spending limit exceeded", "quota", codes::SPEND_LIMIT),
            (post, 403, "access denied", "no_capacity", codes::POOL),
            (post, 403, "your account cannot access this pool", "no_capacity", codes::POOL),
            (post, 403, "this API key is read-only", "denied", codes::KEY_SCOPE),
            (post, 403, "missing scope pods:write", "denied", codes::KEY_SCOPE),
            (get, 403, "access denied", "denied", codes::KEY_SCOPE),
            (delete, 403, "access denied", "denied", codes::KEY_SCOPE),
            (post, 404, "registry not found", "not_found", codes::NOT_FOUND),
            (get, 404, "pod not found", "not_found", codes::NOT_FOUND),
            (delete, 404, "pod not found to terminate", "not_found", codes::NOT_FOUND),
            (delete, 409, "pod belongs to a cluster", "transient", codes::CONFLICT),
            (post, 413, "body over 102400 bytes", "invalid", codes::TOO_LARGE),
            (post, 422, "additional properties 'x' not allowed", "invalid", codes::SCHEMA),
            (post, 405, "", "invalid", codes::SCHEMA),
            (get, 302, "", "invalid", codes::SCHEMA),
            (post, 429, "rate limit exceeded for the minute window", "throttled", codes::RATE),
            (get, 429, "", "throttled", codes::RATE),
            (post, 500, "", "transient", codes::UNKNOWN),
            (post, 502, "", "transient", codes::UNKNOWN),
            (post, 504, "", "transient", codes::UNKNOWN),
            (post, 408, "", "transient", codes::UNKNOWN),
            (get, 500, "", "transient", codes::SERVER),
            (delete, 503, "", "transient", codes::SERVER),
        ] {
            let found = kind(method, status, detail);
            assert_eq!(found, (expected, code.to_owned()), "{method} {status} `{detail}`");
        }
    }

    #[test]
    fn each_phrase_of_a_want_of_capacity_is_known() {
        for phrase in [
            "There are no longer any instances available with the requested specifications. Please refresh and try again.",
            "There are no longer any instances available with the request specifications. Please try again later",
            "There are no longer any instances available with enough disk space.",
            "This machine does not have the resources to deploy your pod. Please try a different machine",
            "There are not enough free GPUs on the host machine to start this pod.",
            "Insufficient capacity",
            "no instances",
            "ResourcesUnavailable",
            "no resources available in US-KS-2",
        ] {
            assert_eq!(
                kind(&Method::POST, 400, phrase),
                ("no_capacity", codes::NO_INSTANCES.to_owned()),
                "{phrase}"
            );
        }
    }

    #[test]
    fn only_what_may_have_been_done_is_ambiguous() {
        let ambiguous = |method: &Method, status| classify(method, status, "", None).is_ambiguous();
        assert!([500, 502, 503, 504, 408].into_iter().all(|status| ambiguous(&Method::POST, status)));
        assert!(
            [400, 401, 402, 403, 404, 409, 413, 422, 429]
                .into_iter()
                .all(|status| !ambiguous(&Method::POST, status))
        );
        assert!(!ambiguous(&Method::GET, 500) && !ambiguous(&Method::DELETE, 500));
    }

    #[test]
    fn the_time_to_wait_is_the_one_that_was_told() {
        let wait = |after| classify(&Method::POST, 429, "", after).kind;
        assert_eq!(wait(Some(Duration::from_secs(12))), Kind::Throttled(Duration::from_secs(12)));
        assert_eq!(wait(None), Kind::Throttled(PAUSE));
    }

    #[test]
    fn a_page_of_somebody_between_is_no_word_of_runpods() {
        assert!(is_problem(br#"{"title":"Not Found","status":404,"detail":"pod not found"}"#));
        for page in [&b"<html>404</html>"[..], b"", b"null", b"404 page not found"] {
            assert!(!is_problem(page));
        }
        for status in [302, 400, 403, 404, 409] {
            assert!(needs_a_problem(status), "{status}");
        }
        for status in [401, 402, 413, 422, 429, 500, 502] {
            assert!(!needs_a_problem(status), "{status}");
        }
    }

    #[test]
    fn problems_are_told_on_one_short_line() {
        let problem = r#"{"title":"Unprocessable Entity","status":422,"detail":"Request\nvalidation failed.",
            "errors":["$: additional properties 'bogus' not allowed", {"message":"$.disk: too small"}]}"#;
        assert_eq!(
            detail_of(problem.as_bytes()),
            "Request validation failed.; $: additional properties 'bogus' not allowed; $.disk: too small"
        );
        assert_eq!(detail_of(br#"{"error":"unauthorized","status":401}"#), "unauthorized");
        assert_eq!(detail_of(b"<html>\n<h1>502 Bad Gateway</h1>"), "<html> <h1>502 Bad Gateway</h1>");
        assert_eq!(detail_of(b""), "");
        let long = detail_of(format!(r#"{{"detail":"{}"}}"#, "ä".repeat(5000)).as_bytes());
        assert_eq!(long.chars().count(), 401);
        assert!(!detail_of(b"{\"detail\":\"a\\u001b[31mb\"}").contains('\u{1b}'));
    }
}
