//! Keeps the table of errors in `docs/capacity.md` equal to [`TABLE`].

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::capacity::avoid::Next;
use crate::capacity::avoid::table::{Row, TABLE, Where};

const PAGE: &str = "docs/capacity.md";
const BEGIN: &str = "<!-- errors: begin -->\n";
const END: &str = "<!-- errors: end -->";

#[test]
fn the_documentation_is_what_the_table_of_errors_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let found = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = found.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{}{END}{after}", errors());
    if found != wanted {
        std::fs::write(&file, wanted).unwrap();
        panic!("{PAGE} was out of date and has been written anew: look at the difference and commit it");
    }
}

fn errors() -> String {
    let mut table = String::from("| class | codes | next | avoided | for |\n|---|---|---|---|---|\n");
    for row in TABLE {
        let codes: Vec<_> = row.codes.iter().map(|code| format!("`{code}`")).collect();
        let says = row.text.map_or_else(String::new, |text| format!(" whose text has “{text}”"));
        writeln!(
            table,
            "| {} | {}{says} | {} | {} | {} |",
            row.class.name(),
            codes.join(", "),
            next(row.next),
            place(row.scope),
            time(row)
        )
        .unwrap();
    }
    table
}

fn next(next: Next) -> &'static str {
    match next {
        Next::Candidate => "the next candidate, at once",
        Next::SameCall => "the same call, after a pause",
        Next::FailPod => "the pod fails",
        Next::Wait => "the pod waits for a person",
        Next::LookUp => "what the token made is looked up",
    }
}

fn place(place: Where) -> &'static str {
    match place {
        Where::Nowhere => "nothing",
        Where::Pool => "the type in the zone and market",
        Where::TypeInZone => "the type in the zone, in every market",
        Where::Quota => "the quota's family and market",
        Where::Subnet => "the subnet",
        Where::Volume => "the volume type in the zone",
        Where::Reservation => "the reservation",
        Where::SpotPrice => "spot of the type in the zone",
        Where::Spot => "spot",
        Where::GroupInZone => "the placement group in the zone",
    }
}

fn time(row: &Row) -> String {
    let shown = |time: Duration| match time.as_secs() {
        seconds if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        seconds => format!("{} min", seconds / 60),
    };
    match (row.scope, row.first == row.cap) {
        (Where::Nowhere, _) => String::new(),
        (_, true) => shown(row.first),
        (_, false) => format!("{}, doubled up to {}", shown(row.first), shown(row.cap)),
    }
}
