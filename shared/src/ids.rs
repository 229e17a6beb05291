//! Identifiers: one type per kind of thing, so that no id can be passed where another is meant.
//!
//! The scheduler copies text ids into events, rows and indexes all the time, so each holds as many
//! bytes in itself as its usual texts have, and UUIDs as the numbers that they are.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::compact::Compact;
use crate::text::Text;

/// What a name that people give usually fits into.
const NAME: usize = 22;
/// A UUID as text, 36 bytes.
const UUID: usize = 38;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $usual:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Text<{ $usual }>);

        impl $name {
            /// Wraps a text that has been checked at the edge where it came in.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Text::new(text.as_ref()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Compact);

        impl $name {
            /// Wraps a text that has been checked at the edge where it came in.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Compact::new(text.as_ref()))
            }

            /// The id as text, which is made anew where it is a UUID.
            pub fn text(&self) -> Cow<'_, str> {
                self.0.text()
            }

            /// Whether this text is the id.
            pub fn is(&self, text: &str) -> bool {
                self.0.is(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

text_id! {
    /// A GPU host, by the name it enrolled with (`node-1`).
    NodeId, NAME
}
uuid_id! {
    /// A deployment: a UUID, or whatever the client chose within the API's rule for ids.
    DeploymentId
}
text_id! {
    /// A deployment's name: a hostname label, unique in its organization.
    DeploymentName, UUID
}
text_id! {
    /// A version of an engine, as a node offers it; empty = none was chosen yet.
    EngineVersion, NAME
}
text_id! {
    /// A tenant, or the provider.
    OrganizationId, NAME
}
text_id! {
    /// A gateway resource of the CoreWeave API: a front door that deployments name.
    GatewayId, UUID
}
text_id! {
    /// One running gateway process, by the name it enrolled with.
    GatewayName, NAME
}
text_id! {
    /// A pool of nodes that share zone, SKU, compute class, tenancy and owner.
    PoolId, NAME
}
text_id! {
    /// A Reserved or Flex agreement.
    ContractId, NAME
}
text_id! {
    /// A capacity claim.
    ClaimId, NAME
}
text_id! {
    /// An API token's public id (never its secret).
    TokenId, NAME
}
text_id! {
    /// A join secret's public id.
    JoinId, NAME
}
uuid_id! {
    /// One start of a host's kernel: `/proc/sys/kernel/random/boot_id`.
    BootId
}
text_id! {
    /// One life of an agent's segment log; a new one starts where the old log was lost.
    SegmentLogId, NAME
}
uuid_id! {
    /// A GPU by its UUID as NVML prints it (`GPU-...`). GPUs are never known by index.
    GpuUuid
}
text_id! {
    /// A hook by its local id: `[a-z0-9-]{1,32}`, a file of the node's owner.
    HookId, NAME
}
text_id! {
    /// A drill.
    DrillId, UUID
}
text_id! {
    /// One notice, named by the source that heard it; the same event keeps the same id.
    NoticeId, NAME
}

impl HookId {
    /// The id if it keeps the rule `[a-z0-9-]{1,32}`, which no path can be smuggled through.
    pub fn parse(text: &str) -> Option<Self> {
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        ((1..=32).contains(&text.len()) && text.bytes().all(good)).then(|| Self::from(text))
    }
}

/// A replica: used for one placement only, never again. Outside it reads `r-12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u32);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r-{}", self.0))
    }
}

impl std::str::FromStr for ReplicaId {
    type Err = NotAReplicaId;

    fn from_str(text: &str) -> Result<Self, NotAReplicaId> {
        let number = text.strip_prefix("r-").and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| NotAReplicaId(text.to_owned()))
    }
}

/// A text that is no replica id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no replica id: expected r-<number>, as in r-12")]
pub struct NotAReplicaId(pub String);

impl Serialize for ReplicaId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReplicaId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Written)
    }
}

/// Reads a replica's id where it lies: heartbeats are full of them.
struct Written;

impl serde::de::Visitor<'_> for Written {
    type Value = ReplicaId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a replica's id, as in r-12")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ReplicaId, E> {
        text.parse().map_err(E::custom)
    }
}
