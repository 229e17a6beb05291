//! A key of a file that the node's owner writes, with what is wrong with it.

/// What is wrong with one key, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct BadKey {
    /// The key with those above it, `health.off`.
    pub key: String,
    /// What was wrong and what is accepted.
    pub message: String,
}

impl BadKey {
    /// Of this key.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// The first text that no program, path or environment can be given: one with a zero byte.
pub fn zero_byte(text: &str) -> Option<BadKey> {
    // What is no TOML is refused by whoever reads it with its line.
    let table: toml::Table = toml::from_str(text).ok()?;
    let bad = |text: &str| text.contains('\0').then_some("a zero byte is accepted nowhere");
    find(&toml::Value::Table(table), "", &bad)
}

/// The first text outside these tables that says nothing or would spoil a terminal: a key may be left
/// out instead.
pub fn strange_text(text: &str, except: &[&str]) -> Option<BadKey> {
    let mut table: toml::Table = toml::from_str(text).ok()?;
    table.retain(|key, _| !except.contains(&key));
    let bad = |text: &str| match text {
        _ if text.trim().is_empty() => Some("it is empty; leave the key out"),
        _ if text.contains(char::is_control) => Some("a control character is accepted nowhere"),
        _ => None,
    };
    find(&toml::Value::Table(table), "", &bad)
}

/// What a file of TOML is refused for: line, key, and what is accepted. It may stand in a status or a
/// journal, so what is very long in the file is cut.
pub fn said(error: &toml::de::Error) -> String {
    let text = error.to_string();
    text.trim_end().lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// The ends of a line that is too long to be read; never a join string, whose secret admits a node.
fn cut(line: &str) -> String {
    const KEPT: usize = 200;
    if let Some((before, _)) = line.split_once("wharfage-join:") {
        return format!("{before}wharfage-join:...");
    }
    let length = line.chars().count();
    if length <= 2 * KEPT {
        return line.to_owned();
    }
    let (head, tail) = (line.chars().take(KEPT), line.chars().skip(length - KEPT));
    head.chain(" ... ".chars()).chain(tail).collect()
}

fn find(
    value: &toml::Value,
    at: &str,
    bad: &dyn Fn(&str) -> Option<&'static str>,
) -> Option<BadKey> {
    match value {
        toml::Value::String(text) => bad(text).map(|message| BadKey::new(at, message)),
        toml::Value::Array(all) => all.iter().find_map(|value| find(value, at, bad)),
        toml::Value::Table(table) => table.iter().find_map(|(key, value)| {
            let below = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            find(value, &below, bad)
        }),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_nobody_can_be_given_is_found_wherever_it_stands() {
        for (text, key) in [
            ("a = \"x\\u0000\"", Some("a")),
            ("[env]\nB = \"\\u0000\"", Some("env.B")),
            ("[[bucket]]\nname = \"x\"\n[[bucket]]\nname = \"y\\u0000\"", Some("bucket.name")),
            ("a = [[\"x\"], [\"\\u0000\"]]", Some("a")),
            ("a = \"x\"\nb = 1", None),
            ("a = ", None),
        ] {
            assert_eq!(zero_byte(text).map(|bad| bad.key).as_deref(), key, "{text}");
        }
        let text = "a = \" \"\n[env]\nB = \"\"";
        assert_eq!(strange_text(text, &["env"]).map(|bad| bad.key).as_deref(), Some("a"));
        assert_eq!(strange_text("[env]\nB = \"\"", &["env"]), None);
        let bell = strange_text("a = [\"x\\u0007\"]", &[]).expect("refused").to_string();
        assert_eq!(bell, "a: a control character is accepted nowhere");
    }

    #[test]
    fn a_file_of_one_endless_line_is_refused_in_a_short_sentence() {
        let endless = format!("a = [{}", "1,".repeat(30_000));
        let said = said(&toml::from_str::<toml::Table>(&endless).expect_err("it does not end"));
        assert!(said.starts_with("TOML parse error at line 1, column "), "{said}");
        assert!(said.len() < 2000 && said.contains(" ... "), "{}", said.len());
        let secret = toml::from_str::<toml::Table>("join = \"wharfage-join:v1:h:1:00:secret");
        assert!(!super::said(&secret.expect_err("it does not end")).contains("secret"));
        let long = format!("a = 1\nb = \"{}\"\nc = ", "é".repeat(5000));
        assert!(super::said(&toml::from_str::<toml::Table>(&long).expect_err("bad")).len() < 2000);
    }
}
