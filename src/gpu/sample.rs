//! What `nvidia-smi --query-gpu=… --format=csv` prints, line by line.
//!
//! Columns are known by the names in the header, so that more, fewer and other ones are read as well; a value that the
//! driver does not give (`[N/A]`, `[Not Supported]`, `[Unknown Error]`) is none, never zero. Pure.

/// The columns that are asked for, where the driver knows them.
pub const COLUMNS: &[&str] = &[
    "index",
    "uuid",
    "pci.bus_id",
    "name",
    "driver_version",
    "utilization.gpu",
    "utilization.memory",
    "utilization.encoder",
    "utilization.decoder",
    "memory.total",
    "memory.used",
    "memory.free",
    "memory.reserved",
    "temperature.gpu",
    "temperature.memory",
    "power.draw",
    "clocks.sm",
    "clocks.mem",
    "ecc.errors.corrected.volatile.total",
    "ecc.errors.uncorrected.volatile.total",
    "ecc.errors.corrected.aggregate.total",
    "ecc.errors.uncorrected.aggregate.total",
];

/// Longer texts of a machine are cut: they become labels.
const LONGEST: usize = 80;

/// Where a GPU sits: domain, bus and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bus {
    pub domain: u32,
    pub bus: u8,
    pub device: u8,
}

impl Bus {
    /// Reads `00000000:00:1E.0` of `nvidia-smi` and `0000:00:1e` of the kernel's messages.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |part: &str, most: u32| u32::from_str_radix(part, 16).ok().filter(|it| *it <= most);
        let mut parts = text.trim().split(':');
        let (domain, bus, device) = (parts.next()?, parts.next()?, parts.next()?);
        let device = device.split('.').next()?;
        Some(Self {
            domain: hex(domain, u32::MAX)?,
            bus: u8::try_from(hex(bus, 0xff)?).ok()?,
            device: u8::try_from(hex(device, 0xff)?).ok()?,
        })
        .filter(|_| parts.next().is_none())
    }
}

impl std::fmt::Display for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }
}

/// Which GPU it is. Texts are short and printable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The driver's number on this machine, from 0.
    pub index: u32,
    /// Such as `GPU-107f0d10-2c02-7c73-7b9f-680acd29b484`.
    pub uuid: String,
    pub bus: Option<Bus>,
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub model: String,
    pub driver: String,
}

/// One reading of one GPU; what the driver did not tell is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Percent.
    pub utilization: Option<f64>,
    /// Percent of the time in which memory was read or written.
    pub memory_utilization: Option<f64>,
    /// Percent.
    pub encoder: Option<f64>,
    /// Percent.
    pub decoder: Option<f64>,
    /// MiB.
    pub memory_total: Option<f64>,
    /// MiB.
    pub memory_used: Option<f64>,
    /// MiB.
    pub memory_free: Option<f64>,
    /// MiB.
    pub memory_reserved: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Degrees Celsius.
    pub memory_temperature: Option<f64>,
    /// Watts.
    pub power: Option<f64>,
    /// MHz.
    pub sm_clock: Option<f64>,
    /// MHz.
    pub memory_clock: Option<f64>,
    /// Since the driver was loaded.
    pub ecc_corrected: Option<f64>,
    /// Since the driver was loaded.
    pub ecc_uncorrected: Option<f64>,
    /// In the life of the GPU.
    pub ecc_corrected_ever: Option<f64>,
    /// In the life of the GPU.
    pub ecc_uncorrected_ever: Option<f64>,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Nothing: a header, or an empty line.
    Nothing,
    Gpu(Box<(Identity, Reading)>),
    /// Neither a header nor a row under it: what the driver complains of.
    Complaint(String),
}

/// Reads the lines of one `nvidia-smi`, or of several one after the other.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<String>,
}

impl Table {
    /// One line, without its end.
    pub fn read(&mut self, line: &str) -> Line {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        if cells.iter().all(|cell| cell.is_empty()) {
            return Line::Nothing;
        }
        if let Some(columns) = header(&cells) {
            self.columns = columns;
            return Line::Nothing;
        }
        match self.row(&cells) {
            Some(gpu) => Line::Gpu(Box::new(gpu)),
            None => Line::Complaint(label(line)),
        }
    }

    fn row(&self, cells: &[&str]) -> Option<(Identity, Reading)> {
        if cells.len() != self.columns.len() {
            return None;
        }
        let cell = |name: &str| {
            let at = self.columns.iter().position(|column| column == name)?;
            Some(cells[at]).filter(|cell| !is_absent(cell))
        };
        let identity = Identity {
            index: cell("index")?.parse().ok()?,
            uuid: cell("uuid").filter(|uuid| uuid.starts_with("GPU-")).map(label)?,
            bus: cell("pci.bus_id").and_then(Bus::parse),
            model: cell("name").map(label).unwrap_or_default(),
            driver: cell("driver_version").map(label).unwrap_or_default(),
        };
        let number = |name: &str| cell(name).and_then(number);
        Some((identity, reading(&number)))
    }
}

fn reading(number: &impl Fn(&str) -> Option<f64>) -> Reading {
    Reading {
        utilization: number("utilization.gpu"),
        memory_utilization: number("utilization.memory"),
        encoder: number("utilization.encoder"),
        decoder: number("utilization.decoder"),
        memory_total: number("memory.total"),
        memory_used: number("memory.used"),
        memory_free: number("memory.free"),
        memory_reserved: number("memory.reserved"),
        temperature: number("temperature.gpu"),
        memory_temperature: number("temperature.memory"),
        power: number("power.draw"),
        sm_clock: number("clocks.sm").or_else(|| number("clocks.current.sm")),
        memory_clock: number("clocks.mem").or_else(|| number("clocks.current.memory")),
        ecc_corrected: number("ecc.errors.corrected.volatile.total"),
        ecc_uncorrected: number("ecc.errors.uncorrected.volatile.total"),
        ecc_corrected_ever: number("ecc.errors.corrected.aggregate.total"),
        ecc_uncorrected_ever: number("ecc.errors.uncorrected.aggregate.total"),
    }
}

/// The columns' names without their units, if these are names of columns.
fn header(cells: &[&str]) -> Option<Vec<String>> {
    let names: Vec<String> = cells
        .iter()
        .map(|cell| match cell.split_once(" [").map_or(*cell, |(name, _)| name) {
            "gpu_uuid" => "uuid".to_owned(),
            "gpu_name" => "name".to_owned(),
            "gpu_bus_id" => "pci.bus_id".to_owned(),
            name => name.to_owned(),
        })
        .collect();
    ["index", "uuid"].iter().all(|wanted| names.iter().any(|name| name == wanted)).then_some(names)
}

fn is_absent(cell: &str) -> bool {
    cell.starts_with('[') || ["", "N/A", "ERR!", "Unknown Error", "No data"].contains(&cell)
}

/// The number before a unit: `154.88 W`, `100 %`, `29089 MiB`, `35`. Nothing here is below zero.
fn number(cell: &str) -> Option<f64> {
    let digits = cell.split_whitespace().next()?;
    digits.parse().ok().filter(|it: &f64| it.is_finite() && *it >= 0.0)
}

/// Short and printable.
fn label(text: &str) -> String {
    text.trim().chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gpus(text: &str) -> Vec<(Identity, Reading)> {
        let mut table = Table::default();
        let lines = text.lines().map(|line| table.read(line));
        lines.filter_map(|line| if let Line::Gpu(gpu) = line { Some(*gpu) } else { None }).collect()
    }

    /// Recorded by others with `--format=csv -l 1` on a machine with H100s, 2026-09-12, as published with the tests of a
    /// program that reads it (public code search, `GPU-107f0d10-2c02-7c73-7b9f-680acd29b484`).
    const H100: &str = "\
timestamp, index, uuid, name, utilization.gpu [%], utilization.memory [%], memory.used [MiB], memory.total [MiB], temperature.gpu, power.draw [W]
2026/09/12 06:17:26.305, 2, GPU-107f0d10-2c02-7c73-7b9f-680acd29b484, NVIDIA H100 80GB HBM3, 100 %, 1 %, 29089 MiB, 81559 MiB, 35, 154.88 W
2026/09/12 06:17:26.305, 3, GPU-8c958eaa-b244-64cb-6283-d37792aac963, NVIDIA H100 80GB HBM3, 100 %, 3 %, 29089 MiB, 81559 MiB, 29, 158.86 W
";

    #[test]
    fn a_recorded_sample_of_two_gpus_is_read_by_its_header() {
        let gpus = gpus(H100);
        assert_eq!(gpus.len(), 2);
        let (identity, reading) = &gpus[0];
        assert_eq!((identity.index, identity.model.as_str()), (2, "NVIDIA H100 80GB HBM3"));
        assert_eq!(identity.uuid, "GPU-107f0d10-2c02-7c73-7b9f-680acd29b484");
        let expected = Reading {
            utilization: Some(100.0),
            memory_utilization: Some(1.0),
            memory_used: Some(29089.0),
            memory_total: Some(81559.0),
            temperature: Some(35.0),
            power: Some(154.88),
            ..Reading::default()
        };
        assert_eq!(reading, &expected);
        assert_eq!(gpus[1].1.power, Some(158.86));
    }

    #[test]
    fn what_the_driver_does_not_tell_is_none() {
        for absent in ["[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "[GPU is lost]", "ERR!", ""] {
            let text = format!(
                "index, uuid, utilization.gpu [%], memory.used [MiB]\n0, GPU-a, {absent}, 5 MiB\n0, GPU-a, 0 %, 5 MiB"
            );
            let gpus = gpus(&text);
            assert_eq!(gpus[0].1.utilization, None, "{absent}");
            assert_eq!(gpus[0].1.memory_used, Some(5.0), "{absent}");
            assert_eq!(gpus[1].1.utilization, Some(0.0), "zero is a number");
        }
    }

    #[test]
    fn columns_may_come_in_any_order_with_unknown_ones_and_without_units() {
        let text = "power.draw, no.such.thing, gpu_uuid, index\n71.5, whatever, GPU-b, 1";
        let gpus = gpus(text);
        assert_eq!((gpus[0].0.index, gpus[0].1.power), (1, Some(71.5)));
    }

    #[test]
    fn complaints_of_the_driver_are_told_and_nothing_is_made_of_them() {
        let mut table = Table::default();
        for line in [
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.",
            "Failed to initialize NVML: Driver/library version mismatch",
            "No devices were found",
            "Unable to determine the device handle for GPU0000:53:00.0: GPU is lost.  Reboot the system to recover this GPU",
            "Field \"no.such.field\" is not a valid field to query.",
            "0, GPU-a, 5 %",
        ] {
            let Line::Complaint(text) = table.read(line) else { panic!("{line}") };
            assert!(line.starts_with(&text), "{text}");
        }
        assert_eq!(table.read(""), Line::Nothing);
    }

    #[test]
    fn a_driver_that_comes_back_begins_with_its_header_again() {
        let text =
            "index, uuid, power.draw [W]\n0, GPU-a, 50.00 W\nNo devices were found\nuuid, index\nGPU-a, 0\n";
        let gpus = gpus(text);
        assert_eq!([gpus[0].1.power, gpus[1].1.power], [Some(50.0), None]);
    }

    #[test]
    fn a_place_on_the_bus_is_the_same_in_both_spellings() {
        let (smi, kernel) = (Bus::parse("00000000:00:1E.0"), Bus::parse("0000:00:1e"));
        assert_eq!(smi, kernel);
        assert_eq!(smi.unwrap().to_string(), "00000000:00:1E.0");
        assert_eq!(Bus::parse("0018:01:00").unwrap().domain, 0x18);
        for text in ["", "0:0", "x:y:z", "0000:100:00", "1:2:3:4"] {
            assert_eq!(Bus::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(lines in proptest::collection::vec(".{0,200}", 0..8)) {
            let mut table = Table::default();
            for line in H100.lines().map(str::to_owned).chain(lines) {
                if let Line::Gpu(gpu) = table.read(&line) {
                    prop_assert!(gpu.0.uuid.len() <= LONGEST && gpu.0.model.len() <= LONGEST);
                }
            }
        }
    }
}
