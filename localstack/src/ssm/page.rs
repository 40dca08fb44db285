//! Pages of a list, with tokens that survive changes to it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::JsonError;

/// At most `most` of `items` after the one that `token` names, and the token for what follows. Items are in an
/// order that their keys keep: the first whose key is after the token's is the next.
pub(super) fn page<T>(
    items: Vec<T>,
    key: impl Fn(&T) -> String,
    most: usize,
    token: Option<&str>,
) -> Result<(Vec<T>, Option<String>), JsonError> {
    let after = token
        .map(|token| {
            let bytes = URL_SAFE_NO_PAD.decode(token).ok();
            bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| JsonError::caller("InvalidNextToken", "The specified token isn't valid."))
        })
        .transpose()?;
    let mut rest = items
        .into_iter()
        .skip_while(|item| after.as_ref().is_some_and(|after| key(item) <= *after))
        .collect::<Vec<_>>();
    let more = rest.len() > most;
    rest.truncate(most);
    let next = rest.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
    Ok((rest, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_though_items_go() {
        let items = |range: std::ops::Range<u32>| range.map(|n| n.to_string()).collect::<Vec<_>>();
        let (first, token) = page(items(1..8), String::clone, 3, None).unwrap();
        assert_eq!(first, ["1", "2", "3"]);
        let mut fewer = items(1..8);
        fewer.remove(2);
        let (second, token) = page(fewer, String::clone, 3, token.as_deref()).unwrap();
        assert_eq!(second, ["4", "5", "6"]);
        assert_eq!(
            page(items(1..8), String::clone, 3, token.as_deref()).unwrap(),
            (vec!["7".to_owned()], None)
        );
        assert_eq!(page(items(1..8), String::clone, 3, Some("!")).unwrap_err().code, "InvalidNextToken");
    }
}
