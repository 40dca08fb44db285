//! EC2's filters: `Filter.N.Name`, `Filter.N.Value.M`, with wildcards. All must match, each by any of its values.

use std::collections::BTreeMap;

use crate::aws::Refusal;
use crate::aws::query::Scope;

/// Values over all filters of a request.
const MOST_VALUES: usize = 200;

/// Something that can be filtered.
pub trait Filtered: Sized + 'static {
    /// The filters that it knows, beside those for tags.
    const FIELDS: &'static [Field<Self>];

    /// Its tags. `None`: things of this kind have no tags, and no filters for them.
    fn tags(&self) -> Option<&BTreeMap<String, String>>;

    /// Whether things of this kind have tags.
    const TAGGED: bool;
}

/// A filter's name, and the values of a thing that it is compared with.
#[derive(Debug)]
pub struct Field<T> {
    pub name: &'static str,
    pub values: fn(&T) -> Vec<String>,
}

/// The filters of one request, of which each is known.
#[derive(Debug)]
pub struct Filters(Vec<(String, Vec<String>)>);

impl Filters {
    /// Reads and checks the filters of a request for things of kind `T`.
    pub fn parse<T: Filtered>(scope: &Scope<'_>) -> Result<Self, Refusal> {
        let mut filters = Vec::new();
        for filter in scope.list("Filter") {
            let name = filter.required("Name")?;
            let values: Vec<String> = filter.texts("Value").into_iter().map(str::to_owned).collect();
            let tags = T::TAGGED
                && (name == "tag-key" || name.strip_prefix("tag:").is_some_and(|key| !key.is_empty()));
            if !tags && T::FIELDS.iter().all(|field| field.name != name) {
                return Err(Refusal::new("InvalidParameterValue", format!("The filter '{name}' is invalid")));
            }
            if values.is_empty() {
                return Err(Refusal::missing(&filter.name("Value")));
            }
            filters.push((name.to_owned(), values));
        }
        if filters.iter().map(|(_, values)| values.len()).sum::<usize>() > MOST_VALUES {
            let message =
                format!("The maximum number of filter values specified on a single call is {MOST_VALUES}");
            return Err(Refusal::new("FilterLimitExceeded", message));
        }
        Ok(Self(filters))
    }

    /// Whether a thing passes all of them.
    #[must_use]
    pub fn pass<T: Filtered>(&self, thing: &T) -> bool {
        self.0.iter().all(|(name, patterns)| {
            let values = values_of(thing, name);
            patterns.iter().any(|pattern| values.iter().any(|value| like(pattern, value)))
        })
    }
}

fn values_of<T: Filtered>(thing: &T, name: &str) -> Vec<String> {
    let tags = thing.tags();
    if let (Some(key), Some(tags)) = (name.strip_prefix("tag:"), tags) {
        return tags.get(key).cloned().into_iter().collect();
    }
    if let ("tag-key", Some(tags)) = (name, tags) {
        return tags.keys().cloned().collect();
    }
    T::FIELDS.iter().find(|field| field.name == name).map_or_else(Vec::new, |field| (field.values)(thing))
}

/// `*` for any run of characters, `?` for any one, `\` before one that stands for itself.
fn like(pattern: &str, value: &str) -> bool {
    #[derive(PartialEq)]
    enum Part {
        Run,
        One,
        Char(char),
    }
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        parts.push(match character {
            '*' => Part::Run,
            '?' => Part::One,
            '\\' => Part::Char(characters.next().unwrap_or('\\')),
            other => Part::Char(other),
        });
    }
    let value: Vec<char> = value.chars().collect();
    // The usual greedy match: on a mismatch, the last `*` takes one character more.
    let (mut at, mut part, mut retry) = (0, 0, None);
    while at < value.len() {
        match parts.get(part) {
            Some(Part::Run) => {
                retry = Some((part, at));
                part += 1;
            }
            Some(Part::One) => (at, part) = (at + 1, part + 1),
            Some(Part::Char(wanted)) if *wanted == value[at] => (at, part) = (at + 1, part + 1),
            Some(Part::Char(_)) | None => match retry {
                Some((run, from)) => {
                    (at, part) = (from + 1, run + 1);
                    retry = Some((run, from + 1));
                }
                None => return false,
            },
        }
    }
    parts[part..].iter().all(|part| *part == Part::Run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::query::Params;

    struct Thing(&'static str, BTreeMap<String, String>);

    impl Filtered for Thing {
        const FIELDS: &'static [Field<Self>] =
            &[Field { name: "color", values: |thing| vec![thing.0.to_owned()] }];
        const TAGGED: bool = true;
        fn tags(&self) -> Option<&BTreeMap<String, String>> {
            Some(&self.1)
        }
    }

    fn passing(form: &str) -> Vec<&'static str> {
        let tags = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let things =
            [Thing("red", tags("a", "1")), Thing("blue", tags("a", "22")), Thing("green", tags("b", ""))];
        let params = Params::parse(form).unwrap();
        let filters = Filters::parse::<Thing>(&params.root()).unwrap();
        assert_eq!(params.all_known(), Ok(()));
        things.iter().filter(|thing| filters.pass(*thing)).map(|thing| thing.0).collect()
    }

    #[test]
    fn all_filters_must_match_each_by_any_value() {
        assert_eq!(passing(""), ["red", "blue", "green"]);
        assert_eq!(
            passing("Filter.1.Name=color&Filter.1.Value.1=red&Filter.1.Value.2=green"),
            ["red", "green"]
        );
        assert_eq!(
            passing("Filter.1.Name=color&Filter.1.Value.1=*e*&Filter.2.Name=tag-key&Filter.2.Value.1=a"),
            ["red", "blue"]
        );
        assert_eq!(passing("Filter.1.Name=tag:a&Filter.1.Value.1=*"), ["red", "blue"]);
        assert_eq!(passing("Filter.1.Name=tag:a&Filter.1.Value.1=2?"), ["blue"]);
        assert_eq!(passing("Filter.1.Name=tag:b&Filter.1.Value.1="), ["green"]);
        assert!(passing("Filter.1.Name=color&Filter.1.Value.1=RED").is_empty());
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let refused = |form: &str| {
            let params = Params::parse(form).unwrap();
            Filters::parse::<Thing>(&params.root()).unwrap_err().code
        };
        assert_eq!(refused("Filter.1.Name=colour&Filter.1.Value.1=red"), "InvalidParameterValue");
        assert_eq!(refused("Filter.1.Name=tag:&Filter.1.Value.1=red"), "InvalidParameterValue");
        assert_eq!(refused("Filter.1.Name=color"), "MissingParameter");
        assert_eq!(refused("Filter.1.Value.1=red"), "MissingParameter");
        let many: String = (1..=201).map(|n| format!("&Filter.1.Value.{n}=x")).collect();
        assert_eq!(refused(&format!("Filter.1.Name=color{many}")), "FilterLimitExceeded");
    }

    #[test]
    fn wildcards_can_be_escaped_and_backtrack() {
        for (pattern, value, matches) in [
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXbcd", false),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("i-0?", "i-0a", true),
        ] {
            assert_eq!(like(pattern, value), matches, "{pattern} {value}");
        }
    }
}
