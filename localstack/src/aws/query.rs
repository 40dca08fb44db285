//! The Query protocol's requests: form parameters with dotted names, each of which must be known to its action.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::Refusal;
use super::encoding::{Plus, decode, sha256_hex};

/// The parameters of one request. What an action does not read, it does not know: [`Params::all_known`].
#[derive(Debug)]
pub struct Params {
    values: BTreeMap<String, String>,
    read: RefCell<BTreeSet<String>>,
}

impl Params {
    /// Parses a form body.
    pub fn parse(form: &str) -> Result<Self, Refusal> {
        let text = |part: &str| {
            decode(part, Plus::Space).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
                Refusal::new(
                    "MalformedQueryString",
                    format!("The query string contains a syntax error: {part}"),
                )
            })
        };
        let mut values = BTreeMap::new();
        for pair in form.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (text(name)?, text(value)?);
            if values.insert(name.clone(), value).is_some() {
                let message = format!("The parameter {name} is given more than once");
                return Err(Refusal::new("InvalidQueryParameter", message));
            }
        }
        Ok(Self { values, read: RefCell::default() })
    }

    /// Where an action's own parameters are.
    #[must_use]
    pub fn root(&self) -> Scope<'_> {
        Scope { params: self, prefix: String::new() }
    }

    /// Whether any parameter's name is like that.
    pub fn any(&self, like: impl Fn(&str) -> bool) -> bool {
        self.values.keys().any(|name| like(name))
    }

    /// Refuses what nobody has read. To be called when the action has read everything it knows.
    pub fn all_known(&self) -> Result<(), Refusal> {
        let read = self.read.borrow();
        match self.values.keys().find(|name| !read.contains(*name)) {
            Some(name) => {
                Err(Refusal::new("UnknownParameter", format!("The parameter {name} is not recognized")))
            }
            None => Ok(()),
        }
    }

    /// One text for all parameters but those in `except`: equal requests, equal texts.
    #[must_use]
    pub fn fingerprint(&self, except: &[&str]) -> String {
        let mut text = String::new();
        for (name, value) in self.values.iter().filter(|(name, _)| !except.contains(&name.as_str())) {
            text.push_str(&format!("{}:{name}={}:{value}\n", name.len(), value.len()));
        }
        sha256_hex(text.as_bytes())
    }
}

/// The parameters under a dotted prefix.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    params: &'a Params,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// A parameter's full name.
    #[must_use]
    pub fn name(&self, field: &str) -> String {
        if self.prefix.is_empty() { field.to_owned() } else { format!("{}.{field}", self.prefix) }
    }

    pub fn text(&self, field: &str) -> Option<&'a str> {
        let (name, value) = self.params.values.get_key_value(&self.name(field))?;
        self.params.read.borrow_mut().insert(name.clone());
        Some(value)
    }

    /// The text of a parameter that must be there and not empty.
    pub fn required(&self, field: &str) -> Result<&'a str, Refusal> {
        self.text(field).filter(|value| !value.is_empty()).ok_or_else(|| Refusal::missing(&self.name(field)))
    }

    /// A boolean, as EC2 reads it.
    pub fn flag(&self, field: &str) -> Result<Option<bool>, Refusal> {
        self.text(field)
            .map(|value| match value.to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => {
                    let message = format!(
                        "Invalid value '{value}' for {}. Expected 'true' or 'false'",
                        self.name(field)
                    );
                    Err(Refusal::new("InvalidParameterValue", message))
                }
            })
            .transpose()
    }

    pub fn number<T: FromStr>(&self, field: &str) -> Result<Option<T>, Refusal> {
        self.text(field)
            .map(|value| {
                value.parse().map_err(|_| {
                    let message =
                        format!("Invalid value '{value}' for {}. Expected a number", self.name(field));
                    Refusal::new("InvalidParameterValue", message)
                })
            })
            .transpose()
    }

    /// `Field.1`, `Field.2`, ... in order.
    pub fn texts(&self, field: &str) -> Vec<&'a str> {
        let list = Scope { params: self.params, prefix: self.name(field) };
        self.indices(field).into_iter().filter_map(|index| list.text(&index)).collect()
    }

    /// The structures `Field.1.*`, `Field.2.*`, ... in order.
    #[must_use]
    pub fn list(&self, field: &str) -> Vec<Self> {
        let name = self.name(field);
        let scope = |index| Scope { params: self.params, prefix: format!("{name}.{index}") };
        self.indices(field).into_iter().map(scope).collect()
    }

    /// The structure `Field.*`.
    #[must_use]
    pub fn scope(&self, field: &str) -> Self {
        Self { params: self.params, prefix: self.name(field) }
    }

    /// Whether `field`, or anything under it, was given.
    #[must_use]
    pub fn given(&self, field: &str) -> bool {
        let name = self.name(field);
        self.params
            .values
            .keys()
            .any(|key| key.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }

    /// The indices of a list, as they were written, in their order as numbers.
    fn indices(&self, field: &str) -> Vec<String> {
        let prefix = format!("{}.", self.name(field));
        let mut indices: Vec<(u32, String)> = Vec::new();
        for key in self.params.values.range(prefix.clone()..).map(|(key, _)| key) {
            let Some(rest) = key.strip_prefix(&prefix) else { break };
            let index = rest.split('.').next().unwrap_or(rest);
            if let Some(number) = index.parse().ok().filter(|number| *number > 0 && !index.starts_with('+')) {
                indices.push((number, index.to_owned()));
            }
        }
        indices.sort();
        indices.dedup();
        indices.into_iter().map(|(_, index)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_structures_are_read_in_the_order_of_their_numbers() {
        let form = "Id.10=j&Id.2=b&Id.1=a&Tag.2.Key=y&Tag.1.Key=x&Tag.1.Value=a+b%26c&Box.On=true&N=12";
        let params = Params::parse(form).unwrap();
        let root = params.root();
        assert_eq!(root.texts("Id"), ["a", "b", "j"]);
        let tags: Vec<_> = root.list("Tag").iter().map(|tag| (tag.text("Key"), tag.text("Value"))).collect();
        assert_eq!(tags, [(Some("x"), Some("a b&c")), (Some("y"), None)]);
        assert_eq!(root.scope("Box").flag("On"), Ok(Some(true)));
        assert_eq!(root.number::<u32>("N"), Ok(Some(12)));
        assert!(root.given("Box") && root.given("N") && !root.given("Bo"));
        assert_eq!(params.all_known(), Ok(()));
    }

    #[test]
    fn what_nobody_reads_is_an_unknown_parameter() {
        for form in ["Known=1&Other=2", "Known=1&List.x=2", "Known=1&List.0=2", "Known.1=1"] {
            let params = Params::parse(form).unwrap();
            params.root().text("Known");
            params.root().texts("List");
            assert_eq!(params.all_known().unwrap_err().code, "UnknownParameter", "{form}");
        }
    }

    #[test]
    fn broken_forms_are_refused() {
        assert_eq!(Params::parse("A=%zz").unwrap_err().code, "MalformedQueryString");
        assert_eq!(Params::parse("A=1&A=2").unwrap_err().code, "InvalidQueryParameter");
        let params = Params::parse("Flag=maybe&Number=ten&Empty=").unwrap();
        let root = params.root();
        assert_eq!(root.flag("Flag").unwrap_err().code, "InvalidParameterValue");
        assert_eq!(root.number::<u32>("Number").unwrap_err().code, "InvalidParameterValue");
        assert_eq!(root.required("Empty").unwrap_err().code, "MissingParameter");
        assert_eq!(root.required("Absent").unwrap_err().code, "MissingParameter");
    }

    #[test]
    fn fingerprints_differ_when_any_parameter_does_but_not_by_order() {
        let print = |form| Params::parse(form).unwrap().fingerprint(&["Token"]);
        assert_eq!(print("A=1&B=2&Token=x"), print("B=2&Token=y&A=1"));
        assert_ne!(print("A=1&B=2"), print("A=1&B=3"));
        assert_ne!(print("A=1%0AB=2"), print("A=1&B=2"));
    }
}
