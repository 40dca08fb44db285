//! What requests and answers look like: a JSON Schema of our own (`schema.json`), and a checker for the keywords in it.
//!
//! It says everything that is wrong with a value at once, in the words that RunPod's server uses.

use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Parsed once. Its keywords are those that [`check`] knows: a test reads all of it.
static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("schema.json")).expect("`schema.json` is JSON"));

/// Everything that is wrong with a value as `definition` has it, each with its path, such as
/// `$.gpu: missing property 'id'`. An unknown definition, keyword or format is wrong, too.
#[must_use]
pub fn check(definition: &str, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    match DOCUMENT["definitions"].get(definition) {
        Some(schema) => walk(schema, value, "$", &mut errors),
        None => errors.push(format!("$: there is no definition '{definition}'")),
    }
    errors
}

fn walk(schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else {
        errors.push(format!("{path}: the schema is no object"));
        return;
    };
    if let Some(expected) = schema.get("type")
        && !names(expected).any(|name| is_a(value, name))
    {
        let want: Vec<_> = names(expected).collect();
        errors.push(format!("{path}: got {}, want {}", kind(value), want.join(" or ")));
        return;
    }
    for (keyword, operand) in schema {
        keyword_check(schema, keyword, operand, value, path, errors);
    }
}

fn keyword_check(
    schema: &Map<String, Value>,
    keyword: &str,
    operand: &Value,
    value: &Value,
    path: &str,
    errors: &mut Vec<String>,
) {
    let text = value.as_str();
    let length = text.map(|text| text.chars().count());
    let array = value.as_array().map(Vec::as_slice);
    let object = value.as_object();
    let mut least = |have: Option<usize>| {
        if let (Some(have), Some(want)) = (have, size(operand))
            && have < want
        {
            errors.push(format!("{path}: {keyword}: got {have}, want {want}"));
        }
    };
    match keyword {
        "type" | "$comment" => {}
        "minLength" => least(length),
        "minItems" => least(array.map(<[_]>::len)),
        "minProperties" => least(object.map(Map::len)),
        "maxLength" | "maxItems" => {
            let have = if keyword == "maxLength" { length } else { array.map(<[_]>::len) };
            if let (Some(have), Some(want)) = (have, size(operand))
                && have > want
            {
                errors.push(format!("{path}: {keyword}: got {have}, want {want}"));
            }
        }
        "minimum" | "maximum" => {
            if let (Some(have), Some(want)) = (value.as_f64(), operand.as_f64())
                && (if keyword == "minimum" { have < want } else { have > want })
            {
                errors.push(format!("{path}: {keyword}: got {value}, want {operand}"));
            }
        }
        "enum" => {
            let known = operand.as_array().map(Vec::as_slice).unwrap_or_default();
            if !known.contains(value) {
                let known: Vec<_> = known.iter().map(|one| one.to_string().replace('"', "'")).collect();
                errors.push(format!("{path}: value must be one of {}", known.join(", ")));
            }
        }
        "format" => format_check(operand, text, path, errors),
        "$ref" => {
            let name = operand.as_str().and_then(|name| name.strip_prefix("#/definitions/")).unwrap_or("");
            walk(&DOCUMENT["definitions"][name], value, path, errors);
        }
        "anyOf" => {
            let tried: Vec<Vec<String>> = operand
                .as_array()
                .into_iter()
                .flatten()
                .map(|schema| {
                    let mut errors = Vec::new();
                    walk(schema, value, path, &mut errors);
                    errors
                })
                .collect();
            if tried.iter().all(|errors| !errors.is_empty()) {
                errors.extend(tried.into_iter().flatten());
            }
        }
        "items" => {
            for (index, item) in array.unwrap_or_default().iter().enumerate() {
                walk(operand, item, &format!("{path}[{index}]"), errors);
            }
        }
        "required" => {
            for name in names(operand).filter(|name| object.is_some_and(|object| !object.contains_key(*name)))
            {
                errors.push(format!("{path}: missing property '{name}'"));
            }
        }
        "properties" => {
            for (name, schema) in operand.as_object().into_iter().flatten() {
                if let Some(member) = object.and_then(|object| object.get(name)) {
                    walk(schema, member, &format!("{path}.{name}"), errors);
                }
            }
        }
        "additionalProperties" => {
            let known = schema.get("properties").and_then(Value::as_object);
            let others = object
                .into_iter()
                .flatten()
                .filter(|(name, _)| !known.is_some_and(|known| known.contains_key(*name)));
            for (name, member) in others {
                if *operand == Value::Bool(false) {
                    errors.push(format!("{path}: additional properties '{name}' not allowed"));
                } else {
                    walk(operand, member, &format!("{path}.{name}"), errors);
                }
            }
        }
        other => errors.push(format!("{path}: the schema has an unknown keyword '{other}'")),
    }
}

fn format_check(format: &Value, text: Option<&str>, path: &str, errors: &mut Vec<String>) {
    let Some(text) = text else { return };
    let fits = match format.as_str() {
        Some("date-time") => text.parse::<Timestamp>().is_ok(),
        Some("cuda-version") => {
            text.split_once('.').is_some_and(|(major, minor)| digits(major) && digits(minor))
        }
        Some("secret-name") => {
            text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c))
        }
        Some("ssh-key") => {
            let mut words = text.split(' ');
            let kind = words.next().unwrap_or("");
            ["ssh-", "ecdsa-", "sk-"]
                .iter()
                .any(|prefix| kind.len() > prefix.len() && kind.starts_with(prefix))
                && words.next().is_some_and(|key| !key.is_empty())
                && !text.contains(['\n', '\r'])
        }
        _ => false,
    };
    if !fits {
        let name = format.as_str().unwrap_or("");
        errors.push(format!("{path}: '{text}' is not valid {name}"));
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// One name, or a list of names.
fn names(value: &Value) -> impl Iterator<Item = &str> {
    let many = value.as_array().map(Vec::as_slice).unwrap_or_default();
    value.as_str().into_iter().chain(many.iter().filter_map(Value::as_str))
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|size| usize::try_from(size).ok())
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => kind(value) == other,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn everything_wrong_with_a_request_is_told_at_once_with_its_path() {
        let wrong = json!({
            "name": "", "bogus": 1, "disk": "50", "cloud": "MOON", "env": {"A": 1}, "ports": ["22/tcp", 80],
            "gpu": {"count": 0, "minCudaVersion": "12", "interruptible": true},
            "mounts": {"network": [{"volumeId": "a", "path": "/a"}, {"volumeId": "b"}]},
        });
        let mut errors = check("CreatePodRequest", &wrong);
        errors.sort();
        assert_eq!(
            errors,
            [
                "$.cloud: value must be one of 'SECURE', 'COMMUNITY'",
                "$.disk: got string, want integer",
                "$.env.A: got number, want string",
                "$.gpu.count: minimum: got 0, want 1",
                "$.gpu.minCudaVersion: '12' is not valid cuda-version",
                "$.gpu: additional properties 'interruptible' not allowed",
                "$.gpu: missing property 'id'",
                "$.mounts.network: maxItems: got 2, want 1",
                "$.mounts.network[1]: missing property 'path'",
                "$.name: minLength: got 0, want 1",
                "$.ports[1]: got number, want string",
                "$: additional properties 'bogus' not allowed",
            ]
        );
        assert_eq!(check("CreatePodRequest", &json!([])), ["$: got array, want object"]);
        assert_eq!(check("CreatePodRequest", &json!({"name": "a", "registry": null})), Vec::<String>::new());
        assert_eq!(check("NoSuchThing", &json!({})), ["$: there is no definition 'NoSuchThing'"]);
    }

    #[test]
    fn formats_take_what_they_are_for_alone() {
        let keys = json!({"keys": ["ssh-ed25519 AAAA me", "ssh- AAAA", "rsa AAAA", "ssh-rsa", "sk-x AAAA\nssh-rsa B"]});
        assert_eq!(check("SshKeys", &keys).len(), 4);
        for (name, fits) in [("a/b.c-d", true), ("_x", true), ("1a", false), ("a b", false), ("ü", false)] {
            let errors = check("CreateSecretRequest", &json!({"name": name, "value": "v"}));
            assert_eq!(errors.is_empty(), fits, "{name}: {errors:?}");
        }
        let secret = |at: &str| json!({"id": "a", "name": "a", "createdAt": at, "valueLastUpdatedAt": null});
        assert_eq!(check("Secret", &secret("2026-06-01T12:00:00Z")), Vec::<String>::new());
        assert_eq!(
            check("Secret", &secret("yesterday")),
            ["$.createdAt: 'yesterday' is not valid date-time"]
        );
    }

    /// Every keyword, format and reference of the document, wherever it stands.
    fn collect(schema: &Value, found: &mut BTreeSet<String>) {
        for (keyword, operand) in schema.as_object().expect("a schema is an object") {
            found.insert(match (keyword.as_str(), operand.as_str()) {
                ("format" | "$ref", Some(operand)) => format!("{keyword} {operand}"),
                _ => keyword.clone(),
            });
            match keyword.as_str() {
                "properties" => {
                    operand.as_object().unwrap().values().for_each(|schema| collect(schema, found))
                }
                "items" => collect(operand, found),
                "additionalProperties" if operand.is_object() => collect(operand, found),
                "anyOf" => operand.as_array().unwrap().iter().for_each(|schema| collect(schema, found)),
                _ => {}
            }
        }
    }

    #[test]
    fn the_document_says_nothing_that_the_checker_does_not_know() {
        let mut found = BTreeSet::new();
        let definitions = DOCUMENT["definitions"].as_object().unwrap();
        definitions.values().for_each(|schema| collect(schema, &mut found));
        for word in &found {
            if let Some(name) = word.strip_prefix("$ref #/definitions/") {
                assert!(definitions.contains_key(name), "{word}");
                continue;
            }
            let schema = match word.strip_prefix("format ") {
                Some(format) => json!({ "format": format }),
                None => json!({ word: 1 }),
            };
            let mut errors = Vec::new();
            walk(&schema, &json!("2026-06-01T12:00:00Z"), "$", &mut errors);
            assert!(!errors.iter().any(|error| error.contains("unknown keyword")), "{errors:?}");
            assert!(
                !word.starts_with("format")
                    || ["date-time", "cuda-version", "secret-name", "ssh-key"]
                        .iter()
                        .any(|known| word.ends_with(known)),
                "{word}"
            );
        }
        assert!(found.len() > 15, "{found:?}");
    }
}
