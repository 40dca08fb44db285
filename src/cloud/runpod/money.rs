//! Whether the account can pay for one more pod, and who waits while it cannot: a breaker for what fails for everybody.
//!
//! Pure, time is an argument. A creation that cannot be paid for would be refused by RunPod too, or worse: be taken, and
//! everything be stopped when the credits end. What is not known stops nobody.

use std::time::Duration;

use tokio::time::Instant;

use super::balance::Balance;
use super::errors::{Kind, Refusal};
use crate::capacity::money::MicroUsd;

/// What the configuration says of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thrift {
    /// The credits must last for so long, the new pod included.
    pub min_runway: Duration,
    /// What the account may spend per hour, beside its own limit.
    pub spend_limit: Option<MicroUsd>,
}

/// Whether one more pod of this price can be paid for.
pub(super) fn afford(balance: Balance, price: Option<MicroUsd>, thrift: Thrift) -> Result<(), Refusal> {
    let spend = MicroUsd(balance.spend.0.saturating_add(price.unwrap_or_default().0));
    for (limit, whose) in
        [(thrift.spend_limit, "runpod.spendLimit"), (balance.limit, "the account's spend limit")]
    {
        if let Some(limit) = limit.filter(|limit| spend > *limit) {
            let text = format!("the account would spend ${spend} per hour, and {whose} is ${limit}");
            return Err(Refusal::new(Kind::SpendLimit, text));
        }
    }
    let needed = u128::from(spend.0) * thrift.min_runway.as_millis() / 3_600_000;
    let is_owing = balance.credits == MicroUsd::default() && !thrift.min_runway.is_zero();
    if is_owing || u128::from(balance.credits.0) < needed {
        let text = format!(
            "the account has ${}, which at ${spend} per hour does not last for {:?} (runpod.minRunway)",
            balance.credits, thrift.min_runway
        );
        return Err(Refusal::new(Kind::Balance, text));
    }
    Ok(())
}

/// From one probe to the next: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(900));
/// A probe that has not answered for so long is no obstacle to the next.
const PROBE: Duration = Duration::from_secs(120);

/// Creations wait for all pods while the key is not taken, or the money is gone. Closed at first.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    refusal: Refusal,
    next_probe: Instant,
    /// Probes that failed.
    probes: u32,
}

impl Breaker {
    /// Why a creation would not be let through now.
    pub(super) fn waits(&self, now: Instant) -> Option<&Refusal> {
        self.open.as_ref().filter(|open| now < open.next_probe).map(|open| &open.refusal)
    }

    /// Lets a creation through, as the probe if it is open.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Refusal> {
        match &mut self.open {
            Some(open) if now < open.next_probe => Err(open.refusal.clone()),
            Some(open) => {
                open.next_probe = now + PROBE;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the answer to a creation that was let through.
    pub(super) fn note(&mut self, refusal: Option<&Refusal>, now: Instant) {
        let Some(refusal) = refusal else {
            self.open = None;
            return;
        };
        if is_everybodys(refusal.kind) {
            let probes = self.open.as_ref().map_or(0, |open| open.probes.saturating_add(1));
            let pause = PAUSES.0.saturating_mul(1 << probes.min(16)).min(PAUSES.1);
            self.open = Some(Open { refusal: refusal.clone(), next_probe: now + pause, probes });
        } else if is_about_the_order(refusal.kind) {
            self.open = None;
        } else if let Some(open) = &mut self.open {
            // It says nothing of what the trouble is about.
            open.next_probe = now + PAUSES.0;
        }
    }

    /// The cause is removed, as far as anybody knows.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Why creations wait, if they do.
    pub(super) fn trouble(&self) -> Option<&Refusal> {
        self.open.as_ref().map(|open| &open.refusal)
    }
}

fn is_everybodys(kind: Kind) -> bool {
    matches!(kind, Kind::Balance | Kind::SpendLimit | Kind::Key | Kind::KeyScope | Kind::NoKey)
}

/// The order itself was looked at, which takes a key and comes after the money.
fn is_about_the_order(kind: Kind) -> bool {
    matches!(kind, Kind::NoCapacity | Kind::Pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn mk_balance(credits: u64, spend: u64, limit: Option<u64>) -> Balance {
        let dollars = |amount: u64| MicroUsd(amount * 1_000_000);
        Balance { credits: dollars(credits), spend: dollars(spend), limit: limit.map(dollars) }
    }

    #[test]
    fn credits_must_last_for_the_runway_with_the_new_pod_in_it() {
        let kind = |balance, price: u64, runway, limit: Option<u64>| {
            let thrift =
                Thrift { min_runway: runway, spend_limit: limit.map(|limit| MicroUsd(limit * 1_000_000)) };
            afford(balance, Some(MicroUsd(price * 1_000_000)), thrift).err().map(|refusal| refusal.kind)
        };
        assert_eq!(kind(mk_balance(10, 8, None), 2, HOUR, None), None);
        assert_eq!(kind(mk_balance(10, 8, None), 3, HOUR, None), Some(Kind::Balance));
        assert_eq!(kind(mk_balance(10, 8, None), 3, HOUR / 2, None), None);
        assert_eq!(kind(mk_balance(0, 0, None), 0, HOUR, None), Some(Kind::Balance));
        assert_eq!(kind(mk_balance(0, 9, None), 9, Duration::ZERO, None), None, "RunPod says it");
        assert_eq!(kind(mk_balance(1000, 78, Some(80)), 2, HOUR, None), None);
        assert_eq!(kind(mk_balance(1000, 79, Some(80)), 2, HOUR, None), Some(Kind::SpendLimit));
        assert_eq!(kind(mk_balance(1000, 9, Some(80)), 2, HOUR, Some(10)), Some(Kind::SpendLimit));
        let unknown = Thrift { min_runway: HOUR, spend_limit: None };
        assert_eq!(afford(mk_balance(1, 1, None), None, unknown), Ok(()), "an unknown price counts nothing");
        assert_eq!(kind(mk_balance(u64::MAX / 2_000_000, 1, None), 1, HOUR * 87_600, None), None);
    }

    #[test]
    fn money_that_is_gone_costs_a_probe_now_and_then() {
        let gone = Refusal::new(Kind::Balance, "gone");
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.note(Some(&gone), now);
        assert_eq!(breaker.trouble(), Some(&gone));
        for seconds in [30, 60, 120, 240, 480, 900, 900] {
            assert_eq!(breaker.admit(now + Duration::from_secs(seconds - 1)), Err(gone.clone()));
            now += Duration::from_secs(seconds);
            assert_eq!(breaker.admit(now), Ok(()));
            assert_eq!(breaker.admit(now), Err(gone.clone()), "a second one beside the probe");
            breaker.note(Some(&gone), now);
        }
        now += Duration::from_secs(900);
        assert_eq!(breaker.admit(now), Ok(()));
        // A probe that never answers holds nobody up.
        assert_eq!(breaker.admit(now + PROBE), Ok(()));
        breaker.note(None, now);
        assert!(breaker.admit(now).is_ok() && breaker.trouble().is_none());
    }

    #[test]
    fn only_an_answer_to_the_order_itself_ends_the_trouble() {
        let (now, key) = (Instant::now(), Refusal::new(Kind::Key, "no"));
        let open = || {
            let mut breaker = Breaker::default();
            breaker.note(Some(&key), now);
            breaker
        };
        for (kind, ends) in [
            (Kind::NoCapacity, true),
            (Kind::Pool, true),
            (Kind::Unknown, false),
            (Kind::Schema, false),
            (Kind::Throttled(HOUR), false),
        ] {
            let mut breaker = open();
            breaker.note(Some(&Refusal::new(kind, "")), now);
            assert_eq!(breaker.trouble().is_none(), ends, "{kind:?}");
        }
        let mut closed = Breaker::default();
        closed.note(Some(&Refusal::new(Kind::Unknown, "")), now);
        assert!(closed.admit(now).is_ok());
    }
}
