//! Versions as the CoreWeave API takes them: full SemVer, no leading `v`, no leading zeroes.

use std::cmp::Ordering;

/// What is accepted, for sentences.
pub const ACCEPTED: &str = "a full SemVer without a leading `v`, as in 0.22.0 or 0.22.0+crwv.2";

/// A version, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    core: [&'a str; 3],
    pre: Option<&'a str>,
    build: Option<&'a str>,
}

impl<'a> Version<'a> {
    /// The version, if the text is one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (rest, build) = match text.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (text, None),
        };
        let (core, pre) = match rest.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (rest, None),
        };
        let mut numbers = core.split('.');
        let core = [numbers.next()?, numbers.next()?, numbers.next()?];
        let good = numbers.next().is_none()
            && core.iter().all(|number| is_number(number))
            && pre.is_none_or(|pre| pre.split('.').all(is_pre_part))
            && build.is_none_or(|build| build.split('.').all(is_part));
        good.then_some(Self { core, pre, build })
    }

    /// Which comes later: SemVer's order; among builds of one version the later text, numbers as
    /// numbers, so that `+crwv.10` follows `+crwv.9`.
    pub fn order(&self, other: &Self) -> Ordering {
        let core = self.core.iter().zip(other.core).map(|(a, b)| number_order(a, b));
        let core = core.fold(Ordering::Equal, Ordering::then);
        let pre = match (self.pre, other.pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => parts_order(a, b),
        };
        let build = match (self.build, other.build) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => parts_order(a, b),
        };
        core.then(pre).then(build)
    }
}

/// Sorts texts newest first; what is no version comes last.
pub fn newest_first(versions: &mut [String]) {
    versions.sort_by(|a, b| match (Version::parse(a), Version::parse(b)) {
        (Some(a), Some(b)) => b.order(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    });
}

fn is_number(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0'))
}

fn is_part(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

fn is_pre_part(text: &str) -> bool {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    is_part(text) && (!digits || is_number(text))
}

/// Numbers of any length without leading zeroes: the longer is the greater.
fn number_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn parts_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (is_number(a), is_number(b)) {
                (true, true) => number_order(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_api_holds() {
        for good in ["0.22.0+crwv.2", "1.2.3", "1.2.3-rc.1", "1.2.3-rc.1+b-1.02", "10.20.30"] {
            assert!(Version::parse(good).is_some(), "{good}");
        }
        let bad = [
            "v1.2.3",
            "01.2.3",
            "1.2",
            "1.2.3.4",
            "",
            "1.2.x",
            "1.2.3-",
            "1.2.3+",
            "1.2.3-01",
            "1.2.3-a..b",
            " 1.2.3",
            "1.2.3 ",
            "1.-2.3",
            "latest",
            "1.2.3+é",
        ];
        for bad in bad {
            assert!(Version::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_newest_comes_first() {
        let mut versions: Vec<String> =
            ["0.9.0", "nightly", "0.22.0-rc.1", "0.22.0+crwv.10", "0.22.0", "0.22.0+crwv.9"]
                .map(String::from)
                .into();
        newest_first(&mut versions);
        let expected =
            ["0.22.0+crwv.10", "0.22.0+crwv.9", "0.22.0", "0.22.0-rc.1", "0.9.0", "nightly"];
        assert_eq!(versions, expected);
    }
}
