//! Keeps `docs/configuration.md` and the complete example equal to the table of keys.

use std::fmt::Write as _;
use std::path::Path;

use super::keys::{KEYS, Key, Need};
use super::{Config, Facts};

const PAGE: &str = "docs/configuration.md";
const EXAMPLE: &str = "docs/configuration.example.yaml";

#[test]
fn the_documentation_is_what_the_table_of_keys_says() {
    keep(EXAMPLE, &example());
    keep(PAGE, &page());
}

#[test]
fn the_complete_example_is_accepted_and_has_every_key_that_has_an_example() {
    let (_, warnings) =
        Config::resolve(&example(), &Facts { outward_ip: Some([10, 0, 0, 1].into()), ..Facts::default() })
            .unwrap_or_else(|problems| panic!("{problems}\n{}", example()));
    assert_eq!(warnings, []);
}

#[test]
fn every_default_of_the_table_is_accepted_by_its_own_key() {
    let required: String = "
aws: {region: us-east-1, vpcID: vpc-0a1b2c3d, subnetIDs: [subnet-0a1b2c3d], securityGroupIDs: [sg-0a1b2c3d]}
instances: {defaultInstanceType: g6.xlarge}
"
    .to_owned();
    let facts = Facts { outward_ip: Some([10, 0, 0, 1].into()), ..Facts::default() };
    Config::resolve(&required, &facts).unwrap();
}

/// Writes the file anew when it differs, and fails then: look at the difference and commit it.
fn keep(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    if found != expected {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, expected).unwrap();
        panic!("{path} was out of date and has been written anew: look at the difference and commit it");
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Written by a test from src/config/keys.rs: change it there, then run `cargo test --workspace`. -->\n\n\
         ORCA reads one YAML file, named by `orca run --config FILE`.\n\
         `orca check --config FILE` says everything that is wrong with it, then tries every connection that it describes.\n\
         A file with a problem is never used in part: all problems are printed, and the exit code is 2.\n\n\
         Four keys under `aws` are required, and one under `runpod` where that section is there; every other key has a default or may be absent.\n\
         [configuration.example.yaml](configuration.example.yaml) is a complete example.\n",
    );
    let mut section = "";
    for key in KEYS.iter().filter(|key| !matches!(key.need, Need::OlderSpelling(_))) {
        let of = key.path.split('.').next().unwrap_or_default();
        if of != section {
            section = of;
            write!(page, "\n## `{section}`\n\n| key | value | default | meaning |\n|---|---|---|---|\n")
                .unwrap();
        }
        writeln!(page, "| `{}` | {} | {} | {} |", key.path, key.expected, default(key), key.meaning).unwrap();
    }
    page += "\n## Older spellings\n\nAccepted with a warning, and not beside the key that replaces them.\n\n| older | now |\n|---|---|\n";
    for key in KEYS {
        if let Need::OlderSpelling(new) = key.need {
            writeln!(page, "| `{}` | `{new}` |", key.path).unwrap();
        }
    }
    page
}

fn default(key: &Key) -> String {
    match key.need {
        Need::Required | Need::RequiredInSection => "required".to_owned(),
        Need::Optional | Need::OlderSpelling(_) => String::new(),
        Need::Default(yaml) => format!("`{yaml}`"),
    }
}

/// Every key with an example, nested as its path says.
fn example() -> String {
    let mut text = String::from(
        "# Every key that may stand beside the others, with an example value: configuration.md explains them.\n",
    );
    let mut open: Vec<&str> = Vec::new();
    for key in KEYS.iter().filter(|key| !key.example.is_empty()) {
        let steps: Vec<&str> = key.path.split('.').collect();
        let (name, sections) = steps.split_last().unwrap();
        let shared = open.iter().zip(sections).take_while(|(a, b)| a == b).count();
        for (depth, section) in sections.iter().enumerate().skip(shared) {
            writeln!(text, "{}{section}:", "  ".repeat(depth)).unwrap();
        }
        open = sections.to_vec();
        writeln!(text, "{}{name}: {}", "  ".repeat(sections.len()), key.example).unwrap();
    }
    text
}
