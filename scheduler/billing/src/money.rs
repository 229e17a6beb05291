//! Money in integers: rates in millionths, amounts in minor units, one rounding per line.
//!
//! No float ever touches an amount; `MicroRate::charge` is the only place where a quantity becomes
//! money.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::currency::{Currency, UnknownCurrency};

const MS_PER_HOUR: u128 = 3_600_000;
const MICROS_PER_UNIT: u64 = 1_000_000;

/// A price per instance-hour in millionths of the currency's unit. It prints as it was written:
/// `24.00` stays `24.00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MicroRate {
    micros: u64,
    decimals: u8,
}

impl MicroRate {
    /// The highest rate that is accepted, in whole units: with it, no product of a rate and a
    /// quantity can leave 128 bits.
    pub const MOST_UNITS: u64 = 1_000_000_000;

    /// A rate of so many millionths, or `None` above [`Self::MOST_UNITS`]. Prints with two
    /// decimals, or as many as it needs.
    pub fn from_micros(micros: u64) -> Option<Self> {
        if micros > Self::MOST_UNITS * MICROS_PER_UNIT {
            return None;
        }
        let mut decimals = 6;
        while decimals > 2 && micros.is_multiple_of(10u64.pow(7 - decimals)) {
            decimals -= 1;
        }
        Some(Self { micros, decimals: decimals as u8 })
    }

    /// Millionths of the currency's unit per instance-hour.
    pub fn micros(self) -> u64 {
        self.micros
    }

    /// The rate of `count` such things, or `None` above [`Self::MOST_UNITS`].
    pub fn times(self, count: u32) -> Option<Self> {
        Self::from_micros(self.micros.checked_mul(u64::from(count))?)
    }

    /// What `used` costs. Rounds half to even, once.
    pub fn charge(self, used: InstanceMs, currency: Currency) -> Minor {
        let divisor = MS_PER_HOUR * currency.micros_per_minor();
        let units = divide_half_even(u128::from(self.micros) * used.0, divisor);
        Minor::new(i128::try_from(units).expect("a quotient by 3,600,000 fits"), currency)
    }
}

impl fmt::Display for MicroRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.micros / MICROS_PER_UNIT;
        if self.decimals == 0 {
            return f.pad(&whole.to_string());
        }
        let scale = 10u64.pow(6 - u32::from(self.decimals));
        let part = self.micros % MICROS_PER_UNIT / scale;
        f.pad(&format!("{whole}.{part:0width$}", width = usize::from(self.decimals)))
    }
}

/// A text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no rate; accepted: a decimal string from \"0\" to \"1000000000\" with at most six \
     decimals, as in \"24.00\""
)]
pub struct NotARate(pub String);

impl FromStr for MicroRate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        parse_decimal(text).ok_or_else(|| NotARate(text.to_owned()))
    }
}

fn parse_decimal(text: &str) -> Option<MicroRate> {
    let (whole, part) = match text.split_once('.') {
        Some((whole, part)) if !part.is_empty() => (whole, part),
        Some(_) => return None,
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = digits(whole) && digits(part) && part.len() <= 6;
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !well_formed || leading_zero || whole.is_empty() || whole.len() > 10 {
        return None;
    }
    let units: u64 = whole.parse().ok()?;
    let millionths: u64 = format!("{part:0<6}").parse().ok()?;
    let micros = units * MICROS_PER_UNIT + millionths;
    let decimals = u8::try_from(part.len()).ok()?;
    (micros <= MicroRate::MOST_UNITS * MICROS_PER_UNIT).then_some(MicroRate { micros, decimals })
}

impl Serialize for MicroRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MicroRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount in the currency's minor unit (cents); negative for credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minor {
    units: i128,
    currency: Currency,
}

impl Minor {
    /// So many minor units.
    pub fn new(units: i128, currency: Currency) -> Self {
        Self { units, currency }
    }

    /// Nothing.
    pub fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// How many minor units.
    pub fn units(self) -> i128 {
        self.units
    }

    /// Of which currency.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The sum of amounts of one currency.
    pub fn sum(amounts: impl Iterator<Item = Minor>, currency: Currency) -> Self {
        amounts.fold(Self::zero(currency), |sum, amount| sum + amount)
    }
}

impl Add for Minor {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        debug_assert_eq!(self.currency, other.currency, "one bill has one currency");
        Self::new(self.units + other.units, self.currency)
    }
}

impl Sub for Minor {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Minor {
    type Output = Self;

    fn neg(self) -> Self {
        Self::new(-self.units, self.currency)
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let units = self.units.unsigned_abs();
        let digits = self.currency.minor_digits();
        if digits == 0 {
            return f.pad(&format!("{sign}{units}"));
        }
        let scale = 10u128.pow(digits);
        let (whole, part) = (units / scale, units % scale);
        f.pad(&format!("{sign}{whole}.{part:0width$}", width = digits as usize))
    }
}

impl Serialize for Minor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A quantity: instances x milliseconds, exact.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct InstanceMs(pub u128);

impl InstanceMs {
    /// Hours with six decimals, half to even, for people; amounts come from the exact quantity.
    pub fn hours(self) -> String {
        let millionths = divide_half_even(self.0 * 1_000_000, MS_PER_HOUR);
        format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
    }
}

impl Add for InstanceMs {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for InstanceMs {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for InstanceMs {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

/// The quotient rounded to the nearest integer, a tie to the even one. `divisor` is above zero.
pub fn divide_half_even(dividend: u128, divisor: u128) -> u128 {
    let (quotient, rest) = (dividend / divisor, dividend % divisor);
    let up = match (divisor - rest).cmp(&rest) {
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => !quotient.is_multiple_of(2),
    };
    quotient + u128::from(up)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed parse of a literal is the test's failure")]
mod tests {
    use super::*;

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    #[test]
    fn a_rate_prints_as_it_was_written() {
        for text in ["24.00", "312", "16.125", "0", "0.000001", "82.3333", "1000000000", "7.10"] {
            assert_eq!(text.parse::<MicroRate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        let bad = ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,00", " 1", "01", "0.0000001", "٣"];
        for text in bad.into_iter().chain(["1000000000.000001", "99999999999999999999"]) {
            assert_eq!(text.parse::<MicroRate>(), Err(NotARate(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_rate_from_micros_prints_no_more_than_it_needs() {
        let cases = [(24_000_000, "24.00"), (8_600_000, "8.60"), (1, "0.000001")];
        for (micros, text) in cases {
            assert_eq!(MicroRate::from_micros(micros).unwrap().to_string(), text);
        }
        assert_eq!(MicroRate::from_micros(u64::MAX), None);
    }

    #[test]
    fn a_tie_goes_to_the_even_neighbour() {
        let rounded: Vec<u128> = (0..=8).map(|n| divide_half_even(n, 2)).collect();
        assert_eq!(rounded, [0, 0, 1, 2, 2, 2, 3, 4, 4]);
        assert_eq!(divide_half_even(u128::MAX, u128::MAX), 1);
    }

    #[test]
    fn an_amount_is_rounded_once_from_the_exact_quantity() {
        let rate: MicroRate = "36".parse().unwrap();
        let cents = |ms| rate.charge(InstanceMs(ms), usd()).to_string();
        assert_eq!(cents(808), "0.01");
        assert_eq!(cents(500), "0.00");
        assert_eq!(cents(1500), "0.02");
        assert_eq!(cents(2500), "0.02");
    }

    #[test]
    fn currencies_round_to_their_own_minor_unit() {
        let rate: MicroRate = "1.2345".parse().unwrap();
        let hour = InstanceMs(3_600_000);
        for (code, amount) in [("USD", "1.23"), ("JPY", "1"), ("KWD", "1.234")] {
            assert_eq!(rate.charge(hour, code.parse().unwrap()).to_string(), amount);
        }
        assert_eq!(Minor::new(-5, usd()).to_string(), "-0.05");
    }
}
