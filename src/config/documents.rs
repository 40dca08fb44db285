//! YAML that is no configuration: the documents of a manifest.
//!
//! Read as values first, since the kind of an object says what it has to be; where a value turns out to be wrong, it
//! is read once more as that type, because only then the message has the path and the line.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The documents of a YAML (or JSON) text, without empty ones, each with its place in the text.
///
/// # Errors
/// It is not YAML; the message has line and column.
pub fn documents(text: &str) -> Result<Vec<(usize, Value)>, String> {
    let all = serde_yaml::Deserializer::from_str(text).enumerate();
    let read = all.map(|(at, one)| Ok((at, Value::deserialize(one).map_err(|error| error.to_string())?)));
    let kept = read.filter(|one| !matches!(one, Ok((_, Value::Null))));
    kept.collect()
}

/// What is wrong with the document at a place, as a `T`; `None` if it is one.
pub fn complaint<T: DeserializeOwned>(text: &str, at: usize) -> Option<String> {
    let document = serde_yaml::Deserializer::from_str(text).nth(at)?;
    T::deserialize(document).err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[test]
    fn every_document_is_a_value_and_empty_ones_are_none() {
        let read = documents("# nothing\n---\nkind: Pod\n---\n---\n{\"kind\": \"Job\"}\n").unwrap();
        let kinds: Vec<_> = read.iter().map(|(_, value)| value["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Pod", "Job"]);
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let error = documents("kind: Pod\nmetadata: [\n").unwrap_err();
        assert!(error.contains("line"), "{error}");
    }

    #[test]
    fn a_value_of_another_type_is_told_with_its_path_and_line() {
        let text = "kind: Job\n---\nkind: Pod\napiVersion: v1\nspec:\n  containers:\n  - name: [x]\n";
        let error = complaint::<Pod>(text, 1).unwrap();
        assert!(error.contains("spec.containers[0].name") && error.contains("line 7"), "{error}");
    }
}
