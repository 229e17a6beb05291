//! The words of one line, read from left to right, each error saying what was expected.

use wharfage_shared::time::Millis;

/// The words that are left of a line.
pub(super) struct Words<'a> {
    rest: Vec<&'a str>,
    next: usize,
}

/// What was wrong and what was expected, without the place.
pub(super) type Expected = String;

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { rest: text.split_whitespace().collect(), next: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.rest.get(self.next).copied()
    }

    /// The next word, which must be there.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, Expected> {
        let word = self.peek().ok_or_else(|| format!("the line ends where {what} was expected"))?;
        self.next += 1;
        Ok(word)
    }

    /// The next word must be this one.
    pub(super) fn keyword(&mut self, keyword: &str) -> Result<(), Expected> {
        match self.word(&format!("`{keyword}`"))? {
            word if word == keyword => Ok(()),
            word => Err(format!("`{word}` where `{keyword}` was expected")),
        }
    }

    /// Takes the next word if it is this one.
    pub(super) fn takes(&mut self, keyword: &str) -> bool {
        let is_it = self.peek() == Some(keyword);
        self.next += usize::from(is_it);
        is_it
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Expected> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` where the end of the line was expected")),
        }
    }

    /// The next word as `key=value`, if one is left.
    pub(super) fn pair(&mut self, keys: &[&str]) -> Result<Option<(&'a str, &'a str)>, Expected> {
        let Some(word) = self.peek() else { return Ok(None) };
        self.next += 1;
        match word.split_once('=') {
            Some((key, value)) if keys.contains(&key) && !value.is_empty() => {
                Ok(Some((key, value)))
            }
            _ => Err(format!("`{word}` where one of {} was expected", listed(keys))),
        }
    }

    /// The next word as `key=value` with this key.
    pub(super) fn value(&mut self, key: &str) -> Result<&'a str, Expected> {
        match self.pair(&[key])? {
            Some((_, value)) => Ok(value),
            None => Err(format!("the line ends where {key}=... was expected")),
        }
    }
}

fn listed(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("{key}=...")).collect::<Vec<_>>().join(", ")
}

/// A whole number in a range.
pub(super) fn number(text: &str, lowest: u32, highest: u32) -> Result<u32, Expected> {
    match text.parse() {
        Ok(number) if (lowest..=highest).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` where a whole number from {lowest} to {highest} was expected")),
    }
}

/// The longest time that a sheet may name: ten years.
const LONGEST: u64 = 10 * 366 * 86_400_000;

/// A length of time: a number (decimals allowed) with ms, s, m, h or d.
pub(super) fn length(text: &str) -> Result<Millis, Expected> {
    let wrong =
        || format!("`{text}` where a time such as 500ms, 30s, 5m, 1.5h or 30d was expected");
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let plain = |digits: &str| digits.bytes().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(part) || part.len() > 6 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let millionths: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    let total = whole
        .checked_mul(factor)
        .and_then(|ms| ms.checked_add(millionths * factor / 1_000_000))
        .filter(|ms| *ms <= LONGEST);
    total.map(Millis).ok_or_else(|| format!("`{text}` is longer than ten years"))
}
