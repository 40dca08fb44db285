//! What a stream to a pod carries, and how long a byte is on its way and back.

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::gauge::count;
use crate::table::{Sample, Table};
use crate::world::Namespace;

const MIB: usize = 16;
const ROUND_TRIPS: usize = 30;
const EXECS: usize = 5;

/// What was measured of one way to a machine.
#[derive(Default)]
pub(crate) struct Figures {
    /// To the pod and from it, in MiB/s.
    pub(crate) up: f64,
    pub(crate) down: f64,
    /// Of one byte there and back, in milliseconds.
    pub(crate) round_trips: Vec<f64>,
    /// Of a whole command, in milliseconds.
    pub(crate) execs: Vec<f64>,
}

impl Figures {
    /// One pod's figures, all through `kubectl exec`.
    pub(crate) fn of_exec(ns: &Namespace<'_>, pod: &str) -> Result<Self> {
        let mut execs = Vec::new();
        for _ in 0..EXECS {
            let start = Instant::now();
            ns.run(&["exec", pod, "--", "true"])?;
            execs.push(since(start));
        }
        let start = Instant::now();
        // The runtime closes the input of a command whose output is closed, so it must say something.
        let output = ns.pipe(&["exec", "-i", pod, "--", "sh", "-c", "wc -c"], &Self::noise(MIB))?;
        let up = count(MIB) / since(start) * 1000.0;
        ensure!(output.stdout.trim_ascii() == (MIB << 20).to_string().as_bytes(), "not all bytes arrived");
        let start = Instant::now();
        let command = format!("head -c {} /dev/zero", MIB << 20);
        let output = ns.pipe(&["exec", pod, "--", "sh", "-c", &command], b"")?;
        let down = count(MIB) / since(start) * 1000.0;
        ensure!(output.stdout.len() == MIB << 20, "not all bytes came");
        Ok(Self { up, down, round_trips: round_trips(ns, pod)?, execs })
    }

    /// The best of several rounds, and the times of all of them.
    pub(crate) fn best(&mut self, round: Self) {
        self.up = self.up.max(round.up);
        self.down = self.down.max(round.down);
        self.round_trips.extend(round.round_trips);
        self.execs.extend(round.execs);
    }

    /// Bytes that do not compress well.
    pub(crate) fn noise(mib: usize) -> Vec<u8> {
        let word = |n: usize| n.wrapping_mul(2_654_435_761).to_le_bytes();
        (0..mib << 18).flat_map(|n| word(n)[..4].to_vec()).collect()
    }

    /// One way beside another.
    pub(crate) fn beside(&self, way: &str, other: &str, theirs: &Self, table: &mut Table) {
        table.beside(&format!("{way}, bytes to the machine"), "MiB/s", self.up, (other, theirs.up));
        table.beside(&format!("{way}, bytes from the machine"), "MiB/s", self.down, (other, theirs.down));
        for (of, ours, theirs) in [
            ("round trip of a byte", &self.round_trips, &theirs.round_trips),
            ("`true`, opening included", &self.execs, &theirs.execs),
        ] {
            let name = format!("{way}, {of}");
            table.compare("ms", Sample { name: &name, values: ours }, Sample { name: other, values: theirs });
        }
    }
}

fn round_trips(ns: &Namespace<'_>, pod: &str) -> Result<Vec<f64>> {
    let mut exec = ns.background(&["exec", "-i", pod, "--", "cat"])?;
    let mut input = exec.0.stdin.take().context("stdin")?;
    let mut output = exec.0.stdout.take().context("stdout")?;
    let mut trips = Vec::new();
    for _ in 0..=ROUND_TRIPS {
        let start = Instant::now();
        input.write_all(b"x")?;
        output.read_exact(&mut [0])?;
        trips.push(since(start));
    }
    // The first one has waited for the command to start.
    Ok(trips.split_off(1))
}

fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
