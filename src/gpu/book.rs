//! What is known of the GPUs of one machine, and what its pod was told of them. Pure: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::sample::{Bus, Identity, Line, Reading, Table};
use super::xid::{Verdict, Xid};
use crate::pod::decide::{Note, NoteKind};
use crate::pod::reasons;
use crate::stats::Accelerator;

/// A reading that is older is not shown: the machine does not answer, or the GPU does not.
const FRESH: Duration = Duration::from_secs(60);
/// GPUs of one machine; more of them is nonsense.
const MOST: usize = 64;
/// Errors of one machine that are told apart; later ones are only counted.
const MOST_TOLD: usize = 256;
const MIB: u64 = 1 << 20;

/// Whose machine it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub namespace: String,
    pub pod: String,
    pub instance_id: String,
    /// The container that was given the GPU of this index.
    pub containers: BTreeMap<u32, String>,
}

/// The GPUs of one machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) owner: Owner,
    table: Table,
    /// By UUID.
    gpus: BTreeMap<String, Known>,
    /// The last error of each.
    xids: BTreeMap<Bus, u32>,
    told: BTreeSet<(Bus, u32)>,
    sick: BTreeSet<Bus>,
    complaints: BTreeSet<String>,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    reading: Reading,
    at: Timestamp,
}

/// One GPU as series show it.
pub(super) struct Shown<'a> {
    pub(super) identity: &'a Identity,
    /// `None` once it is old.
    pub(super) reading: Option<&'a Reading>,
    pub(super) container: &'a str,
    /// 0 if there was none.
    pub(super) last_xid: u32,
    /// Whether any of them said so.
    pub(super) is_sick: bool,
}

impl Machine {
    /// This machine, or an empty one if it is another that the pod has now.
    pub(super) fn of(&mut self, owner: &Owner) -> &mut Self {
        if self.owner.instance_id != owner.instance_id {
            *self = Self::default();
        }
        if self.owner != *owner {
            self.owner = owner.clone();
        }
        self
    }

    /// One line of `watch_gpus`; the verdict on an error that is new, and what to tell of it.
    pub(super) fn read(&mut self, line: &str, now: Timestamp) -> Option<(Verdict, Option<Note>)> {
        match line.split_once(' ')? {
            ("g", row) => {
                match self.table.read(row) {
                    Line::Nothing => {}
                    Line::Gpu(gpu) => self.note_gpu(*gpu, now),
                    Line::Complaint(text) => self.complain(text),
                }
                None
            }
            ("k", message) => self.note_xid(&Xid::parse(message)?),
            _ => None,
        }
    }

    fn note_gpu(&mut self, (identity, reading): (Identity, Reading), at: Timestamp) {
        if self.gpus.len() < MOST || self.gpus.contains_key(&identity.uuid) {
            self.complaints.clear();
            self.gpus.insert(identity.uuid.clone(), Known { identity, reading, at });
        }
    }

    /// Once for each text, until it is well again.
    fn complain(&mut self, text: String) {
        if self.complaints.len() < MOST && !self.complaints.contains(&text) {
            tracing::warn!(
                instance.id = self.owner.instance_id,
                error = text,
                "nvidia-smi does not answer as it should"
            );
            self.complaints.insert(text);
        }
    }

    fn note_xid(&mut self, xid: &Xid) -> Option<(Verdict, Option<Note>)> {
        if self.xids.len() < MOST || self.xids.contains_key(&xid.bus) {
            self.xids.insert(xid.bus, xid.code);
        }
        if xid.verdict() == Verdict::Sick && self.xids.contains_key(&xid.bus) {
            self.sick.insert(xid.bus);
        }
        // After a reconnection the log is read from its beginning.
        if self.told.len() >= MOST_TOLD || !self.told.insert((xid.bus, xid.code)) {
            return None;
        }
        Some((xid.verdict(), Some(self.tell(xid))))
    }

    fn tell(&self, xid: &Xid) -> Note {
        let gpu = self.gpus.values().map(|known| &known.identity).find(|gpu| gpu.bus == Some(xid.bus));
        let which = gpu.map_or_else(
            || format!("the GPU at {}", xid.bus),
            |gpu| format!("GPU {} ({}, {})", gpu.index, gpu.model, gpu.uuid),
        );
        let told = format!(
            "{which} of instance `{}` reported Xid {}: {}",
            self.owner.instance_id,
            xid.code,
            xid.meaning()
        );
        let (kind, reason, advice) = match xid.verdict() {
            Verdict::Sick => (
                NoteKind::Warning,
                reasons::GPU_UNHEALTHY,
                "; if it fails, delete this pod: its successor gets another machine",
            ),
            Verdict::Application => (NoteKind::Normal, reasons::GPU_ERROR, "; the GPU itself is well"),
            Verdict::Other => (NoteKind::Normal, reasons::GPU_ERROR, ""),
        };
        Note { kind, reason, text: told + advice }
    }

    pub(super) fn shown(&self, now: Timestamp) -> impl Iterator<Item = Shown<'_>> {
        self.gpus.values().map(move |known| Shown {
            identity: &known.identity,
            reading: Some(&known.reading).filter(|_| is_fresh(known.at, now)),
            container: self.owner.containers.get(&known.identity.index).map_or("", String::as_str),
            last_xid: known.identity.bus.and_then(|bus| self.xids.get(&bus).copied()).unwrap_or(0),
            is_sick: known.identity.bus.is_some_and(|bus| self.sick.contains(&bus)),
        })
    }

    /// Those that a container was given.
    pub(super) fn accelerators(&self, now: Timestamp) -> Vec<Accelerator> {
        let fresh = self.gpus.values().filter(|known| is_fresh(known.at, now));
        let given = |known: &Known| {
            Some(Accelerator {
                container: self.owner.containers.get(&known.identity.index)?.clone(),
                make: "nvidia".to_owned(),
                model: known.identity.model.clone(),
                id: known.identity.uuid.clone(),
                memory_total: whole(known.reading.memory_total).saturating_mul(MIB),
                memory_used: whole(known.reading.memory_used).saturating_mul(MIB),
                duty_cycle: whole(known.reading.utilization),
            })
        };
        fresh.filter_map(given).collect()
    }
}

fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) <= jiff::SignedDuration::try_from(FRESH).expect("a minute is short")
}

/// Numbers of `nvidia-smi` are finite and not below zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, which is what is wanted"
)]
fn whole(number: Option<f64>) -> u64 {
    number.unwrap_or(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "g index, uuid, pci.bus_id, name, utilization.gpu [%], memory.used [MiB], memory.total [MiB]";
    const ROW: &str = "g 1, GPU-a, 00000000:00:1E.0, NVIDIA A10G, 37 %, 1024 MiB, 23028 MiB";
    const FALLEN: &str = "k 1795249320.5 ip-10-0-0-5 kernel: NVRM: Xid (PCI:0000:00:1e): 79, pid=1, GPU has fallen off the bus.";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn owner() -> Owner {
        let containers = BTreeMap::from([(1, "train".to_owned())]);
        Owner { namespace: "ml".to_owned(), pod: "a".to_owned(), instance_id: "i-1".to_owned(), containers }
    }

    #[test]
    fn a_reading_is_shown_with_its_container_until_it_is_old() {
        let mut machine = Machine::default();
        for line in [HEADER, ROW] {
            assert_eq!(machine.of(&owner()).read(line, at(0)), None);
        }
        let accelerator = &machine.accelerators(at(60))[0];
        assert_eq!(accelerator.container, "train");
        assert_eq!((accelerator.memory_used, accelerator.memory_total), (1 << 30, 23028 << 20));
        assert_eq!((accelerator.duty_cycle, accelerator.model.as_str()), (37, "NVIDIA A10G"));
        assert_eq!(machine.accelerators(at(61)), []);
        let old = machine.shown(at(61)).next().unwrap();
        assert!(old.reading.is_none() && old.identity.uuid == "GPU-a", "never as zeros");
    }

    #[test]
    fn a_sick_gpu_is_told_once_by_name_and_again_of_another_code_or_machine() {
        let mut machine = Machine::default();
        for line in [HEADER, ROW] {
            machine.of(&owner()).read(line, at(0));
        }
        let (verdict, note) = machine.read(FALLEN, at(1)).unwrap();
        let note = note.unwrap();
        assert_eq!((verdict, note.kind, note.reason), (Verdict::Sick, NoteKind::Warning, "GPUUnhealthy"));
        assert_eq!(
            note.text,
            "GPU 1 (NVIDIA A10G, GPU-a) of instance `i-1` reported Xid 79: the GPU has fallen off the bus; it is gone \
             until the machine is replaced; if it fails, delete this pod: its successor gets another machine"
        );
        assert_eq!(machine.read(FALLEN, at(2)), None, "the log is read again after a reconnection");
        let shown = machine.shown(at(1)).next().unwrap();
        assert_eq!((shown.last_xid, shown.is_sick), (79, true));
        assert!(machine.read(&FALLEN.replace(": 79,", ": 119,"), at(3)).is_some());
        let other = Owner { instance_id: "i-2".to_owned(), ..owner() };
        assert!(machine.of(&other).read(FALLEN, at(4)).is_some());
    }

    #[test]
    fn an_error_of_a_program_is_no_warning() {
        let mut machine = Machine::default();
        let line = "k 1 h kernel: NVRM: Xid (PCI:0000:00:1e): 31, pid=7, name=python, MMU Fault";
        let (verdict, note) = machine.of(&owner()).read(line, at(0)).unwrap();
        assert_eq!((verdict, note.unwrap().kind), (Verdict::Application, NoteKind::Normal));
    }

    #[test]
    fn a_machine_that_talks_nonsense_costs_no_more_than_a_bound() {
        let mut machine = Machine::default();
        machine.of(&owner()).read(HEADER, at(0));
        for n in 0..1000 {
            machine.read(&format!("g {n}, GPU-{n}, 00000000:00:1E.0, x, 1 %, 1 MiB, 1 MiB"), at(0));
            machine.read(&format!("k NVRM: Xid (PCI:0000:{:02x}:{:02x}): {n}, x", n % 256, n / 256), at(0));
            machine.read(&format!("g nonsense {n}"), at(0));
            machine.read(&format!("? {n}"), at(0));
        }
        assert_eq!((machine.gpus.len(), machine.xids.len()), (MOST, MOST));
        assert!(machine.told.len() <= MOST_TOLD && machine.complaints.len() <= MOST);
    }
}
