//! Named checks behind `/livez` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which endpoint a check belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// Failing here means: restart the process.
    Live,
    /// Failing here means: it cannot do its work now.
    Ready,
}

/// All checks of the process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Health {
    checks: Arc<Mutex<Checks>>,
}

/// By probe and name: `None` is a pass, else why not.
type Checks = BTreeMap<(Probe, &'static str), Option<String>>;

/// One check; whoever holds it says how it stands.
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    key: (Probe, &'static str),
}

/// What an endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) is_ok: bool,
    /// One line a check: `[+] name`, or `[-] name: reason`.
    pub(super) text: String,
}

impl Health {
    /// Adds a check that fails until it is told to pass.
    #[must_use]
    pub fn check(&self, name: &'static str, probe: Probe, why_not_yet: &str) -> Check {
        let check = Check { health: self.clone(), key: (probe, name) };
        check.fail(why_not_yet);
        check
    }

    pub(super) fn report(&self, probe: Probe) -> Report {
        let mut report = Report { is_ok: true, text: String::new() };
        for ((_, name), reason) in self.lock().iter().filter(|((of, _), _)| *of == probe) {
            report.text += &match reason {
                None => format!("[+] {name}\n"),
                Some(reason) => format!("[-] {name}: {reason}\n"),
            };
            report.is_ok &= reason.is_none();
        }
        if report.text.is_empty() {
            report.text += "ok\n";
        }
        report
    }

    fn lock(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check {
    /// It holds now.
    pub fn pass(&self) {
        self.health.lock().insert(self.key, None);
    }

    /// It does not hold now.
    pub fn fail(&self, reason: &str) {
        self.health.lock().insert(self.key, Some(reason.to_owned()));
    }
}
