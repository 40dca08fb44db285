//! What to do next about the serving certificate, and what to tell about it. Pure: the time is an argument.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::node::events::Told;
use crate::pod::reasons;

/// A person may be watching right after the request was made; later nobody is.
const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(30);
const WATCHED: SignedDuration = SignedDuration::from_mins(5);
/// A refusal was somebody's decision: the same question is not put again at once.
const REFUSED: Duration = Duration::from_hours(1);
/// The longest wait, so that a clock that leaps is noticed.
const LOOK: Duration = Duration::from_hours(1);
/// How long a signer may take once the request is approved; the cluster's own takes a second.
const SIGNING: SignedDuration = SignedDuration::from_mins(1);
/// Events are forgotten by the API server after an hour; what still holds is then told again.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// When a certificate begins, ends, and is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) renew_at: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Lifetime {
    /// Renewal at 70 to 90 % of the lifetime, as kubelets have it; `jitter`, of 0 to 1, says where between.
    pub(super) fn new(not_before: Timestamp, not_after: Timestamp, jitter: f64) -> Self {
        let whole = not_before.duration_until(not_after).as_secs_f64().max(0.0);
        let used = (whole * (0.7 + 0.2 * jitter.clamp(0.0, 1.0))).round();
        let renew_at = SignedDuration::try_from_secs_f64(used)
            .ok()
            .and_then(|used| not_before.checked_add(used).ok())
            .unwrap_or(not_after);
        Self { renew_at, not_after }
    }
}

/// How our request stands at the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody has looked at it.
    Pending,
    /// Somebody approved it, and the signer has not signed yet.
    Approved,
    /// There is a certificate.
    Issued,
    /// An approver said no, a signer failed, or what came back is no use to us; and why.
    Refused(String),
    /// Somebody, or the cluster's own tidying after a day, deleted it.
    Gone,
}

/// The request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) since: Timestamp,
    pub(super) verdict: &'a Verdict,
}

/// Everything that is known at one look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) now: Timestamp,
    /// The issued certificate in use; none means a self-signed one.
    pub(super) serving: Option<Lifetime>,
    pub(super) asked: Option<Asked<'a>>,
    /// No request before that.
    pub(super) rest_until: Option<Timestamp>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a key and a request.
    Ask,
    /// Fetch the certificate and use it.
    Take,
    /// The request is over; rest before the next.
    Forget(Duration),
    /// Look again.
    Wait(Duration),
}

/// The next step.
pub(super) fn decide(seen: &Seen<'_>) -> Step {
    let until =
        |at: Timestamp| Duration::try_from(seen.now.duration_until(at)).ok().filter(|left| !left.is_zero());
    match seen.asked.map(|asked| (asked.verdict, seen.now.duration_since(asked.since))) {
        Some((Verdict::Pending | Verdict::Approved, age)) if age < WATCHED => Step::Wait(SOON),
        Some((Verdict::Pending | Verdict::Approved, _)) => Step::Wait(LATER),
        Some((Verdict::Issued, _)) => Step::Take,
        Some((Verdict::Refused(_), _)) => Step::Forget(REFUSED),
        Some((Verdict::Gone, _)) => Step::Forget(LATER),
        None => {
            let due = seen.serving.and_then(|serving| until(serving.renew_at));
            let rest = seen.rest_until.and_then(until);
            due.max(rest).map_or(Step::Ask, |left| Step::Wait(left.min(LOOK)))
        }
    }
}

/// What of it is worth telling, given what was told last and when.
pub(super) fn tell(seen: &Seen<'_>, signer: &str, before: Option<(&Told, Timestamp)>) -> Option<Told> {
    let asked = seen.asked?;
    let name = asked.name;
    let age = seen.now.duration_since(asked.since);
    let meanwhile = match seen.serving {
        None => "the endpoint serves a self-signed certificate meanwhile, which an API server with \
                 --kubelet-certificate-authority refuses"
            .to_owned(),
        Some(serving) => format!("the certificate in use ends at {}", serving.not_after),
    };
    let warning = |reason, message| Told { kind: "Warning", reason, message };
    let told = match asked.verdict {
        Verdict::Pending => warning(
            reasons::CERTIFICATE_PENDING,
            format!("approve the request with `kubectl certificate approve {name}`; {meanwhile}"),
        ),
        Verdict::Approved if age > SIGNING => warning(
            reasons::CERTIFICATE_PENDING,
            format!(
                "the request {name} is approved, and `{signer}` has not signed it: does this cluster run that signer? \
                 (kubelet.tls.signer); {meanwhile}"
            ),
        ),
        Verdict::Refused(why) => warning(
            reasons::CERTIFICATE_REFUSED,
            format!("the request {name} is refused: {why}; {meanwhile}"),
        ),
        Verdict::Approved | Verdict::Issued | Verdict::Gone => return None,
    };
    let known = before.is_some_and(|(before, at)| *before == told && seen.now.duration_since(at) < AGAIN);
    (!known).then_some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn seen(now: i64) -> Seen<'static> {
        Seen { now: at(now), serving: None, asked: None, rest_until: None }
    }

    fn asked(now: i64, verdict: &Verdict) -> Seen<'_> {
        let asked = Some(Asked { name: "csr-1", since: at(0), verdict });
        Seen { now: at(now), serving: None, asked, rest_until: None }
    }

    #[test]
    fn without_a_certificate_one_is_asked_for_at_once() {
        assert_eq!(decide(&seen(0)), Step::Ask);
    }

    #[test]
    fn a_certificate_is_renewed_between_70_and_90_percent_of_its_life() {
        let day = 86_400;
        for (jitter, renewal) in [(0.0, 70), (0.5, 80), (1.0, 90)] {
            let serving = Lifetime::new(at(0), at(100 * day), jitter);
            assert_eq!(serving.renew_at, at(renewal * day), "{jitter}");
            let look = |now| decide(&Seen { serving: Some(serving), ..seen(now) });
            assert_eq!(look(renewal * day - 60), Step::Wait(Duration::from_secs(60)));
            assert_eq!(look(renewal * day), Step::Ask);
            assert_eq!(look(101 * day), Step::Ask, "an expired one is replaced as well");
            assert_eq!(look(0), Step::Wait(LOOK), "no wait is so long that a leap of the clock is missed");
        }
    }

    #[test]
    fn a_certificate_of_no_length_is_replaced_without_arithmetic_trouble() {
        assert_eq!(Lifetime::new(at(10), at(0), 0.5).renew_at, at(10));
        let ever = Lifetime::new(Timestamp::MIN, Timestamp::MAX, 1.0);
        assert!(ever.renew_at < Timestamp::MAX);
    }

    #[test]
    fn a_request_is_watched_closely_first_and_never_repeated_while_it_stands() {
        for verdict in [Verdict::Pending, Verdict::Approved] {
            assert_eq!(decide(&asked(0, &verdict)), Step::Wait(SOON));
            assert_eq!(decide(&asked(299, &verdict)), Step::Wait(SOON));
            assert_eq!(decide(&asked(300, &verdict)), Step::Wait(LATER));
            assert_eq!(decide(&asked(80_000, &verdict)), Step::Wait(LATER));
        }
        assert_eq!(decide(&asked(1, &Verdict::Issued)), Step::Take);
    }

    #[test]
    fn a_refusal_is_respected_for_an_hour_and_a_deleted_request_is_made_again_soon() {
        assert_eq!(decide(&asked(1, &Verdict::Refused("no".to_owned()))), Step::Forget(REFUSED));
        assert_eq!(decide(&asked(1, &Verdict::Gone)), Step::Forget(LATER));
        let resting = |now| decide(&Seen { rest_until: Some(at(3600)), ..seen(now) });
        assert_eq!(resting(3000), Step::Wait(Duration::from_secs(600)));
        assert_eq!(resting(3600), Step::Ask);
    }

    #[test]
    fn what_waits_for_a_person_is_told_once_an_hour_with_the_command_to_type() {
        let told = tell(&asked(0, &Verdict::Pending), "s/x", None).unwrap();
        assert_eq!(told.reason, reasons::CERTIFICATE_PENDING);
        assert!(told.message.contains("`kubectl certificate approve csr-1`"), "{}", told.message);
        let again = |now| tell(&asked(now, &Verdict::Pending), "s/x", Some((&told, at(0))));
        assert_eq!(again(3599), None);
        assert_eq!(again(3600), Some(told.clone()));
    }

    #[test]
    fn a_signer_that_does_not_sign_is_named_and_a_refusal_says_why() {
        assert_eq!(tell(&asked(30, &Verdict::Approved), "s/x", None), None);
        let slow = tell(&asked(61, &Verdict::Approved), "s/x", None).unwrap();
        assert!(slow.message.contains("`s/x` has not signed it"), "{}", slow.message);
        let refused = tell(&asked(1, &Verdict::Refused("not mine".to_owned())), "s/x", None).unwrap();
        assert_eq!(refused.reason, reasons::CERTIFICATE_REFUSED);
        assert!(refused.message.contains("not mine"));
        assert_eq!(tell(&asked(1, &Verdict::Issued), "s/x", None), None);
    }

    #[test]
    fn a_renewal_that_waits_says_when_the_old_certificate_ends() {
        let serving = Some(Lifetime { renew_at: at(0), not_after: at(500) });
        let told = tell(&Seen { serving, ..asked(1, &Verdict::Pending) }, "s/x", None).unwrap();
        assert!(told.message.ends_with(&format!("ends at {}", at(500))), "{}", told.message);
    }
}
