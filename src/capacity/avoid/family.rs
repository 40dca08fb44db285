//! The quotas on vCPUs: which instance types share one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// EC2 counts the vCPUs of these together, for on-demand and spot each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Family {
    /// A, C, D, H, I, M, R, T and Z.
    Standard,
    /// G and VT.
    GraphicsAndVideo,
    P,
    Inferentia,
    Trainium,
    /// DL: Gaudi and Qualcomm.
    DeepLearning,
    F,
    /// U.
    HighMemory,
    Hpc,
    X,
    /// Mac, and what EC2 added since.
    Other,
}

/// The family whose quota a type counts against, by its name.
#[must_use]
pub fn family_of(instance_type: &str) -> Family {
    let letters = instance_type.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(instance_type.len());
    match &instance_type[..letters] {
        "g" | "gr" | "vt" => Family::GraphicsAndVideo,
        "p" => Family::P,
        "inf" => Family::Inferentia,
        "trn" => Family::Trainium,
        "dl" => Family::DeepLearning,
        "f" => Family::F,
        "u" => Family::HighMemory,
        "hpc" => Family::Hpc,
        "x" => Family::X,
        "a" | "c" | "d" | "h" | "i" | "im" | "is" | "m" | "r" | "t" | "z" => Family::Standard,
        _ => Family::Other,
    }
}

impl fmt::Display for Family {
    /// As the quota's name has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "Standard (A, C, D, H, I, M, R, T, Z)",
            Self::GraphicsAndVideo => "G and VT",
            Self::P => "P",
            Self::Inferentia => "Inf",
            Self::Trainium => "Trn",
            Self::DeepLearning => "DL",
            Self::F => "F",
            Self::HighMemory => "High Memory",
            Self::Hpc => "HPC",
            Self::X => "X",
            Self::Other => "other types",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_its_quota() {
        for (types, family) in [
            (
                "a1.large c7i.xlarge c6gn.large d3en.xlarge h1.2xlarge i4i.large im4gn.large is4gen.large \
              m7i-flex.large r7iz.large t3.micro z1d.large",
                Family::Standard,
            ),
            (
                "g4dn.xlarge g4ad.xlarge g5.xlarge g5g.metal g6f.large gr6.4xlarge gr6f.4xlarge g7e.2xlarge vt1.3xlarge",
                Family::GraphicsAndVideo,
            ),
            ("p3.2xlarge p3dn.24xlarge p5.48xlarge p6-b200.48xlarge p6e-gb200.36xlarge", Family::P),
            ("inf1.xlarge inf2.48xlarge", Family::Inferentia),
            ("trn1n.32xlarge trn2u.48xlarge", Family::Trainium),
            ("dl1.24xlarge dl2q.24xlarge", Family::DeepLearning),
            ("f1.2xlarge f2.48xlarge", Family::F),
            ("u-6tb1.metal u7i-12tb.224xlarge u7in-16tb.224xlarge", Family::HighMemory),
            ("hpc6a.48xlarge hpc7g.4xlarge", Family::Hpc),
            ("x1e.xlarge x2idn.metal x8g.large", Family::X),
            ("mac2.metal new1.large", Family::Other),
        ] {
            for name in types.split_whitespace() {
                assert_eq!(family_of(name), family, "{name}");
            }
        }
    }
}
