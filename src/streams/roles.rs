//! Which stream of a remote command is which. Pure.

use std::collections::BTreeMap;

use super::asked::Wanted;
use super::spdy::headers::{self, Headers};

/// What a stream of a remote command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

/// What becomes of a new stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has its role.
    Serve,
    /// Nobody asked for it: what comes is thrown away.
    Ignore,
    /// Its role is taken.
    Refuse,
}

/// The streams that were promised, and those that have come.
#[derive(Debug)]
pub(super) struct Roles {
    wanted: Vec<Role>,
    given: BTreeMap<Role, u32>,
}

impl Roles {
    /// For a client that opens them, one by one. Before v3 there were no sizes.
    pub(super) fn promised(wanted: Wanted, has_sizes: bool) -> Self {
        Self { wanted: Self::list(wanted, has_sizes), given: BTreeMap::new() }
    }

    /// For channels, which are all there at once.
    pub(super) fn fixed(wanted: Wanted) -> Self {
        let wanted = Self::list(wanted, true);
        let numbers = BTreeMap::from([
            (Role::Stdin, 0),
            (Role::Stdout, 1),
            (Role::Stderr, 2),
            (Role::Error, 3),
            (Role::Resize, 4),
        ]);
        let given = numbers.into_iter().filter(|(role, _)| wanted.contains(role)).collect();
        Self { wanted, given }
    }

    /// How many channels there are.
    pub(super) const CHANNELS: u8 = 5;

    fn list(wanted: Wanted, has_sizes: bool) -> Vec<Role> {
        [
            (Role::Error, true),
            (Role::Stdin, wanted.stdin),
            (Role::Stdout, wanted.stdout),
            (Role::Stderr, wanted.stderr),
            (Role::Resize, wanted.terminal && has_sizes),
        ]
        .into_iter()
        .filter_map(|(role, is_wanted)| is_wanted.then_some(role))
        .collect()
    }

    /// What becomes of a stream with these headers.
    pub(super) fn assign(&mut self, id: u32, headers: &Headers) -> Verdict {
        let role = match headers::value(headers, "streamtype") {
            Some("error") => Role::Error,
            Some("stdin") => Role::Stdin,
            Some("stdout") => Role::Stdout,
            Some("stderr") => Role::Stderr,
            Some("resize") => Role::Resize,
            Some(_) | None => return Verdict::Ignore,
        };
        if !self.wanted.contains(&role) {
            return Verdict::Ignore;
        }
        if self.given.contains_key(&role) {
            return Verdict::Refuse;
        }
        self.given.insert(role, id);
        Verdict::Serve
    }

    /// Whether all have come.
    pub(super) fn is_complete(&self) -> bool {
        self.given.len() == self.wanted.len()
    }

    pub(super) fn get(&self, role: Role) -> Option<u32> {
        self.given.get(&role).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(letters: &str) -> Wanted {
        Wanted {
            stdin: letters.contains('i'),
            stdout: letters.contains('o'),
            stderr: letters.contains('e'),
            terminal: letters.contains('t'),
        }
    }

    fn assign(roles: &mut Roles, id: u32, name: &str) -> Verdict {
        roles.assign(id, &vec![("streamtype".to_owned(), name.to_owned())])
    }

    #[test]
    fn a_command_begins_when_the_promised_streams_have_come() {
        for (letters, has_sizes, names) in [
            ("o", true, &["error", "stdout"][..]),
            ("ioe", true, &["stdin", "stderr", "error", "stdout"]),
            ("iot", true, &["error", "stdin", "stdout", "resize"]),
            ("iot", false, &["error", "stdin", "stdout"]),
        ] {
            let mut roles = Roles::promised(wanted(letters), has_sizes);
            for (id, name) in (1..).step_by(2).zip(names) {
                assert!(!roles.is_complete(), "{letters}");
                assert_eq!(assign(&mut roles, id, name), Verdict::Serve);
            }
            assert!(roles.is_complete(), "{letters}");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_ignored_and_nothing_comes_twice() {
        let mut roles = Roles::promised(wanted("o"), true);
        assert_eq!(assign(&mut roles, 1, "error"), Verdict::Serve);
        assert_eq!(assign(&mut roles, 3, "error"), Verdict::Refuse);
        for (id, name) in [(5, "stdin"), (7, "resize"), (9, "Error"), (11, "")] {
            assert_eq!(assign(&mut roles, id, name), Verdict::Ignore, "{name}");
        }
        assert_eq!(roles.assign(13, &Headers::new()), Verdict::Ignore);
        assert_eq!((roles.is_complete(), roles.get(Role::Error)), (false, Some(1)));
    }

    #[test]
    fn channels_are_there_at_once() {
        let roles = Roles::fixed(wanted("it"));
        assert!(roles.is_complete());
        let given =
            [Role::Error, Role::Stdin, Role::Stdout, Role::Stderr, Role::Resize].map(|role| roles.get(role));
        assert_eq!(given, [Some(3), Some(0), None, None, Some(4)]);
    }
}
