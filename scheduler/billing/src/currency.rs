//! Currencies by their ISO 4217 code, with the digits of their minor unit.
//!
//! A code that is not in the table is refused: a guessed minor unit would round amounts wrongly.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Codes without a minor unit.
const WITHOUT: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
/// Codes with two digits.
const TWO: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP \
                   BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD \
                   FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS \
                   KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR \
                   MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD \
                   RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT \
                   TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";
/// Codes with three digits.
const THREE: &str = "BHD IQD JOD KWD LYD OMR TND";

/// A currency whose minor unit is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    digits: u8,
}

impl Currency {
    /// How many digits the minor unit has: 2 for USD, 0 for JPY.
    pub fn minor_digits(self) -> u32 {
        u32::from(self.digits)
    }

    /// How many millionths of the unit make one minor unit.
    pub fn micros_per_minor(self) -> u128 {
        10u128.pow(6 - self.minor_digits())
    }

    /// The ISO code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).expect("codes come from an ASCII table")
    }
}

/// A text that is no known currency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no known currency; accepted: an ISO 4217 code in capitals, as in \"USD\"")]
pub struct UnknownCurrency(pub String);

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, UnknownCurrency> {
        let listed = |codes: &str| codes.split_ascii_whitespace().any(|code| code == text);
        let digits = [(0, WITHOUT), (2, TWO), (3, THREE)];
        let digits = digits.into_iter().find(|(_, codes)| listed(codes)).map(|(digits, _)| digits);
        match (digits, text.as_bytes()) {
            (Some(digits), &[a, b, c]) => Ok(Self { code: [a, b, c], digits }),
            _ => Err(UnknownCurrency(text.to_owned())),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_codes_are_currencies() {
        for text in ["", "usd", "US", "USDX", "AED AFN", "ÄÄÄ", "XYZ"] {
            assert_eq!(text.parse::<Currency>(), Err(UnknownCurrency(text.to_owned())));
        }
        for codes in [WITHOUT, TWO, THREE] {
            for code in codes.split_ascii_whitespace() {
                assert_eq!(code.parse::<Currency>().map(|c| c.to_string()), Ok(code.to_owned()));
            }
        }
    }
}
