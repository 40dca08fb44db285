//! What GetProducts is asked, and how it refuses.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::product::{Product, is_attribute};
use crate::aws::Refusal;
use crate::aws::encoding::sha256_hex;

/// The most products of one answer.
const MOST: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Body {
    service_code: Option<String>,
    #[serde(default)]
    filters: Vec<Filter>,
    format_version: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Filter {
    r#type: String,
    field: String,
    value: String,
}

/// A request that makes sense.
#[derive(Debug)]
pub(super) struct Request {
    /// Attribute, how it is compared, and with what.
    filters: Vec<(String, Comparison, String)>,
    pub limit: usize,
    /// The last SKU of the page before.
    pub after: Option<String>,
    /// Of everything but the page.
    fingerprint: String,
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Contains,
    AnyOf,
    NoneOf,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidParameterException", message)
}

impl Request {
    pub(super) fn parse(body: &Value) -> Result<Self, Refusal> {
        let Body { service_code, filters, format_version, next_token, max_results } = Body::deserialize(body)
            .map_err(|error| invalid(format!("Input Parameters are invalid. {error}")))?;
        match service_code.as_deref().unwrap_or("") {
            "AmazonEC2" => {}
            "" => return Err(invalid("Input Parameters are invalid. serviceCode cannot be null or empty")),
            other => {
                return Err(invalid(format!(
                    "Input Parameters are invalid. serviceCode {other} is not valid"
                )));
            }
        }
        if let Some(version) = format_version.filter(|version| version != "aws_v1") {
            return Err(invalid(format!(
                "Input Parameters are invalid. formatVersion {version} is not valid"
            )));
        }
        let limit =
            usize::try_from(max_results.unwrap_or(100)).ok().filter(|limit| (1..=MOST).contains(limit));
        let limit = limit
            .ok_or_else(|| invalid("Input Parameters are invalid. maxResults must be between 1 and 100"))?;
        let mut known = Vec::new();
        for Filter { r#type, field, value } in filters {
            let comparison = match r#type.as_str() {
                "TERM_MATCH" | "EQUALS" => Comparison::Equal,
                "CONTAINS" => Comparison::Contains,
                "ANY_OF" => Comparison::AnyOf,
                "NONE_OF" => Comparison::NoneOf,
                other => {
                    return Err(invalid(format!(
                        "Input Parameters are invalid. Filter type {other} is not valid"
                    )));
                }
            };
            // The service code is a field of its own and an attribute.
            let field = if matches!(field.as_str(), "ServiceCode" | "serviceCode") {
                "servicecode".to_owned()
            } else {
                field
            };
            if !is_attribute(&field) {
                return Err(invalid(format!(
                    "Input Parameters are invalid. Filter field {field} is not valid"
                )));
            }
            known.push((field, comparison, value));
        }
        let fingerprint = sha256_hex(format!("{known:?}").as_bytes())[..16].to_owned();
        let after = next_token.map(|token| read(&token, &fingerprint)).transpose()?;
        Ok(Self { filters: known, limit, after, fingerprint })
    }

    pub(super) fn matches(&self, product: &Product) -> bool {
        self.filters.iter().all(|(field, comparison, wanted)| {
            let value = match field.as_str() {
                "productFamily" => Some(product.family),
                attribute => product.attributes.get(attribute).map(String::as_str),
            };
            let Some(value) = value else { return *comparison == Comparison::NoneOf };
            let among = || wanted.split(',').any(|one| one.trim() == value);
            match comparison {
                Comparison::Equal => value == wanted,
                Comparison::Contains => value.contains(wanted),
                Comparison::AnyOf => among(),
                Comparison::NoneOf => !among(),
            }
        })
    }

    /// The token of what comes after a SKU.
    pub(super) fn token(&self, sku: &str) -> String {
        STANDARD.encode(format!("{}:{sku}", self.fingerprint))
    }
}

fn read(token: &str, fingerprint: &str) -> Result<String, Refusal> {
    let text = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let sku = text.as_deref().and_then(|text| text.strip_prefix(fingerprint)?.strip_prefix(':'));
    sku.map(str::to_owned).ok_or_else(|| {
        Refusal::new("InvalidNextTokenException", "The pagination token is invalid. Try again without one.")
    })
}
