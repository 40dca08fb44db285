//! Pages of long answers: `MaxResults`, and an opaque `NextToken` that belongs to one query.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::aws::Refusal;
use crate::aws::query::Params;

/// What part of an answer is asked for.
#[derive(Debug)]
pub struct Page {
    limit: usize,
    after: Option<String>,
    query: String,
}

/// The most that any answer holds.
const MOST: usize = 1000;

impl Page {
    /// Reads `MaxResults` and `NextToken`. Without `MaxResults`, an answer holds as many as it may be.
    pub fn parse(params: &Params, bounds: RangeInclusive<i64>) -> Result<Self, Refusal> {
        let scope = params.root();
        let limit = scope.number::<i64>("MaxResults")?;
        if let Some(limit) = limit.filter(|limit| !bounds.contains(limit)) {
            let expected = if limit < *bounds.start() {
                format!("Expecting a value greater than {}.", bounds.start())
            } else {
                format!("Expecting a value smaller than {}.", bounds.end())
            };
            return Err(Refusal::value("maxResults", &limit.to_string(), &expected));
        }
        // Another filter or action with this token would answer nonsense, so the token carries what it is for.
        let query = params.fingerprint(&["MaxResults", "NextToken"])[..16].to_owned();
        let after =
            scope.text("NextToken").filter(|token| !token.is_empty()).map(|token| read(token, &query));
        Ok(Self {
            limit: usize::try_from(limit.unwrap_or_else(|| *bounds.end())).unwrap_or(MOST),
            after: after.transpose()?,
            query,
        })
    }

    /// Refuses `MaxResults` and `NextToken` beside a list of ids, whose name is EC2's own for it.
    pub fn not_with(params: &Params, ids: &str, set: &str) -> Result<(), Refusal> {
        let scope = params.root();
        let paging = [("MaxResults", "maxResults"), ("NextToken", "nextToken")];
        match paging.into_iter().find(|(name, _)| scope.given(ids) && scope.given(name)) {
            Some((_, parameter)) => Err(Refusal::new(
                "InvalidParameterCombination",
                format!("The parameter {set} cannot be used with the parameter {parameter}"),
            )),
            None => Ok(()),
        }
    }

    /// The asked part of all items, and the token for the next. `key` orders them.
    pub fn cut<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        items.sort_by_cached_key(&key);
        if let Some(after) = &self.after {
            items.retain(|item| key(item) > *after);
        }
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let token = items.last().filter(|_| more).map(|last| self.token(&key(last)));
        (items, token)
    }

    fn token(&self, key: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("1 {} {key}", self.query))
    }
}

fn read(token: &str, query: &str) -> Result<String, Refusal> {
    let refusal = || Refusal::new("InvalidNextToken", "The specified NextToken is not valid.");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refusal())?;
    let text = String::from_utf8(bytes).map_err(|_| refusal())?;
    text.strip_prefix(&format!("1 {query} ")).map(str::to_owned).ok_or_else(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(form: &str) -> Result<Page, Refusal> {
        Page::parse(&Params::parse(form).unwrap(), 5..=1000)
    }

    #[test]
    fn pages_cover_everything_once_even_when_items_vanish_between() {
        let mut items: Vec<u32> = (10..30).collect();
        let mut seen = Vec::new();
        let mut form = "Filter=x&MaxResults=7".to_owned();
        loop {
            let (part, next) = page(&form).unwrap().cut(items.clone(), |n| format!("{n:04}"));
            seen.extend(part);
            items.retain(|n| *n != 12);
            let Some(next) = next else { break };
            form = format!("Filter=x&MaxResults=7&NextToken={next}");
        }
        assert_eq!(seen, (10..30).collect::<Vec<_>>());
    }

    #[test]
    fn a_token_of_another_query_or_of_nobody_is_refused() {
        let (_, token) = page("Filter=x&MaxResults=5").unwrap().cut((0..9).collect(), |n| n.to_string());
        let token = token.unwrap();
        assert!(page(&format!("Filter=x&NextToken={token}")).is_ok());
        for form in
            [format!("Filter=y&NextToken={token}"), "NextToken=abc".to_owned(), "NextToken=%21".to_owned()]
        {
            assert_eq!(page(&form).unwrap_err().code, "InvalidNextToken", "{form}");
        }
    }

    #[test]
    fn max_results_has_bounds_and_no_ids_beside_it() {
        for bad in ["4", "0", "-1", "1001", "x"] {
            assert_eq!(
                page(&format!("MaxResults={bad}")).unwrap_err().code,
                "InvalidParameterValue",
                "{bad}"
            );
        }
        for form in ["InstanceId.1=i-1&MaxResults=5", "InstanceId.1=i-1&NextToken=x"] {
            let params = Params::parse(form).unwrap();
            let refusal = Page::not_with(&params, "InstanceId", "instancesSet").unwrap_err();
            assert_eq!(refusal.code, "InvalidParameterCombination");
        }
        assert_eq!(Page::not_with(&Params::parse("InstanceId.1=i-1").unwrap(), "InstanceId", "x"), Ok(()));
    }
}
