//! The tables.

use super::{Cpu, DataCenter, Gpu, Micros};

const US_KS: &str = "US-KS-2";
const US_TX: &str = "US-TX-3";
const US_CA: &str = "US-CA-2";
const CA_MTL: &str = "CA-MTL-1";
const EU_RO: &str = "EU-RO-1";
const EU_SE: &str = "EU-SE-1";
const EUR_IS: &str = "EUR-IS-1";
const AP_JP: &str = "AP-JP-1";

/// Where everything is.
pub const DATA_CENTERS: &[DataCenter] = &[
    center(US_KS, "US Kansas 2", "NORTH_AMERICA", "US", true, BOTH, &["SOC_2_TYPE_2", "ISO_IEC_27001"]),
    center(US_TX, "US Texas 3", "NORTH_AMERICA", "US", true, BOTH, &["SOC_2_TYPE_2", "HIPAA"]),
    center(US_CA, "US California 2", "NORTH_AMERICA", "US", false, STANDARD, &["SOC_2_TYPE_2"]),
    center(CA_MTL, "CA Montreal 1", "NORTH_AMERICA", "CA", false, STANDARD, &["ISO_IEC_27001"]),
    center(EU_RO, "EU Romania 1", "EUROPE", "RO", true, BOTH, &["GDPR", "ISO_IEC_27001", "SOC_2_TYPE_2"]),
    center(EU_SE, "EU Sweden 1", "EUROPE", "SE", true, STANDARD, &["GDPR", "RENEWABLE"]),
    center(EUR_IS, "EUR Iceland 1", "EUROPE", "IS", false, &[], &["GDPR", "RENEWABLE"]),
    center(AP_JP, "AP Japan 1", "ASIA", "JP", false, STANDARD, &["ISO_IEC_27001"]),
];

const BOTH: &[&str] = &["STANDARD", "HIGH_PERFORMANCE"];
const STANDARD: &[&str] = &["STANDARD"];

const fn center(
    id: &'static str,
    name: &'static str,
    region: &'static str,
    country: &'static str,
    global_network: bool,
    volume_types: &'static [&'static str],
    compliance: &'static [&'static str],
) -> DataCenter {
    DataCenter { id, name, region, country, global_network, volume_types, compliance }
}

/// Everywhere but in Iceland and Japan, say.
const MOST: &[&str] = &[US_KS, US_TX, US_CA, CA_MTL, EU_RO, EU_SE];
const EVERYWHERE: &[&str] = &[US_KS, US_TX, US_CA, CA_MTL, EU_RO, EU_SE, EUR_IS, AP_JP];
const BIG: &[&str] = &[US_KS, US_TX, EU_RO, EUR_IS, AP_JP];

/// GPU types, as `GET /v2/catalog/gpus` lists them.
pub const GPUS: &[Gpu] = &[
    nvidia("NVIDIA GeForce RTX 3090", "RTX 3090", Some("AMPERE_24"), 24, (0.46, 0.22), (4, 8), (8, 32), MOST),
    nvidia(
        "NVIDIA GeForce RTX 4090",
        "RTX 4090",
        Some("ADA_24"),
        24,
        (0.69, 0.34),
        (8, 4),
        (16, 64),
        EVERYWHERE,
    ),
    nvidia(
        "NVIDIA GeForce RTX 5090",
        "RTX 5090",
        Some("ADA_32_PRO"),
        32,
        (0.94, 0.69),
        (8, 4),
        (16, 90),
        MOST,
    ),
    nvidia("NVIDIA RTX A4000", "RTX A4000", Some("AMPERE_16"), 16, (0.25, 0.17), (4, 8), (8, 24), MOST),
    nvidia("NVIDIA RTX A5000", "RTX A5000", Some("AMPERE_24"), 24, (0.27, 0.16), (8, 8), (9, 25), MOST),
    nvidia("NVIDIA RTX A6000", "RTX A6000", Some("AMPERE_48"), 48, (0.49, 0.33), (8, 8), (9, 50), MOST),
    nvidia("NVIDIA A40", "A40", Some("AMPERE_48"), 48, (0.40, 0.0), (10, 0), (9, 50), &[CA_MTL, EU_SE]),
    nvidia("NVIDIA L4", "L4", Some("ADA_24"), 24, (0.43, 0.0), (8, 0), (12, 50), &[EU_RO, US_KS]),
    nvidia("NVIDIA L40", "L40", Some("ADA_48_PRO"), 48, (0.99, 0.69), (8, 8), (8, 94), BIG),
    nvidia("NVIDIA L40S", "L40S", Some("ADA_48_PRO"), 48, (0.86, 0.79), (8, 4), (16, 62), BIG),
    nvidia(
        "NVIDIA RTX 6000 Ada Generation",
        "RTX 6000 Ada",
        Some("ADA_48_PRO"),
        48,
        (0.77, 0.74),
        (8, 8),
        (10, 62),
        MOST,
    ),
    nvidia(
        "NVIDIA RTX 4000 Ada Generation",
        "RTX 4000 Ada",
        Some("AMPERE_16"),
        20,
        (0.26, 0.20),
        (8, 4),
        (9, 31),
        MOST,
    ),
    nvidia("NVIDIA A100 80GB PCIe", "A100 PCIe", Some("AMPERE_80"), 80, (1.39, 1.19), (8, 8), (8, 117), BIG),
    nvidia("NVIDIA A100-SXM4-80GB", "A100 SXM", Some("AMPERE_80"), 80, (1.49, 0.0), (8, 0), (16, 125), BIG),
    nvidia("NVIDIA H100 PCIe", "H100 PCIe", Some("ADA_80_PRO"), 80, (2.39, 1.99), (8, 4), (16, 176), BIG),
    nvidia("NVIDIA H100 80GB HBM3", "H100 SXM", Some("ADA_80_PRO"), 80, (2.69, 2.69), (8, 8), (20, 125), BIG),
    nvidia("NVIDIA H100 NVL", "H100 NVL", Some("HOPPER_96"), 94, (2.79, 2.59), (8, 4), (16, 94), &[US_KS]),
    nvidia("NVIDIA H200", "H200 SXM", Some("HOPPER_141"), 141, (3.59, 0.0), (8, 0), (24, 251), BIG),
    nvidia("NVIDIA B200", "B200", Some("BLACKWELL_180"), 180, (5.98, 0.0), (8, 0), (28, 283), BIG),
    nvidia(
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        "RTX PRO 6000",
        Some("BLACKWELL_96"),
        96,
        (1.79, 0.0),
        (8, 0),
        (16, 188),
        BIG,
    ),
    // The local cloud's own: for the slash in its id, which a client has to encode.
    nvidia(
        "NVIDIA RTX PRO 6000 Blackwell Max-Q/Workstation Edition",
        "RTX PRO 6000 Max-Q/WK",
        None,
        96,
        (1.69, 1.49),
        (8, 4),
        (16, 125),
        &[US_TX],
    ),
    Gpu {
        manufacturer: "AMD",
        ..nvidia("AMD Instinct MI300X OAM", "MI300X", None, 192, (2.49, 0.0), (8, 0), (24, 283), &[EU_RO])
    },
];

/// With prices in dollars, the most GPUs of a machine, and vCPUs and memory for each GPU: secure before community.
#[expect(clippy::too_many_arguments, reason = "a line of a table")]
const fn nvidia(
    id: &'static str,
    name: &'static str,
    pool: Option<&'static str>,
    memory: u32,
    (secure, community): (f64, f64),
    (max_secure, max_community): (u32, u32),
    (vcpus, ram): (u32, u32),
    data_centers: &'static [&'static str],
) -> Gpu {
    Gpu {
        id,
        name,
        pool,
        manufacturer: "NVIDIA",
        memory,
        secure: micros(secure),
        community: micros(community),
        max_secure,
        max_community,
        vcpus,
        ram,
        data_centers,
    }
}

/// CPU flavors.
pub const CPUS: &[Cpu] = &[
    cpu("cpu3c", "Compute-Optimized", "Gen 3", 2, 0.03),
    cpu("cpu3g", "General Purpose", "Gen 3", 4, 0.04),
    cpu("cpu3m", "Memory-Optimized", "Gen 3", 8, 0.06),
    cpu("cpu5c", "Compute-Optimized", "Gen 5", 2, 0.035),
    cpu("cpu5g", "General Purpose", "Gen 5", 4, 0.045),
    cpu("cpu5m", "Memory-Optimized", "Gen 5", 8, 0.07),
];

const fn cpu(id: &'static str, name: &'static str, group: &'static str, ram: u32, price: f64) -> Cpu {
    Cpu { id, name, group, min: 2, max: 32, ram, price: micros(price), data_centers: MOST }
}

#[expect(clippy::cast_possible_truncation, reason = "of dollars an hour, and a constant")]
const fn micros(dollars: f64) -> Micros {
    (dollars * 1e6 + 0.5) as Micros
}
