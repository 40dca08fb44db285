//! As whom an image's process runs: the `User` of its configuration, looked up in its own files.

use anyhow::{Context, ensure};

/// Numbers, and a home where the image knows of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: Option<String>,
}

/// A line of a passwd file: name, number, group, home.
fn passwd(text: &str) -> impl Iterator<Item = (&str, u32, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?;
        Some((name, uid, gid, home))
    })
}

/// `user`, `uid`, or either with `:group` or `:gid`; empty is root.
pub(super) fn resolve(spec: &str, passwd_file: &str, group_file: &str) -> anyhow::Result<User> {
    let (user, group) = spec.split_once(':').map_or((spec, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    let entry = passwd(passwd_file).find(|(name, uid, ..)| *name == user || number == Some(*uid));
    let uid = entry.map(|(_, uid, ..)| uid).or(number);
    let uid = uid.with_context(|| format!("user `{user}` is not in the image's /etc/passwd"))?;
    let gid = match group.filter(|group| !group.is_empty()) {
        None => entry.map_or(0, |(_, _, gid, _)| gid),
        Some(group) => {
            let named = |line: &str| {
                let mut fields = line.split(':');
                let is_named = fields.next() == Some(group);
                is_named.then(|| fields.nth(1)?.parse().ok()).flatten()
            };
            let gid = group_file.lines().find_map(named).or_else(|| group.parse().ok());
            gid.with_context(|| format!("group `{group}` is not in the image's /etc/group"))?
        }
    };
    ensure!(uid < u32::MAX && gid < u32::MAX, "user `{spec}` is no user");
    Ok(User { uid, gid, home: entry.map(|(.., home)| home.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:app\n";

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        for (spec, uid, gid, home) in [
            ("", 0, 0, Some("/root")),
            ("app", 1000, 1001, Some("/home/app")),
            ("1000", 1000, 1001, Some("/home/app")),
            ("app:staff", 1000, 50, Some("/home/app")),
            ("65535:65534", 65535, 65534, None),
            ("7", 7, 0, None),
            (":staff", 0, 50, Some("/root")),
        ] {
            let expected = User { uid, gid, home: home.map(str::to_owned) };
            assert_eq!(resolve(spec, PASSWD, GROUP).unwrap(), expected, "{spec}");
        }
        for wrong in ["nobody", "app:nobody", "4294967295"] {
            assert!(resolve(wrong, PASSWD, GROUP).is_err(), "{wrong}");
        }
    }
}
