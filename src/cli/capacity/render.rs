//! What is known of capacity, as tables. Pure.

use jiff::Timestamp;

use super::overview::{Block, Overview, Reservation, Spot};
use crate::capacity::live::Live;
use crate::cli::plan::summary::duration;
use crate::cli::table::{cells, columns, or_dash};

/// Everything, for people.
pub(super) fn tables(overview: &Overview) -> String {
    let now = overview.as_of;
    let mut text = format!("{}, {:.0}\n", overview.region, now);
    text += &section("reservations", overview.reservations.as_deref(), |all| reservations(all, now));
    text += &section("Capacity Blocks", overview.blocks.as_deref(), |all| blocks(all, now));
    text += &section("spot prices", overview.spot_prices.as_deref(), spot);
    if let Some(live) = &overview.running {
        text += &running(live, now);
    }
    for note in &overview.notes {
        text += &format!("note: {note}\n");
    }
    text
}

fn section<T>(title: &str, all: Option<&[T]>, lines: impl FnOnce(&[T]) -> String) -> String {
    match all {
        None => format!("{title}: not known\n"),
        Some([]) => format!("{title}: none\n"),
        Some(all) => format!("{title}:\n{}", lines(all)),
    }
}

fn reservations(all: &[Reservation], now: Timestamp) -> String {
    let head = cells(["ID", "TYPE", "ZONE", "USED", "STATE", "MATCH", "KIND", "ENDS"]);
    let line = |one: &Reservation| {
        [
            one.id.clone(),
            one.instance_type.clone(),
            one.zone.clone(),
            format!("{}/{}", one.used, one.total),
            one.state.to_owned(),
            one.match_criteria.to_owned(),
            one.kind.to_owned(),
            one.ends_at.map_or_else(|| "never".to_owned(), |end| from_now(end, now)),
        ]
    };
    columns("  ", &[vec![head], all.iter().map(line).collect()].concat())
}

fn blocks(all: &[Block], now: Timestamp) -> String {
    let head = cells(["ID", "RESERVATION", "TYPE", "ZONE", "USED", "STATE", "STARTS", "DRAINS", "ENDS"]);
    let when = |at: Option<Timestamp>| or_dash(at.map(|at| from_now(at, now)).as_deref());
    let line = |one: &Block| {
        [
            or_dash(one.id.as_deref()),
            or_dash(one.reservation_id.as_deref()),
            or_dash(one.instance_type.as_deref()),
            or_dash(one.zone.as_deref()),
            or_dash(one.reservation_id.as_ref().map(|_| format!("{}/{}", one.used, one.total)).as_deref()),
            one.state.to_owned(),
            when(one.starts_at),
            when(one.drains_at),
            when(one.ends_at),
        ]
    };
    columns("  ", &[vec![head], all.iter().map(line).collect()].concat())
}

fn spot(all: &[Spot]) -> String {
    let line = |one: &Spot| [one.instance_type.clone(), one.zone.clone(), one.price_per_hour.clone()];
    columns("  ", &[vec![cells(["TYPE", "ZONE", "USD/H"])], all.iter().map(line).collect()].concat())
}

fn running(live: &Live, now: Timestamp) -> String {
    let avoided = section("avoided", Some(&live.avoided), |all| {
        let head = cells(["WHAT", "CLASS", "CODE", "FAILURES", "FREE"]);
        let lines = all.iter().map(|one| {
            let failures = one.failures.to_string();
            [one.what.clone(), one.class.clone(), one.code.clone(), failures, from_now(one.until, now)]
        });
        columns("  ", &[vec![head], lines.collect()].concat())
    });
    let of_node = format!("quotas in use by node {}", live.node);
    let quotas = section(&of_node, Some(&live.quotas), |all| {
        let head = cells(["QUOTA", "MARKET", "VCPU", "REFUSED"]);
        let lines = all.iter().map(|one| {
            let refused = one.refused_until.map(|until| format!("asked again {}", from_now(until, now)));
            let vcpus = one.vcpus_in_use.to_string();
            [one.family.clone(), one.market.clone(), vcpus, or_dash(refused.as_deref())]
        });
        columns("  ", &[vec![head], lines.collect()].concat())
    });
    let ceilings: Vec<_> = live.ceilings.iter().collect();
    let ceilings = section("lowered for a quota or the budget", Some(&ceilings), |all| {
        let lines: Vec<_> = all.iter().map(|(name, most)| [(*name).clone(), most.to_string()]).collect();
        columns("  ", &[vec![cells(["RESOURCE", "OFFERED"])], lines].concat())
    });
    let in_flight: Vec<_> = live.in_flight.iter().collect();
    let in_flight = section("being launched into reservations", Some(&in_flight), |all| {
        let lines: Vec<_> = all.iter().map(|(id, count)| [(*id).clone(), count.to_string()]).collect();
        columns("  ", &[vec![cells(["RESERVATION", "MACHINES"])], lines].concat())
    });
    let learned = section("learned sizes", Some(&live.learned), |all| {
        let lines = all.iter().map(|one| {
            [
                one.instance_type.clone(),
                format!("{}m", one.cpu_milli),
                format!("{}Mi", one.memory_bytes >> 20),
            ]
        });
        columns("  ", &[vec![cells(["TYPE", "CPU", "MEMORY"])], lines.collect()].concat())
    });
    let hourly = match live.max_hourly_micro_usd {
        Some(limit) => format!("cost per hour: ${}, of ${limit} at most\n", live.hourly_micro_usd),
        None => format!("cost per hour: ${}\n", live.hourly_micro_usd),
    };
    [avoided, quotas, ceilings, in_flight, hourly, learned].concat()
}

/// `in 3d4h`, `2m ago`.
fn from_now(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let shown = duration(seconds.unsigned_abs());
    if seconds >= 0 { format!("in {shown}") } else { format!("{shown} ago") }
}
