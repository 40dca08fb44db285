//! What GPU a RunPod id is, so that an H100 is an H100 wherever it stands.

use std::collections::HashMap;
use std::sync::LazyLock;

static MODELS: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let lines = include_str!("models.csv").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(',')).collect()
});

/// Words that only say which card it sits on.
const NOISE: &[&str] = &["nvidia", "geforce", "tesla", "generation", "edition", "pcie", "sxm", "nvl"];

/// The model in the words of the annotation `gpu-models`; of an id that the table lacks, its own words.
#[must_use]
pub fn model_of(gpu_id: &str) -> String {
    if let Some(model) = MODELS.get(gpu_id) {
        return (*model).to_owned();
    }
    let words = words(gpu_id).filter(|word| !NOISE.contains(&word.as_str()));
    words.collect::<Vec<_>>().join("-")
}

/// Whether the wish means this GPU: the same words, and no other. A `rtx-4070` is no `RTX 4070 Ti`.
pub(super) fn is_model(gpu_id: &str, wish: &str) -> bool {
    let wished = words(wish).filter(|word| !NOISE.contains(&word.as_str()));
    wished.collect::<Vec<_>>().join("-") == model_of(gpu_id)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_spelled_as_the_annotation_is() {
        assert!(MODELS.len() > 30);
        for (id, model) in &*MODELS {
            assert_eq!(words(model).collect::<Vec<_>>().join("-"), **model, "{id}");
            assert!(is_model(id, model), "{id}");
        }
    }

    #[test]
    fn a_model_is_the_same_wherever_it_stands() {
        for (id, wish, same) in [
            ("NVIDIA H100 80GB HBM3", "h100", true),
            ("NVIDIA H100 NVL", "H100", true),
            ("NVIDIA H100 PCIe", "nvidia h100", true),
            ("NVIDIA H200", "h100", false),
            ("NVIDIA L40S", "l40", false),
            ("NVIDIA GeForce RTX 4070 Ti", "rtx-4070", false),
            ("NVIDIA GeForce RTX 4070 Ti", "RTX 4070 Ti", true),
            ("NVIDIA RTX 6000 Ada Generation", "rtx-pro-6000", false),
            ("NVIDIA Z900", "z900", true),
        ] {
            assert_eq!(is_model(id, wish), same, "{id} {wish}");
        }
    }
}
