//! Named checks behind `/livez` and `/readyz`, asked for and told in the manner of the API server's.

use std::collections::{BTreeMap, BTreeSet};
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
    checks: Arc<Mutex<BTreeMap<Key, State>>>,
}

type Key = (Probe, &'static str);

/// How a check stands, or how to find out.
enum State {
    /// `None` is a pass, else why not.
    Told(Option<String>),
    Asked(Box<dyn Fn() -> Result<(), String> + Send + Sync>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.failure())
    }
}

impl State {
    fn failure(&self) -> Option<String> {
        match self {
            Self::Told(failure) => failure.clone(),
            Self::Asked(ask) => ask().err(),
        }
    }
}

/// One check; whoever holds it says how it stands.
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    key: Key,
}

/// What somebody asks: the query of `/readyz?verbose&exclude=instances`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) is_verbose: bool,
    pub(super) excluded: BTreeSet<String>,
}

impl Asked {
    pub(super) fn parse(query: &str) -> Self {
        let mut asked = Self::default();
        for pair in query.split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("verbose", _) => asked.is_verbose = true,
                ("exclude", name) => drop(asked.excluded.insert(name.to_owned())),
                _ => {}
            }
        }
        asked
    }
}

/// What an endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) is_ok: bool,
    /// `ok`, or one line a check: `[+]name ok`, or `[-]name failed: reason`.
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

    /// Adds a check that is made when somebody asks: it must answer at once, and wait for nobody.
    pub fn ask(
        &self,
        name: &'static str,
        probe: Probe,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.lock().insert((probe, name), State::Asked(Box::new(check)));
    }

    /// All checks of a probe, but those that somebody excludes.
    pub(super) fn report(&self, probe: Probe, asked: &Asked) -> Report {
        let mut excluded = asked.excluded.clone();
        let (mut lines, mut is_ok) = (String::new(), true);
        for ((_, name), state) in self.lock().iter().filter(|((of, _), _)| *of == probe) {
            lines += &if excluded.remove(*name) {
                format!("[+]{name} excluded: ok\n")
            } else if let Some(reason) = state.failure() {
                is_ok = false;
                format!("[-]{name} failed: {reason}\n")
            } else {
                format!("[+]{name} ok\n")
            };
        }
        if !excluded.is_empty() {
            let names: Vec<_> = excluded.into_iter().collect();
            lines += &format!("warn: some checks cannot be excluded: no matches for {names:?}\n");
        }
        let word = if is_ok { "passed" } else { "failed" };
        let text = if is_ok && !asked.is_verbose {
            "ok".to_owned()
        } else {
            format!("{lines}{} check {word}\n", probe.name())
        };
        Report { is_ok, text }
    }

    /// One check; `None` if there is none of that name.
    pub(super) fn single(&self, probe: Probe, name: &str) -> Option<Report> {
        let checks = self.lock();
        let (_, state) = checks.iter().find(|((of, found), _)| *of == probe && *found == name)?;
        Some(match state.failure() {
            None => Report { is_ok: true, text: "ok".to_owned() },
            Some(reason) => Report { is_ok: false, text: format!("failed: {reason}\n") },
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, State>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
        }
    }
}

impl Check {
    /// It holds now.
    pub fn pass(&self) {
        self.health.lock().insert(self.key, State::Told(None));
    }

    /// It does not hold now.
    pub fn fail(&self, reason: &str) {
        self.health.lock().insert(self.key, State::Told(Some(reason.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        let health = Health::default();
        health.check("pods", Probe::Ready, "not read yet").pass();
        health.ask("instances", Probe::Ready, || Err("the list is old".to_owned()));
        health.check("ping", Probe::Live, "").pass();
        health
    }

    #[test]
    fn a_failure_names_every_check_and_a_pass_is_one_word() {
        let (health, plain) = (health(), Asked::default());
        let expected = "[-]instances failed: the list is old\n[+]pods ok\nreadyz check failed\n";
        assert_eq!(health.report(Probe::Ready, &plain), Report { is_ok: false, text: expected.to_owned() });
        assert_eq!(health.report(Probe::Live, &plain), Report { is_ok: true, text: "ok".to_owned() });
        let verbose = health.report(Probe::Live, &Asked::parse("verbose=1"));
        assert_eq!(verbose.text, "[+]ping ok\nlivez check passed\n");
    }

    #[test]
    fn excluded_checks_count_as_passed_and_unknown_ones_are_told() {
        let report = health().report(Probe::Ready, &Asked::parse("verbose&exclude=instances&exclude=other"));
        let expected = "[+]instances excluded: ok\n[+]pods ok\n\
                        warn: some checks cannot be excluded: no matches for [\"other\"]\nreadyz check passed\n";
        assert_eq!(report, Report { is_ok: true, text: expected.to_owned() });
    }

    #[test]
    fn a_single_check_is_asked_by_name() {
        let health = health();
        assert!(health.single(Probe::Ready, "pods").unwrap().is_ok);
        assert_eq!(health.single(Probe::Ready, "instances").unwrap().text, "failed: the list is old\n");
        assert_eq!(health.single(Probe::Live, "pods"), None);
    }
}
