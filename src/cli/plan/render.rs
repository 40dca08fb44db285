//! A plan as a table. Pure.

use super::report::{Candidate, Market, Rejected, Report, Verdict};
use crate::cli::table::{cells, columns, or_dash};

/// Candidates that the plain table shows.
const SHOWN: usize = 12;

/// How much the table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// The first candidates.
    Plain,
    /// Every candidate, with the size of its machine.
    Wide,
}

/// Everything about one pod, for people.
pub(super) fn table(report: &Report, width: Width) -> String {
    let pod = &report.pod;
    let mut text = format!("{} {}/{}\n", pod.kind, pod.namespace, pod.name);
    if let Some(asks) = &report.asks {
        text += &format!("asks for: {asks}\n");
    }
    if !report.candidates.is_empty() {
        text += "candidates, in the order in which they are tried:\n";
        text += &candidates(report, width);
    }
    if !report.rejected.is_empty() {
        text += "not chosen:\n";
        text += &rejected(&report.rejected);
    }
    text += &verdict(report);
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    text
}

fn candidates(report: &Report, width: Width) -> String {
    let most = match width {
        Width::Plain => SHOWN,
        Width::Wide => usize::MAX,
    };
    let shown: Vec<_> = report.candidates.iter().take(most).collect();
    let market = report.market.as_ref();
    let mut text = match width {
        Width::Plain => {
            let head =
                cells(["#", "TYPE", "MARKET", "RESERVATION", "ZONE", "SUBNET", "USD/H", "PRICE", "WHY"]);
            let lines: Vec<_> = shown.into_iter().map(|one| line(report, market, one)).collect();
            columns("  ", &[vec![head], lines].concat())
        }
        Width::Wide => {
            let head = cells([
                "#",
                "TYPE",
                "MARKET",
                "RESERVATION",
                "ZONE",
                "SUBNET",
                "USD/H",
                "ADDS/H",
                "PRICE",
                "VCPU",
                "MEMORY",
                "GPUS",
                "WHY",
            ]);
            let lines: Vec<_> = shown.into_iter().map(|one| wide(line(report, market, one), one)).collect();
            columns("  ", &[vec![head], lines].concat())
        }
    };
    let more = report.candidates.len().saturating_sub(most);
    if more > 0 {
        text += &format!("  and {more} more (-o wide shows all)\n");
    }
    text
}

fn line(report: &Report, market: Option<&Market>, one: &Candidate) -> [String; 9] {
    let elsewhere = market.filter(|market| market.prices.region != report.region);
    let source = match (one.source, elsewhere) {
        (Some("static"), Some(market)) => format!("{} static", market.prices.region),
        (source, _) => or_dash(source),
    };
    let reservation = one.reservation_id.as_deref().or(one.reservation_group.as_deref());
    [
        one.rank.to_string(),
        one.instance_type.clone(),
        one.market.to_owned(),
        or_dash(reservation.or_else(|| (one.market == "reserved").then_some("open"))),
        or_dash(one.zone.as_deref()),
        or_dash(one.subnet_id.as_deref()),
        one.price_per_hour.clone().unwrap_or_else(|| "unknown".to_owned()),
        source,
        one.why.clone(),
    ]
}

fn wide(plain: [String; 9], one: &Candidate) -> [String; 13] {
    let [rank, name, market, reservation, zone, subnet, price, source, why] = plain;
    let gpus = one.gpu_model.as_ref().map(|model| format!("{} {model}", one.gpus));
    [
        rank,
        name,
        market,
        reservation,
        zone,
        subnet,
        price,
        or_dash(one.added_per_hour.as_deref()),
        source,
        one.vcpus.to_string(),
        format!("{}Mi", one.memory_mib),
        or_dash(gpus.as_deref()),
        why,
    ]
}

fn rejected(all: &[Rejected]) -> String {
    let line = |one: &Rejected| {
        [one.rule.to_owned(), one.count.to_string(), one.what.to_owned(), one.example.clone()]
    };
    let head = cells(["RULE", "COUNT", "BECAUSE", "SUCH AS"]);
    columns("  ", &[vec![head], all.iter().map(line).collect()].concat())
}

fn verdict(report: &Report) -> String {
    match &report.verdict {
        Verdict::Launch => match report.candidates.first() {
            Some(first) => format!("verdict: launch {} ({})\n", first.instance_type, first.market),
            None => "verdict: launch\n".to_owned(),
        },
        Verdict::Refuse { reason, problems } => {
            let told = problems.iter().map(|one| format!("  {}: {}\n", one.path, one.message));
            format!("verdict: the pod is refused ({reason})\n{}", told.collect::<String>())
        }
        Verdict::Wait { reason, message, until } => {
            let until = until.map_or_else(
                || "looked at again when the market changes".to_owned(),
                |until| format!("may change at {until}"),
            );
            format!("verdict: the pod waits ({reason})\n  {message}\n  {until}\n")
        }
    }
}
