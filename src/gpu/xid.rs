//! Xid errors: what the NVIDIA driver writes to the kernel's log when something is wrong with a GPU, and what it means.
//!
//! The table follows NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors) for Ampere and newer GPUs. A code that is
//! not in it is passed on without a judgement. Pure.

use super::sample::Bus;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The GPU should not be trusted with another program.
    Sick,
    /// The program's own: another GPU would have said the same.
    Application,
    /// Told, and no more.
    Other,
}

impl Verdict {
    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sick => "sick",
            Self::Application => "application",
            Self::Other => "other",
        }
    }
}

/// One message of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xid {
    pub bus: Bus,
    pub code: u32,
    /// What the driver wrote after the code, for code 154: there it is the meaning.
    detail: String,
}

/// `(code, what happened, what follows)` of sick GPUs.
const SICK: &[(u32, &str, &str)] = &[
    (46, "the GPU stopped processing", "it needs a reset"),
    (48, "an uncorrectable (double-bit) memory error", "results since then may be wrong"),
    (62, "its internal microcontroller halted", "it needs a reset"),
    (63, "a row of its memory was replaced by a spare one", "its memory wears: watch it"),
    (64, "a row of its memory could not be replaced", "its memory is failing"),
    (74, "an NVLink error", "transfers between GPUs may fail or be slow"),
    (79, "the GPU has fallen off the bus", "it is gone until the machine is replaced"),
    (92, "a high rate of corrected memory errors", "its memory wears: watch it"),
    (94, "a contained uncorrectable memory error", "the program that met it ends, others go on"),
    (
        95,
        "an uncontained uncorrectable memory error",
        "results since then may be wrong, and it needs a reset",
    ),
    (109, "a context switch timed out", "it needs a reset"),
    (110, "a security fault", "it needs a reset"),
    (119, "its system processor (GSP) does not answer", "it needs a reset"),
    (120, "its system processor (GSP) failed", "it needs a reset"),
    (136, "its firmware failed to start", "it needs a reset"),
    (140, "an unrecovered memory error", "it needs a reset"),
    (143, "its initialisation failed", "it needs a reset"),
];

/// `(code, what happened)` of programs.
const APPLICATION: &[(u32, &str)] = &[
    (8, "a program did not get on for too long"),
    (13, "a program raised an exception on the GPU, such as an index out of bounds"),
    (31, "a program used memory that it does not have"),
    (43, "a program was stopped after an error of its own"),
    (45, "what was left of a program that ended was cleaned up"),
    (68, "a video decoder was given what it cannot decode"),
    (69, "a program used a graphics engine wrongly"),
];

/// The driver's own word on what a GPU needs.
const RECOVERY: u32 = 154;

impl Xid {
    /// Reads a line of the kernel's log, with whatever stands before the message: `NVRM: Xid (PCI:0000:53:00): 79, …`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("NVRM: Xid (")?;
        let (place, rest) = rest.split_once("): ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let detail = rest[digits..].trim_start_matches([',', ' ']);
        Some(Self {
            bus: Bus::parse(place.strip_prefix("PCI:").unwrap_or(place))?,
            code: rest[..digits].parse().ok().filter(|code| *code < 10_000)?,
            detail: detail.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(160).collect(),
        })
    }

    /// Whose fault it is.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let is_sick = SICK.iter().any(|(code, ..)| *code == self.code)
            || self.recovery().is_some_and(|action| !["None", "Drain P2P"].contains(&action));
        if is_sick {
            Verdict::Sick
        } else if APPLICATION.iter().any(|(code, _)| *code == self.code) {
            Verdict::Application
        } else {
            Verdict::Other
        }
    }

    /// What happened, and what follows, in a clause.
    #[must_use]
    pub fn meaning(&self) -> String {
        if let Some((_, what, then)) = SICK.iter().find(|(code, ..)| *code == self.code) {
            return format!("{what}; {then}");
        }
        if let Some((_, what)) = APPLICATION.iter().find(|(code, _)| *code == self.code) {
            return (*what).to_owned();
        }
        match self.recovery() {
            Some(action) => format!("the driver says what the GPU needs: {action}"),
            None => "see NVIDIA's catalogue of Xid errors".to_owned(),
        }
    }

    /// `GPU Reset Required` in `GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)`.
    fn recovery(&self) -> Option<&str> {
        let (_, action) = self.detail.rsplit_once('(').filter(|_| self.code == RECOVERY)?;
        action.strip_suffix(')')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(line: &str) -> (u32, Verdict) {
        let xid = Xid::parse(line).unwrap();
        (xid.code, xid.verdict())
    }

    #[test]
    fn messages_of_the_kernel_are_judged_as_the_catalogue_says() {
        for (line, code, verdict) in [
            (
                "Nov 21 20:00:01 ip-10-0-0-5 kernel: NVRM: Xid (PCI:0000:53:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
                79,
                Verdict::Sick,
            ),
            (
                "[ 1843.308145] NVRM: Xid (PCI:0000:44:00): 48, pid=2, DBE (double bit error)",
                48,
                Verdict::Sick,
            ),
            (
                "NVRM: Xid (PCI:0000:66:00): 31, pid=2280636, name=python, Ch 00000008",
                31,
                Verdict::Application,
            ),
            ("NVRM: Xid (PCI:0000:66:00): 13, Graphics SM Warp Exception", 13, Verdict::Application),
            ("NVRM: Xid (0000:03:00): 14, Channel 00000001", 14, Verdict::Other),
            (
                "NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
                154,
                Verdict::Sick,
            ),
            (
                "NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)",
                154,
                Verdict::Other,
            ),
        ] {
            assert_eq!(judged(line), (code, verdict), "{line}");
        }
    }

    #[test]
    fn the_place_is_that_of_nvidia_smi() {
        let xid = Xid::parse("NVRM: Xid (PCI:0000:00:1e): 119, Timeout waiting for RPC from GSP!").unwrap();
        assert_eq!(Some(xid.bus), Bus::parse("00000000:00:1E.0"));
        assert_eq!(xid.meaning(), "its system processor (GSP) does not answer; it needs a reset");
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.158.01",
            "NVRM: Xid (PCI:0000:66:00): abc, pid=2280636",
            "NVRM: Xid (PCI:0000:66:00",
            "NVRM: Xid (PCI:0000:66:00): 99999999999, x",
            "NVRM: Xid (nowhere): 79, x",
        ] {
            assert_eq!(Xid::parse(line), None, "{line}");
        }
    }

    #[test]
    fn no_code_is_in_both_tables() {
        let codes: Vec<u32> = SICK.iter().map(|it| it.0).chain(APPLICATION.iter().map(|it| it.0)).collect();
        let unique: std::collections::BTreeSet<_> = codes.iter().collect();
        assert_eq!(unique.len(), codes.len());
    }
}
