//! `/v2/billing/pods`: what pods cost, in buckets of time.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account::Account;
use super::meter::{Billed, Meter};
use super::problem::Problem;
use super::query::{Query, invalid};

const PARAMETERS: [&str; 5] = ["startTime", "endTime", "bucketSize", "lastN", "podId"];

/// Buckets of an answer; more of them than anyone reads.
const BUCKETS: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bucket {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Bucket {
    /// The beginning of the bucket that a time lies in, in UTC. Weeks begin on Mondays.
    fn floor(self, at: Timestamp) -> Timestamp {
        let civil = at.to_zoned(TimeZone::UTC).datetime();
        let date = civil.date();
        let begin: DateTime = match self {
            Self::Hour => date.at(civil.hour(), 0, 0, 0),
            Self::Day => date.at(0, 0, 0, 0),
            Self::Week => {
                let back = i64::from(civil.weekday().to_monday_zero_offset());
                date.checked_sub(Span::new().days(back)).unwrap_or(date).at(0, 0, 0, 0)
            }
            Self::Month => date.first_of_month().at(0, 0, 0, 0),
            Self::Year => date.first_of_year().at(0, 0, 0, 0),
        };
        begin.to_zoned(TimeZone::UTC).map_or(at, |zoned| zoned.timestamp())
    }

    /// The beginning of the bucket that is so many later, or earlier.
    fn step(self, begin: Timestamp, count: i64) -> Timestamp {
        let span = match self {
            Self::Hour => Span::new().hours(count),
            Self::Day => Span::new().days(count),
            Self::Week => Span::new().weeks(count),
            Self::Month => Span::new().months(count),
            Self::Year => Span::new().years(count),
        };
        begin.to_zoned(TimeZone::UTC).checked_add(span).map_or(Timestamp::MAX, |zoned| zoned.timestamp())
    }
}

/// What is asked for, resolved to whole buckets.
struct Window {
    from: Timestamp,
    to: Timestamp,
    bucket: Bucket,
}

fn window(query: &Query, now: Timestamp) -> Result<Window, Problem> {
    const TIME: &str = "an RFC 3339 time";
    let bucket = query.one("bucketSize", "hour, day, week, month or year")?.unwrap_or(Bucket::Day);
    let (from, to) = (query.one::<Timestamp>("startTime", TIME)?, query.one::<Timestamp>("endTime", TIME)?);
    if let Some(count) = query.one::<i64>("lastN", "an integer")? {
        if from.is_some() || to.is_some() {
            return Err(Problem::rule("lastN and startTime/endTime are mutually exclusive"));
        }
        if !(1..=10_000).contains(&count) {
            return Err(invalid("lastN", &count.to_string(), "1 to 10000"));
        }
        let current = bucket.floor(now);
        return Ok(Window { from: bucket.step(current, 1 - count), to: bucket.step(current, 1), bucket });
    }
    let month = std::time::Duration::from_secs(30 * 86_400);
    let from = bucket.floor(from.unwrap_or_else(|| crate::clock::before(now, month)));
    let to = to.unwrap_or(now);
    let floor = bucket.floor(to);
    let to = if floor == to { to } else { bucket.step(floor, 1) };
    if to <= from {
        return Err(Problem::rule("endTime must be after startTime"));
    }
    Ok(Window { from, to, bucket })
}

fn amounts(billed: &Billed, is_gpu: bool) -> Value {
    let (compute, disk) = (billed.compute / 1e6, billed.disk / 1e6);
    let (gpu, cpu) = if is_gpu { (compute, 0.0) } else { (0.0, compute) };
    json!({ "totalAmount": compute + disk, "gpuAmount": gpu, "cpuAmount": cpu, "diskAmount": disk })
}

/// `GET /v2/billing/pods`: a record for each pod and bucket in which it cost something.
pub fn pods(account: &Account, text: &str, now: Timestamp) -> Result<Value, Problem> {
    let query = Query::parse(text, &PARAMETERS)?;
    let Window { from, to, bucket } = window(&query, now)?;
    let wanted = query.text("podId");
    let is_gpu = |id: &str| super::catalog::Gpu::find(id).is_some();
    let past = account.past.iter().map(|past| (past.id.as_str(), is_gpu(past.hardware.0), &past.meter));
    let live =
        account.pods.values().map(|pod| (pod.id.as_str(), is_gpu(pod.order.compute.takes().0), &pod.meter));
    let all: Vec<(&str, bool, &Meter)> =
        past.chain(live).filter(|(id, ..)| wanted.is_none_or(|wanted| wanted == *id)).collect();
    let mut records = Vec::new();
    let mut totals = [Billed::default(), Billed::default()];
    let mut unique = std::collections::BTreeSet::new();
    let mut begin = from;
    for _ in 0..BUCKETS {
        if begin >= to {
            break;
        }
        let end = bucket.step(begin, 1);
        for (id, is_gpu, meter) in &all {
            let billed = meter.billed(begin, end.min(now));
            if billed.total() <= 0.0 {
                continue;
            }
            let mut record = amounts(&billed, *is_gpu);
            record["startTime"] = json!(begin);
            record["endTime"] = json!(end);
            record["podId"] = json!(id);
            records.push(record);
            unique.insert(*id);
            let sum = &mut totals[usize::from(*is_gpu)];
            *sum = sum.plus(billed);
        }
        begin = end;
    }
    let [cpu, gpu] = totals;
    let total = gpu.plus(cpu);
    Ok(json!({
        "metadata": {
            "query": { "startTime": from, "endTime": to, "bucketSize": bucket, "podId": wanted },
            "recordCount": records.len(), "uniquePodCount": unique.len(),
            "totals": {
                "totalAmount": total.total() / 1e6, "gpuAmount": gpu.compute / 1e6, "cpuAmount": cpu.compute / 1e6,
                "diskAmount": total.disk / 1e6,
            },
        },
        "records": records,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_of_whole_buckets() {
        let now = at("2026-11-21T10:20:30Z");
        let resolved = |text: &str| {
            let window = window(&Query::parse(text, &PARAMETERS).unwrap(), now);
            window.map(|window| format!("{} {}", window.from, window.to)).map_err(|problem| problem.status)
        };
        for (text, expected) in [
            ("", "2026-10-22T00:00:00Z 2026-11-22T00:00:00Z"),
            ("lastN=2&bucketSize=hour", "2026-11-21T09:00:00Z 2026-11-21T11:00:00Z"),
            ("lastN=1&bucketSize=week", "2026-11-16T00:00:00Z 2026-11-23T00:00:00Z"),
            ("lastN=2&bucketSize=month", "2026-10-01T00:00:00Z 2026-12-01T00:00:00Z"),
            ("lastN=1&bucketSize=year", "2026-01-01T00:00:00Z 2027-01-01T00:00:00Z"),
            (
                "startTime=2026-11-01T05:00:00Z&endTime=2026-11-03T00:00:00Z",
                "2026-11-01T00:00:00Z 2026-11-03T00:00:00Z",
            ),
        ] {
            assert_eq!(resolved(text), Ok(expected.to_owned()), "{text}");
        }
        for (text, status) in [
            ("lastN=0", 422),
            ("lastN=x", 422),
            ("bucketSize=minute", 422),
            ("startTime=monday", 422),
            ("lastN=1&endTime=2026-11-03T00:00:00Z", 400),
            ("startTime=2026-11-03T00:00:00Z&endTime=2026-11-01T00:00:00Z", 400),
        ] {
            assert_eq!(resolved(text), Err(status), "{text}");
        }
    }
}
