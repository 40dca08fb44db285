//! What was measured: a JSON line at once, and a line of the table at the end.

use serde_json::{Value, json};

/// What was measured so far.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 3]>);

/// Measurements of one kind, all of one unit.
#[derive(Clone, Copy)]
pub(crate) struct Sample<'a> {
    pub(crate) name: &'a str,
    pub(crate) values: &'a [f64],
}

impl Table {
    /// A number that needs no comparison.
    pub(crate) fn one(&mut self, name: &str, unit: &str, value: f64) {
        self.line(&json!({"name": name, "unit": unit, "value": round(value)}));
        self.0.push([name.to_owned(), format!("{value:.1} {unit}"), String::new()]);
    }

    /// A number, and what it shall not exceed.
    pub(crate) fn bar(&mut self, name: &str, unit: &str, value: f64, bar: f64) {
        let met = value <= bar;
        self.line(&json!({"name": name, "unit": unit, "value": round(value), "bar": bar, "met": met}));
        let verdict = if met { "met" } else { "MISSED" };
        self.0.push([
            name.to_owned(),
            format!("{value:.1} {unit}"),
            format!("bar: at most {bar:.0} {unit}, {verdict}"),
        ]);
    }

    /// A number beside the one that it is compared with.
    pub(crate) fn beside(&mut self, name: &str, unit: &str, value: f64, beside: (&str, f64)) {
        let (other, than) = beside;
        let ratio = round(value / than);
        self.line(&json!({
            "name": name, "unit": unit, "value": round(value),
            "beside": other, "beside_value": round(than), "ratio": ratio,
        }));
        self.0.push([
            name.to_owned(),
            format!("{value:.1} {unit}"),
            format!("{other}: {than:.1} {unit}, ratio {ratio:.2}"),
        ]);
    }

    /// Samples beside those that they are compared with.
    pub(crate) fn compare(&mut self, unit: &str, ours: Sample<'_>, theirs: Sample<'_>) {
        let (p50, p99) = (at(ours.values, 0.5), at(ours.values, 0.99));
        let (their50, their99) = (at(theirs.values, 0.5), at(theirs.values, 0.99));
        self.line(&json!({
            "name": ours.name, "unit": unit, "count": ours.values.len(), "p50": round(p50), "p99": round(p99),
            "beside": theirs.name, "beside_p50": round(their50), "beside_p99": round(their99),
            "ratio": round(p50 / their50),
        }));
        self.0.push([
            ours.name.to_owned(),
            format!("p50 {p50:.1} {unit}, p99 {p99:.1} {unit}"),
            format!(
                "{}: p50 {their50:.1} {unit}, p99 {their99:.1} {unit}, ratio {:.2}",
                theirs.name,
                p50 / their50
            ),
        ]);
    }

    /// The table.
    pub(crate) fn print(&self) {
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        for [name, value, beside] in &self.0 {
            println!("{name:first$}  {value:second$}  {beside}");
        }
    }

    fn line(&self, line: &Value) {
        println!("{line}");
    }
}

/// The value below which a share of the values lies; the largest where there are few.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
pub(crate) fn at(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((crate::gauge::count(last) * share).round() as usize).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
