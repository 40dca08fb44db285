//! Faults that can be asked for: data channels cut, and single frames lost, doubled or delayed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::settings::millis;

/// The network between clients and the data channels of one machine, or of all, is gone for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// All machines if there is none.
    pub instance_id: Option<String>,
    pub duration_ms: u64,
}

/// Probabilities, each of 0 to 1, for every frame of either direction. Only these faults reorder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrameFaults {
    /// Same seed, same fates.
    pub seed: u64,
    pub drop: f64,
    pub duplicate: f64,
    pub delay: f64,
    /// How long a delayed frame is held back.
    pub delay_ms: u64,
}

/// What happens to one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Lost,
    Twice,
    Late(Duration),
}

/// The fates of one session's frames.
#[derive(Debug)]
pub(super) struct Dice {
    faults: FrameFaults,
    random: StdRng,
}

impl Dice {
    pub(super) fn new(faults: &FrameFaults) -> Self {
        Self { faults: faults.clone(), random: StdRng::seed_from_u64(faults.seed) }
    }

    /// The next frame's fate. Changed faults start over from their seed.
    pub(super) fn roll(&mut self, faults: &FrameFaults) -> Fate {
        if self.faults != *faults {
            *self = Self::new(faults);
        }
        if *faults == (FrameFaults { seed: faults.seed, ..FrameFaults::default() }) {
            return Fate::Pass;
        }
        let roll: f64 = self.random.random();
        if roll < faults.drop {
            Fate::Lost
        } else if roll < faults.drop + faults.duplicate {
            Fate::Twice
        } else if roll < faults.drop + faults.duplicate + faults.delay {
            Fate::Late(millis(faults.delay_ms))
        } else {
            Fate::Pass
        }
    }
}

/// The cuts in force.
#[derive(Debug, Default)]
pub(super) struct Cuts(Vec<(Option<String>, Instant)>);

impl Cuts {
    pub(super) fn add(&mut self, cut: &Cut, now: Instant) {
        self.0.retain(|(_, until)| *until > now);
        self.0.push((cut.instance_id.clone(), now + millis(cut.duration_ms)));
    }

    pub(super) fn covers(&self, instance_id: &str, now: Instant) -> bool {
        self.0.iter().any(|(id, until)| *until > now && id.as_deref().is_none_or(|id| id == instance_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_fates_in_about_the_asked_shares() {
        let faults = FrameFaults { seed: 7, drop: 0.2, duplicate: 0.2, delay: 0.2, delay_ms: 5 };
        let rolls = || {
            let mut dice = Dice::new(&faults);
            (0..1000).map(|_| dice.roll(&faults)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(), rolls());
        for fate in [Fate::Lost, Fate::Twice, Fate::Late(Duration::from_millis(5))] {
            let share = rolls().iter().filter(|roll| **roll == fate).count();
            assert!((150..250).contains(&share), "{fate:?} {share}");
        }
    }

    #[test]
    fn without_faults_every_frame_passes() {
        let faults = FrameFaults::default();
        let mut dice = Dice::new(&faults);
        assert!((0..100).all(|_| dice.roll(&faults) == Fate::Pass));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_covers_its_machine_until_its_end() {
        let mut cuts = Cuts::default();
        let start = Instant::now();
        cuts.add(&Cut { instance_id: Some("i-1".to_owned()), duration_ms: 1000 }, start);
        assert!(cuts.covers("i-1", start));
        assert!(!cuts.covers("i-2", start));
        assert!(!cuts.covers("i-1", start + Duration::from_secs(1)));
        cuts.add(&Cut { instance_id: None, duration_ms: 1000 }, start);
        assert!(cuts.covers("i-2", start));
    }
}
