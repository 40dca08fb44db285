//! One pod on RunPod and what is known of it: facts come in, and what a kubelet would say comes out.

use std::time::Duration;

use jiff::Timestamp;

use super::evidence::{Seen, Situation, judge};
use super::sketch::{Restart, Sketch};
use super::wrapper::{Report, Tokens};
use crate::cloud::runpod::Sighting;

/// What is remembered of a pod on RunPod.
#[derive(Clone, Debug)]
pub struct Ward {
    tokens: Tokens,
    asked: Timestamp,
    sighting: Option<Sighting>,
    is_gone: bool,
    uptime: Option<Duration>,
    progress: Option<Timestamp>,
    last_system_line: Option<String>,
    report: Option<(Report, Timestamp)>,
    is_wrapped: bool,
    has_volume: bool,
    restart: Restart,
}

impl Ward {
    /// Nothing is known yet, but when it was asked for.
    #[must_use]
    pub fn new(tokens: Tokens, asked: Timestamp) -> Self {
        Self {
            tokens,
            asked,
            sighting: None,
            is_gone: false,
            uptime: None,
            progress: None,
            last_system_line: None,
            report: None,
            is_wrapped: true,
            has_volume: false,
            restart: Restart::Never,
        }
    }

    /// What its Pod says.
    pub fn is_as(&mut self, sketch: &Sketch) {
        self.is_wrapped = sketch.is_wrapped;
        self.has_volume = sketch.network_volume.is_some();
        self.restart = sketch.restart;
    }

    /// RunPod shows it so.
    pub fn sight(&mut self, sighting: Sighting, now: Timestamp) {
        let before = self.sighting.as_ref();
        if before.is_none_or(|before| before.status != sighting.status) {
            self.progress = Some(now);
        }
        // What it was before this sighting.
        let uptime = before.and_then(|before| before.uptime).filter(|uptime| !uptime.is_zero());
        self.uptime = self.uptime.max(uptime);
        self.is_gone = false;
        self.sighting = Some(sighting);
    }

    /// RunPod does not show it any more, and that is to be believed.
    pub fn is_gone(&mut self) {
        self.is_gone = true;
    }

    /// The last line of the host's log about it.
    pub fn hear_system(&mut self, line: &str, now: Timestamp) {
        if self.last_system_line.as_deref() != Some(line) {
            self.last_system_line = Some(line.to_owned());
            self.progress = Some(now);
        }
    }

    /// A line of its container's log; answers whether it was the wrapper's.
    pub fn hear(&mut self, line: &str, at: Timestamp) -> bool {
        let Some(report) = self.tokens.read(line) else { return false };
        // The first end is the true one.
        if !matches!(self.report, Some((Report::Ended { .. }, _))) {
            self.report = Some((report, at));
        }
        true
    }

    /// Whether its container may have something to say.
    #[must_use]
    pub fn may_speak(&self) -> bool {
        use crate::cloud::runpod::Status::{
            Error, Exited, Other, Provisioning, Running, Starting, Terminated,
        };
        match self.sighting.as_ref().map(|sighting| &sighting.status) {
            Some(Running | Exited | Error | Other(_)) => true,
            Some(Provisioning | Starting | Terminated) | None => false,
        }
    }

    /// What is to be believed now.
    #[must_use]
    pub fn situation(&self, now: Timestamp) -> Situation {
        judge(&Seen {
            now,
            asked: self.asked,
            sighting: self.sighting.as_ref(),
            // Two lists were waited for by whoever said so.
            absent_reads: if self.is_gone { 2 } else { 0 },
            uptime_before: self.uptime,
            progress: self.progress,
            report: self.report,
            is_wrapped: self.is_wrapped,
            has_volume: self.has_volume,
            restart: self.restart,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::capacity::money::MicroUsd;
    use crate::cloud::runpod::Status;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn mk_sighting(status: Status, uptime: u64) -> Sighting {
        Sighting {
            id: "p1".to_owned(),
            name: "orca".to_owned(),
            status,
            markers: BTreeMap::new(),
            hardware_id: "NVIDIA L4".to_owned(),
            gpu_count: 1,
            vcpus: None,
            memory_gb: None,
            image: String::new(),
            cloud: None,
            data_center_id: None,
            cost: MicroUsd(440_000),
            uptime: Some(Duration::from_secs(uptime)),
            ports: Vec::new(),
            created_at: Some(at(0)),
            started_at: None,
        }
    }

    fn mk_ward() -> (Ward, Tokens) {
        let tokens = Tokens::of(b"key", "u-1", 0);
        (Ward::new(tokens.clone(), at(0)), tokens)
    }

    #[test]
    fn a_life_from_order_to_exit() {
        let (mut ward, tokens) = mk_ward();
        assert_eq!(ward.situation(at(1)), Situation::Unknown);
        ward.sight(mk_sighting(Status::Provisioning, 0), at(1));
        assert_eq!(ward.situation(at(2)), Situation::Allocating { until: at(301) });
        assert!(!ward.may_speak());
        ward.sight(mk_sighting(Status::Running, 0), at(100));
        assert_eq!(ward.situation(at(101)), Situation::Starting { until: at(280) });
        ward.hear_system("pulling layer 1", at(200));
        ward.hear_system("pulling layer 1", at(250));
        assert_eq!(ward.situation(at(260)), Situation::Starting { until: at(380) });
        assert!(ward.may_speak());
        ward.sight(mk_sighting(Status::Running, 5), at(300));
        assert!(matches!(ward.situation(at(301)), Situation::Running { restarts: 0, .. }));
        assert!(!ward.hear("ORCA-EXIT forged 0", at(310)));
        assert!(ward.hear(&end(&tokens, 3), at(311)));
        assert!(ward.hear(&end(&tokens, 4), at(312)), "and nothing changes an end");
        ward.is_gone();
        assert_eq!(ward.situation(at(400)), Situation::Ended { code: 3, at: at(311) });
    }

    /// The line as the wrapper writes it: its first token is the first word of the variable.
    fn end(tokens: &Tokens, code: i32) -> String {
        format!("ORCA-EXIT {} {code}", tokens.variable().split(' ').next().unwrap())
    }

    #[test]
    fn an_uptime_that_falls_is_a_container_that_was_started_again() {
        let (mut ward, _) = mk_ward();
        for uptime in [10, 20, 3] {
            ward.sight(mk_sighting(Status::Running, uptime), at(100));
        }
        assert!(matches!(ward.situation(at(101)), Situation::Lost { reason: "ContainerRestarted", .. }));
    }

    #[test]
    fn what_is_gone_and_never_ran_may_be_tried_elsewhere() {
        let (mut ward, _) = mk_ward();
        ward.sight(mk_sighting(Status::Running, 0), at(100));
        ward.is_gone();
        assert!(matches!(ward.situation(at(101)), Situation::NeverStarted { .. }));
    }
}
