//! Pages of lists: a cursor says after which of them the next one begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::{Query, invalid};
use super::settings::{Api, Settings};

/// The parameters of a list beside its own.
#[must_use]
pub fn parameters(settings: &Settings) -> &'static [&'static str] {
    match settings.api {
        Api::August => &[],
        Api::October => &["cursor"],
    }
}

/// A page of what is in the order of its numbers, under its name.
pub fn page(
    name: &str,
    mut items: Vec<(u64, Value)>,
    query: &Query,
    settings: &Settings,
) -> Result<Value, Problem> {
    items.sort_by_key(|(number, _)| *number);
    if settings.api == Api::August {
        return Ok(json!({ name: items.into_iter().map(|(_, item)| item).collect::<Vec<_>>() }));
    }
    let after = match query.text("cursor") {
        Some(cursor) => decode(cursor).ok_or_else(|| invalid("cursor", cursor, "one that a list gave"))?,
        None => 0,
    };
    items.retain(|(number, _)| *number > after);
    let has_more = items.len() > settings.page_size.get();
    items.truncate(settings.page_size.get());
    let next = items.last().filter(|_| has_more).map(|(number, _)| encode(*number));
    let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
    Ok(json!({ name: items, "pagination": { "hasNextPage": has_more, "nextCursor": next } }))
}

fn encode(number: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("after:{number}"))
}

fn decode(cursor: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    std::str::from_utf8(&bytes).ok()?.strip_prefix("after:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end_and_a_made_up_cursor_is_refused() {
        let settings = Settings { page_size: NonZeroUsize::MIN.saturating_add(1), ..Settings::default() };
        let items = || (1..=5).rev().map(|number| (number, json!(number))).collect::<Vec<_>>();
        let get = |cursor: Option<&str>| {
            let text = cursor.map(|cursor| format!("cursor={cursor}")).unwrap_or_default();
            page("all", items(), &Query::parse(&text, &["cursor"]).unwrap(), &settings)
        };
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = get(cursor.as_deref()).unwrap();
            seen.push(page["all"].to_string());
            cursor = page["pagination"]["nextCursor"].as_str().map(str::to_owned);
            assert_eq!(page["pagination"]["hasNextPage"], json!(cursor.is_some()));
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["[1,2]", "[3,4]", "[5]"]);
        assert_eq!(get(Some("MTI")).unwrap_err().status, 422);
        let old = Settings { api: Api::August, ..settings };
        let all = page("all", items(), &Query::default(), &old).unwrap();
        assert_eq!(all, json!({"all": [1, 2, 3, 4, 5]}));
    }
}
