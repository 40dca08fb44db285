//! Pages of a list, with tokens that survive changes to it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A token that no page gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadToken;

/// The order that the keys of a list are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// At most `most` of `items` after the one that `token` names, and the token for what follows. Items are in the
/// order of their keys: the first whose key is beyond the token's is the next.
pub fn page<T>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> String,
    order: Order,
    most: usize,
    token: Option<&str>,
) -> Result<(Vec<T>, Option<String>), BadToken> {
    let last = token
        .map(|token| {
            let bytes = URL_SAFE_NO_PAD.decode(token).ok();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(BadToken)
        })
        .transpose()?;
    let seen = |item: &T| {
        last.as_ref().is_some_and(|last| match order {
            Order::Ascending => key(item) <= *last,
            Order::Descending => key(item) >= *last,
        })
    };
    let mut rest = items.into_iter().skip_while(seen);
    let page: Vec<T> = rest.by_ref().take(most).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(
        items: &[u32],
        order: Order,
        token: Option<&str>,
    ) -> Result<(Vec<u32>, Option<String>), BadToken> {
        page(items.iter().copied(), u32::to_string, order, 3, token)
    }

    #[test]
    fn pages_follow_each_other_though_items_go() {
        let (first, token) = three(&[1, 2, 3, 4, 5, 6, 7], Order::Ascending, None).unwrap();
        assert_eq!(first, [1, 2, 3]);
        let (second, token) = three(&[1, 2, 4, 5, 6, 7], Order::Ascending, token.as_deref()).unwrap();
        assert_eq!(second, [4, 5, 6]);
        assert_eq!(three(&[1, 7], Order::Ascending, token.as_deref()), Ok((vec![7], None)));
        assert_eq!(three(&[1], Order::Ascending, Some("!")), Err(BadToken));
    }

    #[test]
    fn pages_follow_each_other_downwards() {
        let (first, token) = three(&[7, 6, 5, 4, 3], Order::Descending, None).unwrap();
        assert_eq!(first, [7, 6, 5]);
        assert_eq!(three(&[7, 4, 3], Order::Descending, token.as_deref()), Ok((vec![4, 3], None)));
    }
}
