//! Faults that tests ask for, and the record of every call, so that they can count them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::aws::Refusal;

/// Calls that are remembered one by one; the counts are complete.
const LOG: usize = 2000;

/// What goes wrong with the next calls of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Such as `RunInstances`, or `*` for any; `OpenDataChannel` for the WebSockets of SSM.
    pub action: String,
    /// For how many calls; default 1.
    #[serde(default = "once")]
    pub times: u32,
    /// Waits this long before acting. A caller that leaves meanwhile has not been heard.
    #[serde(default)]
    pub delay_ms: u64,
    /// Waits this long between acting and answering.
    #[serde(default)]
    pub answer_delay_ms: u64,
    #[serde(default)]
    pub then: Then,
    /// Of the refusal; default `InternalError`.
    pub code: Option<String>,
    /// HTTP status of the refusal; default 500.
    pub status: Option<u16>,
    pub message: Option<String>,
}

fn once() -> u32 {
    1
}

/// What happens after the delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// As always.
    #[default]
    Act,
    /// A refusal instead. A refused RunInstances still binds its client token, if the code is one that EC2 finds
    /// only while launching.
    Refuse,
    /// It is done, and the answer is a refusal.
    ActThenRefuse,
    /// It is done, and the connection closes without an answer.
    ActThenDrop,
    /// Not done, and the connection closes without an answer.
    Drop,
}

impl Fault {
    /// The refusal that it asks for.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal {
            status: self.status.unwrap_or(500),
            code: self.code.clone().unwrap_or_else(|| "InternalError".to_owned()),
            message: self.message.clone().unwrap_or_else(|| "An internal error has occurred.".to_owned()),
        }
    }
}

/// The faults that wait for their calls.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// Adds a fault behind those that already wait.
    pub fn add(&self, fault: Fault) {
        self.with(|faults| faults.push(fault));
    }

    /// The first fault that waits for this action, with one call less to go.
    pub fn take(&self, action: &str) -> Option<Fault> {
        self.take_one(|fault| [action, "*"].contains(&&*fault.action))
    }

    /// The same, of what is no call and therefore not meant by `*`.
    pub fn take_named(&self, name: &str) -> Option<Fault> {
        self.take_one(|fault| fault.action == name)
    }

    fn take_one(&self, is_it: impl Fn(&Fault) -> bool) -> Option<Fault> {
        self.with(|faults| {
            let at = faults.iter().position(|fault| fault.times > 0 && is_it(fault))?;
            faults[at].times -= 1;
            let fault = faults[at].clone();
            faults.retain(|fault| fault.times > 0);
            Some(fault)
        })
    }

    #[must_use]
    pub fn list(&self) -> Vec<Fault> {
        self.with(|faults| faults.clone())
    }

    pub fn clear(&self) {
        self.with(Vec::clear);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Fault>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One call of an AWS API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    pub at: jiff::Timestamp,
    pub service: String,
    pub action: String,
    /// `ok`, a refusal's code, or `dropped`.
    pub outcome: String,
}

/// Every call since the last reset.
#[derive(Debug, Default)]
pub struct Calls(Mutex<CallLog>);

/// Counts by action, and the last calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallLog {
    pub total: u64,
    pub counts: BTreeMap<String, u64>,
    pub log: VecDeque<Call>,
}

impl Calls {
    pub fn add(&self, call: Call) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.total += 1;
        *calls.counts.entry(call.action.clone()).or_default() += 1;
        if calls.log.len() == LOG {
            calls.log.pop_front();
        }
        calls.log.push_back(call);
    }

    #[must_use]
    pub fn snapshot(&self) -> CallLog {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = CallLog::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Fault {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_fault_serves_its_calls_and_is_gone() {
        let faults = Faults::default();
        faults.add(fault(r#"{"action":"RunInstances","times":2,"then":"refuse","code":"X","status":503}"#));
        faults.add(fault(r#"{"action":"*","then":"drop"}"#));
        assert_eq!(faults.take("RunInstances").unwrap().refusal().status, 503);
        assert_eq!(faults.take("DescribeInstances").unwrap().then, Then::Drop);
        assert_eq!(faults.take("DescribeInstances"), None);
        assert_eq!(faults.take("RunInstances").unwrap().refusal().code, "X");
        assert_eq!(faults.list(), []);
    }

    #[test]
    fn a_fault_with_a_misspelled_member_is_refused() {
        let error = serde_json::from_str::<Fault>(r#"{"action":"*","delay":5}"#).unwrap_err();
        assert!(error.to_string().contains("delay"), "{error}");
    }

    #[test]
    fn calls_are_counted_by_action_and_the_log_is_bounded() {
        let calls = Calls::default();
        for n in 0..LOG + 5 {
            let action = if n % 2 == 0 { "A" } else { "B" };
            let [service, action, outcome] = ["ec2", action, "ok"].map(str::to_owned);
            calls.add(Call { at: jiff::Timestamp::UNIX_EPOCH, service, action, outcome });
        }
        let seen = calls.snapshot();
        assert_eq!((seen.total, seen.log.len()), (LOG as u64 + 5, LOG));
        assert_eq!(seen.counts["A"], LOG as u64 / 2 + 3);
        calls.reset();
        assert_eq!(calls.snapshot(), CallLog::default());
    }
}
