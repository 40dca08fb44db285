//! What services in AWS's JSON 1.1 protocol share: the shape of refusals, and the rules of a request's members.

use std::fmt::Display;
use std::ops::RangeInclusive;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An error of a JSON 1.1 service: `{"__type": code, "message": message}`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct JsonError {
    /// 400 for the caller's faults, 500 for ours.
    pub status: u16,
    /// Such as `TargetNotConnected`.
    pub code: String,
    pub message: String,
}

impl JsonError {
    /// A fault of the caller.
    #[must_use]
    pub fn caller(code: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.to_owned(), message: message.into() }
    }

    /// A fault of the service.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self { status: 500, code: "InternalServerError".to_owned(), message: message.into() }
    }
}

impl IntoResponse for JsonError {
    fn into_response(self) -> Response {
        let body = json!({ "__type": self.code, "message": self.message }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = header::HeaderValue::from_static("application/x-amz-json-1.1");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// A request's body, or what AWS says when its members have the wrong types.
pub fn parse<T: DeserializeOwned>(body: Value) -> Result<T, JsonError> {
    let body = if body.is_null() { json!({}) } else { body };
    serde_json::from_value(body)
        .map_err(|error| JsonError::caller("SerializationException", error.to_string()))
}

/// The rules that a service's model has for members. All services use the same words, each under a code of its own.
#[derive(Clone, Copy, Debug)]
pub struct Members(pub &'static str);

impl Members {
    /// A member that breaks a rule.
    #[must_use]
    pub fn broken(self, member: &str, value: impl Display, rule: &str) -> JsonError {
        self.refusal(&format!("Value '{value}' at '{member}'"), rule)
    }

    /// A member that must be there.
    pub fn required<T>(self, member: &str, value: Option<T>) -> Result<T, JsonError> {
        value.ok_or_else(|| self.refusal(&format!("Value null at '{member}'"), "not be null"))
    }

    /// Text that must be there, with so many characters.
    pub fn text(
        self,
        member: &str,
        value: Option<String>,
        allowed: RangeInclusive<usize>,
    ) -> Result<String, JsonError> {
        let value = self.required(member, value)?;
        self.length(member, &value, value.chars().count(), allowed)?;
        Ok(value)
    }

    /// How long something may be, as text or as a list.
    pub fn length(
        self,
        member: &str,
        value: impl Display,
        length: usize,
        allowed: RangeInclusive<usize>,
    ) -> Result<(), JsonError> {
        let (least, most) = allowed.into_inner();
        if length < least {
            let rule = format!("have length greater than or equal to {least}");
            return Err(self.broken(member, value, &rule));
        }
        if length > most {
            return Err(self.broken(member, value, &format!("have length less than or equal to {most}")));
        }
        Ok(())
    }

    /// How large a number may be.
    pub fn number(self, member: &str, value: i64, allowed: RangeInclusive<i64>) -> Result<i64, JsonError> {
        let (least, most) = allowed.into_inner();
        if value < least {
            let rule = format!("have value greater than or equal to {least}");
            return Err(self.broken(member, value, &rule));
        }
        if value > most {
            return Err(self.broken(member, value, &format!("have value less than or equal to {most}")));
        }
        Ok(value)
    }

    /// How many of something are asked for; the most there may be where nothing is said.
    pub fn limit(
        self,
        member: &str,
        asked: Option<i64>,
        allowed: RangeInclusive<i64>,
    ) -> Result<usize, JsonError> {
        let most = *allowed.end();
        let asked = asked.map_or(Ok(most), |asked| self.number(member, asked, allowed))?;
        Ok(usize::try_from(asked).unwrap_or(usize::MAX))
    }

    fn refusal(self, what: &str, rule: &str) -> JsonError {
        let message =
            format!("1 validation error detected: {what} failed to satisfy constraint: Member must {rule}");
        JsonError::caller(self.0, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: Members = Members("ValidationException");

    fn message<T: std::fmt::Debug>(result: Result<T, JsonError>) -> String {
        let error = result.unwrap_err();
        assert_eq!((error.status, error.code.as_str()), (400, "ValidationException"));
        let prefix = "1 validation error detected: Value ";
        error
            .message
            .strip_prefix(prefix)
            .unwrap()
            .replace("failed to satisfy constraint: Member must ", "- ")
    }

    #[test]
    fn a_member_that_breaks_a_rule_is_named_with_its_value_and_the_rule() {
        let text = |value: &str| MEMBERS.text("name", Some(value.to_owned()), 2..=3);
        assert_eq!(text("äöü"), Ok("äöü".to_owned()));
        assert_eq!(message(text("a")), "'a' at 'name' - have length greater than or equal to 2");
        assert_eq!(message(text("abcd")), "'abcd' at 'name' - have length less than or equal to 3");
        assert_eq!(message(MEMBERS.text("name", None, 2..=3)), "null at 'name' - not be null");
        assert_eq!(
            message(MEMBERS.number("n", 0, 1..=50)),
            "'0' at 'n' - have value greater than or equal to 1"
        );
        assert_eq!(
            message(MEMBERS.limit("n", Some(51), 1..=50)),
            "'51' at 'n' - have value less than or equal to 50"
        );
        assert_eq!(MEMBERS.limit("n", None, 1..=50), Ok(50));
        assert_eq!(MEMBERS.limit("n", Some(7), 1..=50), Ok(7));
    }
}
