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

/// One pod's figures, all through `kubectl exec`.
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
    pub(crate) fn read(ns: &Namespace<'_>, pod: &str) -> Result<Self> {
        let mut execs = Vec::new();
        for _ in 0..EXECS {
            let start = Instant::now();
            ns.run(&["exec", pod, "--", "true"])?;
            execs.push(since(start));
        }
        let noise: Vec<u8> = (0..MIB << 18)
            .flat_map(|n: usize| n.wrapping_mul(2_654_435_761).to_le_bytes()[..4].to_vec())
            .collect();
        let start = Instant::now();
        // The runtime closes the input of a command whose output is closed, so it must say something.
        let output = ns.pipe(&["exec", "-i", pod, "--", "sh", "-c", "wc -c"], &noise)?;
        let up = count(MIB) / since(start) * 1000.0;
        ensure!(output.stdout.trim_ascii() == (MIB << 20).to_string().as_bytes(), "not all bytes arrived");
        let start = Instant::now();
        let command = format!("head -c {} /dev/zero", MIB << 20);
        let output = ns.pipe(&["exec", pod, "--", "sh", "-c", &command], b"")?;
        let down = count(MIB) / since(start) * 1000.0;
        ensure!(output.stdout.len() == MIB << 20, "not all bytes came");
        Ok(Self { up, down, round_trips: round_trips(ns, pod)?, execs })
    }

    /// Beside those of a kubelet that the API server reaches itself.
    pub(crate) fn beside(&self, direct: &Self, table: &mut Table) {
        self.beside_a("the same kubelet, reached by the API server itself", direct, table);
    }

    /// Beside those of something else.
    pub(crate) fn beside_a(&self, name: &str, direct: &Self, table: &mut Table) {
        table.beside("exec, bytes to the pod", "MiB/s", self.up, (name, direct.up));
        table.beside("exec, bytes from the pod", "MiB/s", self.down, (name, direct.down));
        for (of, ours, theirs) in [
            ("round trip of a byte in an open exec", &self.round_trips, &direct.round_trips),
            ("exec of `true`", &self.execs, &direct.execs),
        ] {
            table.compare("ms", Sample { name: of, values: ours }, Sample { name, values: theirs });
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
