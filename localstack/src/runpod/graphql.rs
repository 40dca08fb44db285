//! The little of RunPod's GraphQL that REST v2 has no answer for: the account's money.
//!
//! Refusals are HTTP 200 with `errors`, as the real one's are, but for a key that is not known.

use std::iter::Peekable;
use std::str::CharIndices;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::account::Account;
use super::catalog::dollars;

/// How deep selections go.
const DEPTH: u32 = 8;

/// A request's body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    query: String,
    #[serde(default, rename = "variables")]
    _variables: Value,
    #[serde(default, rename = "operationName")]
    _operation: Option<String>,
}

/// A field, and what is selected of it.
#[derive(Debug, PartialEq, Eq)]
struct Field<'a> {
    name: &'a str,
    fields: Vec<Self>,
}

/// The answer to a request.
#[must_use]
pub fn answer(account: &Account, body: &[u8]) -> Value {
    let body: Body = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(error) => return errors(&format!("POST body is not a GraphQL request: {error}")),
    };
    match parse(&body.query).and_then(|fields| perform(account, &fields)) {
        Ok(data) => json!({ "data": data }),
        Err(message) => errors(&message),
    }
}

/// A refusal.
#[must_use]
pub fn errors(message: &str) -> Value {
    json!({ "errors": [{ "message": message }] })
}

fn perform(account: &Account, fields: &[Field<'_>]) -> Result<Value, String> {
    let mut data = Map::new();
    for field in fields {
        if field.name != "myself" {
            return Err(format!("Cannot query field \"{}\" on type \"Query\".", field.name));
        }
        if field.fields.is_empty() {
            return Err("Field \"myself\" of type \"User\" must have a selection of subfields.".to_owned());
        }
        data.insert("myself".to_owned(), myself(account, &field.fields)?);
    }
    Ok(Value::Object(data))
}

fn myself(account: &Account, fields: &[Field<'_>]) -> Result<Value, String> {
    let mut user = Map::new();
    for Field { name, fields } in fields {
        if !fields.is_empty() {
            return Err(format!("Field \"{name}\" must not have a selection."));
        }
        let value = match *name {
            "id" => json!("user_local"),
            "clientBalance" => json!(account.bank.funds.balance),
            "currentSpendPerHr" => json!(dollars(account.spend())),
            "spendLimit" => json!(account.bank.funds.spend_limit),
            other => return Err(format!("Cannot query field \"{other}\" on type \"User\".")),
        };
        user.insert((*name).to_owned(), value);
    }
    Ok(Value::Object(user))
}

/// The selection of one query without arguments, aliases and fragments.
fn parse(text: &str) -> Result<Vec<Field<'_>>, String> {
    let mut reader = Reader { text, chars: text.char_indices().peekable() };
    if let Some(word) = reader.word() {
        if word != "query" {
            return Err(format!("Syntax Error: Unexpected \"{word}\"."));
        }
        reader.word();
    }
    let fields = reader.selection(DEPTH)?;
    match reader.next() {
        Some((_, c)) => Err(format!("Syntax Error: Unexpected \"{c}\".")),
        None => Ok(fields),
    }
}

struct Reader<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_whitespace() || *c == ',').is_some() {}
    }

    fn next(&mut self) -> Option<(usize, char)> {
        self.skip();
        self.chars.next()
    }

    fn word(&mut self) -> Option<&'a str> {
        self.skip();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begin = self.chars.peek().filter(|(_, c)| is_part(*c))?.0;
        let mut end = begin;
        while let Some((at, c)) = self.chars.next_if(|(_, c)| is_part(*c)) {
            end = at + c.len_utf8();
        }
        Some(&self.text[begin..end])
    }

    fn selection(&mut self, depth: u32) -> Result<Vec<Field<'a>>, String> {
        let depth = depth.checked_sub(1).ok_or("Syntax Error: The query is nested too deeply.")?;
        match self.next() {
            Some((_, '{')) => {}
            Some((_, c)) => return Err(format!("Syntax Error: Expected \"{{\", found \"{c}\".")),
            None => return Err("Syntax Error: Expected \"{\", found <EOF>.".to_owned()),
        }
        let mut fields = Vec::new();
        while let Some(name) = self.word() {
            self.skip();
            let nests = self.chars.peek().is_some_and(|(_, c)| *c == '{');
            fields.push(Field { name, fields: if nests { self.selection(depth)? } else { Vec::new() } });
        }
        match self.next() {
            Some((_, '}')) if !fields.is_empty() => Ok(fields),
            Some((_, c)) => Err(format!("Syntax Error: Expected Name, found \"{c}\".")),
            None => Err("Syntax Error: Expected Name, found <EOF>.".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::settings::Settings;

    fn ask(query: &str) -> String {
        let account = Account::new(Settings::default(), jiff::Timestamp::UNIX_EPOCH);
        answer(&account, json!({ "query": query }).to_string().as_bytes()).to_string()
    }

    #[test]
    fn the_accounts_money_is_told() {
        assert_eq!(
            ask("query Money { myself { clientBalance currentSpendPerHr, spendLimit } }"),
            r#"{"data":{"myself":{"clientBalance":1000.0,"currentSpendPerHr":0.0,"spendLimit":80.0}}}"#
        );
        assert_eq!(ask("{myself{id}}"), r#"{"data":{"myself":{"id":"user_local"}}}"#);
    }

    #[test]
    fn what_is_not_played_or_no_query_is_an_error_and_never_data() {
        for (query, word) in [
            ("{ myself { pods { id } } }", "must not have a selection"),
            ("{ myself { email } }", "email"),
            ("{ myself }", "selection of subfields"),
            ("{ gpuTypes { id } }", "gpuTypes"),
            ("mutation { podTerminate }", "mutation"),
            ("{ a: myself { id } }", ":"),
            ("{ myself { id }", "<EOF>"),
            ("{ myself { } }", "Expected Name"),
            ("{ myself { id } } }", "Unexpected"),
            ("", "<EOF>"),
            (&"{a".repeat(50_000), "too deeply"),
        ] {
            let told = ask(query);
            assert!(told.starts_with(r#"{"errors":[{"message":"#) && told.contains(word), "{query}: {told}");
        }
        let account = Account::new(Settings::default(), jiff::Timestamp::UNIX_EPOCH);
        assert!(answer(&account, b"{}").get("errors").is_some());
    }
}
