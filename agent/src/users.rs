//! Users of this host by name, as `/etc/passwd` lists them.

use std::path::PathBuf;

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: u32,
    /// Its first group's number.
    pub group: u32,
    /// Its folder.
    pub home: PathBuf,
}

impl User {
    /// The user of this name, or one sentence why there is none.
    pub fn named(name: &str) -> Result<Self, String> {
        let users = std::fs::read_to_string("/etc/passwd")
            .map_err(|error| format!("cannot read `/etc/passwd`: {error}"))?;
        let user = users.lines().find_map(|line| parse(line).filter(|(known, _)| *known == name));
        user.map(|(_, user)| user).ok_or_else(|| format!("there is no user `{name}` on this host"))
    }
}

/// What the user of this number is called here: its number where nobody has that.
pub fn name_of(id: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().filter_map(parse).find(|(_, user)| user.id == id);
    named.map_or_else(|| id.to_string(), |(name, _)| name.to_owned())
}

fn parse(line: &str) -> Option<(&str, User)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let (id, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    let home = PathBuf::from(fields.nth(1)?);
    Some((name, User { id, group, home }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_name_where_somebody_has_it() {
        assert_eq!(name_of(0), "root");
        assert_eq!(name_of(4_000_000_123), "4000000123");
    }

    #[test]
    fn a_line_gives_numbers_and_folder_and_a_name_that_is_not_there_is_said() {
        let line = "vllm:x:990:991:runs engines:/var/lib/vllm:/usr/sbin/nologin";
        let home = PathBuf::from("/var/lib/vllm");
        assert_eq!(parse(line), Some(("vllm", User { id: 990, group: 991, home })));
        assert_eq!(parse("vllm:x:none"), None);
        let said = User::named("nobody-of-this-name").expect_err("not there");
        assert_eq!(said, "there is no user `nobody-of-this-name` on this host");
    }
}
