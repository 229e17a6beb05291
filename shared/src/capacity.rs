//! The four meanings of "capacity" in the sources as four types that never share a name, and the
//! words for where hardware is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// What the names of types and places usually fit into.
const NAME: usize = 22;

/// Where a deployment's replicas *may run*: CoreWeave's words; SPOT is our extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CapacityClass {
    /// Capacity that a claim of the same organization holds.
    #[serde(rename = "CAPACITY_CLASS_RESERVED")]
    Reserved,
    /// Unclaimed standard capacity.
    #[serde(rename = "CAPACITY_CLASS_ON_DEMAND")]
    OnDemand,
    /// Nodes sold as spot at this moment.
    #[serde(rename = "CAPACITY_CLASS_SPOT")]
    Spot,
}

/// Where a claim's instances *come from*: CoreWeave's words; MANAGED is the later
/// name of SERVERLESS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CapacityType {
    /// The provider's inference pool.
    #[serde(rename = "CAPACITY_TYPE_SERVERLESS", alias = "CAPACITY_TYPE_MANAGED")]
    Serverless,
    /// The organization's own instance quota.
    #[serde(rename = "CAPACITY_TYPE_CUSTOMER")]
    Customer,
}

/// How usage is *paid*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapacityPlan {
    /// A flat rate for every hour.
    Reserved,
    /// A holding rate for every hour and a usage rate for active ones.
    Flex,
    /// The standard rate for what is used.
    OnDemand,
    /// The spot rate, outside the fill.
    Spot,
}

/// How a node is *sold at this moment*.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ComputeClass {
    /// Reserved, Flex and On-Demand.
    #[default]
    Standard,
    /// Reclaimable at any time with a notice.
    Spot,
}

impl ComputeClass {
    /// Its word for people.
    pub fn word(self) -> &'static str {
        match self {
            ComputeClass::Standard => "standard",
            ComputeClass::Spot => "spot",
        }
    }
}

impl fmt::Display for ComputeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Who a pool's nodes serve at a time: it decides whether node-hours or GPU-hours are billed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Tenancy {
    /// One organization at a time; billed in node-hours.
    #[default]
    Dedicated,
    /// Several organizations by slot; billed in GPU-hours.
    Shared,
}

/// An instance type. Case-insensitive in the sources: kept in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Sku(Text<NAME>);

impl Sku {
    /// The SKU of this name, whatever its case.
    pub fn new(text: &str) -> Self {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Self(Text::new(&text.to_ascii_lowercase()));
        }
        Self(Text::new(text))
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Superchips are never sold as spot: the public price list has no spot price for them.
    pub fn is_superchip(&self) -> bool {
        ["gh200", "gb200", "gb300"].iter().any(|chip| self.as_str().contains(chip))
    }
}

impl<'de> Deserialize<'de> for Sku {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&std::borrow::Cow::<'de, str>::deserialize(deserializer)?))
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Availability Zone such as `US-EAST-04A`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Zone(Text<NAME>);

/// A region such as `US-EAST-04`: a zone without its last letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Region(Text<NAME>);

impl Zone {
    /// The zone of this name.
    pub fn new(text: &str) -> Self {
        Self(Text::new(text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The region: the zone's name without a last upper-case letter; a zone that has none
    /// is its own region.
    pub fn region(&self) -> Region {
        let text = self.as_str();
        Region::new(text.strip_suffix(|c: char| c.is_ascii_uppercase()).unwrap_or(text))
    }
}

impl Region {
    /// The region of this name.
    pub fn new(text: &str) -> Self {
        Self(Text::new(text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
