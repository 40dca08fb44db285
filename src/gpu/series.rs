//! The GPUs as metrics, under the names and with the labels of NVIDIA's dcgm-exporter, so that dashboards made for it
//! show these GPUs as well.
//!
//! What it counts has no `_total` at its end, which OpenMetrics asks of counters: such series are of unknown type.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Gpus;
use super::book::{Machine, Shown};
use super::sample::Reading;
use super::xid::Verdict;
use crate::clock;
use crate::telemetry::Registry;

/// Name, help text, type, and where the value comes from.
type Field = (&'static str, &'static str, MetricType, fn(&Shown<'_>) -> Option<f64>);

/// Of a reading that is fresh.
macro_rules! of {
    ($field:ident) => {
        |shown| shown.reading.and_then(|reading: &Reading| reading.$field)
    };
}

const FIELDS: &[Field] = &[
    ("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", MetricType::Gauge, of!(sm_clock)),
    ("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", MetricType::Gauge, of!(memory_clock)),
    ("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", MetricType::Gauge, of!(memory_temperature)),
    ("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", MetricType::Gauge, of!(temperature)),
    ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", MetricType::Gauge, of!(power)),
    ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", MetricType::Gauge, of!(utilization)),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", MetricType::Gauge, of!(memory_utilization)),
    ("DCGM_FI_DEV_ENC_UTIL", "Encoder utilization (in %).", MetricType::Gauge, of!(encoder)),
    ("DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).", MetricType::Gauge, of!(decoder)),
    ("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", MetricType::Gauge, of!(memory_free)),
    ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", MetricType::Gauge, of!(memory_used)),
    (
        "DCGM_FI_DEV_FB_RESERVED",
        "Framebuffer memory reserved (in MiB).",
        MetricType::Gauge,
        of!(memory_reserved),
    ),
    ("DCGM_FI_DEV_FB_TOTAL", "Framebuffer memory in all (in MiB).", MetricType::Gauge, of!(memory_total)),
    (
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        "Total number of single-bit volatile ECC errors.",
        MetricType::Unknown,
        of!(ecc_corrected),
    ),
    (
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "Total number of double-bit volatile ECC errors.",
        MetricType::Unknown,
        of!(ecc_uncorrected),
    ),
    (
        "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL",
        "Total number of single-bit persistent ECC errors.",
        MetricType::Unknown,
        of!(ecc_corrected_ever),
    ),
    (
        "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",
        "Total number of double-bit persistent ECC errors.",
        MetricType::Unknown,
        of!(ecc_uncorrected_ever),
    ),
    ("DCGM_FI_DEV_XID_ERRORS", "Value of the last XID error encountered.", MetricType::Gauge, |shown| {
        Some(shown.last_xid.into())
    }),
    (
        "orca_gpu_sick",
        "Whether the driver said since the machine booted that the GPU is sick: 1 or 0.",
        MetricType::Gauge,
        |shown| Some(f64::from(u8::from(shown.is_sick))),
    ),
];

/// Names, help texts and types.
pub(super) fn described() -> impl Iterator<Item = (&'static str, &'static str, MetricType)> {
    FIELDS.iter().map(|(name, help, kind, _)| (*name, *help, *kind))
}

/// Shows what is known at the time of the scrape.
#[derive(Debug)]
pub(super) struct Series(pub(super) Gpus);

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = clock::now();
        let machines = self.0.lock();
        for (name, help, kind, value) in FIELDS {
            let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
            for machine in machines.values() {
                for gpu in machine.shown(now) {
                    let Some(value) = value(&gpu) else { continue };
                    let labels = labels(&self.0.node, machine, &gpu);
                    family.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }
}

fn labels(node: &str, machine: &Machine, gpu: &Shown<'_>) -> [(&'static str, String); 11] {
    let (owner, identity) = (&machine.owner, gpu.identity);
    [
        ("gpu", identity.index.to_string()),
        ("UUID", identity.uuid.clone()),
        ("pci_bus_id", identity.bus.map(|bus| bus.to_string()).unwrap_or_default()),
        ("device", format!("nvidia{}", identity.index)),
        ("modelName", identity.model.clone()),
        ("Hostname", node.to_owned()),
        ("DCGM_FI_DRIVER_VERSION", identity.driver.clone()),
        ("instance_id", owner.instance_id.clone()),
        ("namespace", owner.namespace.clone()),
        ("pod", owner.pod.clone()),
        ("container", gpu.container.to_owned()),
    ]
}

/// What outlives a machine.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    xids: Family<ByVerdict, Counter>,
}

impl Default for Counts {
    /// All are there from the beginning, so that the first error is an increase.
    fn default() -> Self {
        let xids = Family::<ByVerdict, Counter>::default();
        for verdict in [Verdict::Sick, Verdict::Application, Verdict::Other] {
            drop(xids.get_or_create(&ByVerdict { verdict: verdict.name() }));
        }
        Self { xids }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    verdict: &'static str,
}

impl Counts {
    pub(super) fn xid(&self, verdict: Verdict) {
        self.xids.get_or_create(&ByVerdict { verdict: verdict.name() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "gpu_xid_errors",
            "Xid errors of the machines' GPUs, each code once per GPU, by what it says of the GPU",
            self.xids.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Owner;
    use super::*;

    #[test]
    fn series_have_the_names_and_labels_that_dashboards_for_dcgm_expect() {
        let gpus = Gpus::new("burst");
        let mut registry = Registry::default();
        gpus.register(&mut registry);
        let owner = Owner {
            namespace: "ml".to_owned(),
            pod: "train-0".to_owned(),
            instance_id: "i-1".to_owned(),
            containers: [(0, "main".to_owned())].into(),
        };
        for line in [
            "g index, uuid, pci.bus_id, name, driver_version, utilization.gpu [%], ecc.errors.uncorrected.volatile.total, power.draw [W]",
            "g 0, GPU-a, 00000000:00:1E.0, NVIDIA A10G, 580.1, 37 %, 2, [N/A]",
            "k NVRM: Xid (PCI:0000:00:1e): 48, DBE",
        ] {
            drop(gpus.read("uid", &owner, line, clock::now()));
        }
        let text = registry.encode().unwrap();
        let labels = "{gpu=\"0\",UUID=\"GPU-a\",pci_bus_id=\"00000000:00:1E.0\",device=\"nvidia0\",modelName=\"NVIDIA A10G\",\
                      Hostname=\"burst\",DCGM_FI_DRIVER_VERSION=\"580.1\",instance_id=\"i-1\",namespace=\"ml\",\
                      pod=\"train-0\",container=\"main\"}";
        for line in [
            "# TYPE DCGM_FI_DEV_GPU_UTIL gauge".to_owned(),
            "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).".to_owned(),
            format!("DCGM_FI_DEV_GPU_UTIL{labels} 37.0"),
            format!("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{labels} 2.0"),
            format!("DCGM_FI_DEV_XID_ERRORS{labels} 48.0"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in:\n{text}");
        }
        assert!(!text.contains("DCGM_FI_DEV_POWER_USAGE{"), "what is not told is not shown");
        assert!(text.contains("orca_gpu_xid_errors_total{verdict=\"sick\"} 1"), "{text}");
        gpus.forget("uid");
        let text = registry.encode().unwrap();
        assert!(!text.contains("GPU-a"), "{text}");
    }
}
