//! Keeps the tables in `docs/annotations.md` equal to the table of keys.

use std::fmt::Write as _;
use std::path::Path;

use crate::pod::wishes::keys::{KEYS, REFUSED};

const PAGE: &str = "docs/annotations.md";

#[test]
fn the_documentation_is_what_the_table_of_keys_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let found = std::fs::read_to_string(&file).unwrap();
    let wanted = put(&put(&found, "keys", &keys()), "refused", &refused());
    if found != wanted {
        std::fs::write(&file, wanted).unwrap();
        panic!("{PAGE} was out of date and has been written anew: look at the difference and commit it");
    }
}

/// The page with the text between two marks replaced.
fn put(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{PAGE} has no `{begin}`"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{PAGE} has no `{end}`"));
    format!("{before}{begin}{text}{end}{after}")
}

fn keys() -> String {
    let mut table = String::from("| key | also | value | example | meaning |\n|---|---|---|---|---|\n");
    for key in KEYS {
        let also: Vec<String> = key.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let gate = key.gate.map_or(String::new(), |gate| format!(" Annotations: as `{gate}` allows."));
        writeln!(
            table,
            "| `{}` | {} | {} | `{}` | {}{gate} |",
            key.name,
            also.join(", "),
            key.expected,
            key.example,
            key.meaning
        )
        .unwrap();
    }
    table
}

fn refused() -> String {
    let mut table = String::from("| key | why |\n|---|---|\n");
    for (key, why) in REFUSED {
        writeln!(table, "| `{key}` | {why} |").unwrap();
    }
    table
}
