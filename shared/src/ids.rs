//! Identifiers: one type per kind of thing, so that no id can be passed where another is meant.
//!
//! Text ids share their storage (`Arc<str>`), because the scheduler copies them into events, rows
//! and indexes all the time.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a text that has been checked at the edge where it came in.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

text_id! {
    /// A GPU host, by the name it enrolled with (`node-1`).
    NodeId
}
text_id! {
    /// A deployment: a UUID, or whatever the client chose within the API's rule for ids.
    DeploymentId
}
text_id! {
    /// A tenant, or the provider.
    OrganizationId
}
text_id! {
    /// A gateway resource of the CoreWeave API: a front door that deployments name.
    GatewayId
}
text_id! {
    /// One running gateway process, by the name it enrolled with.
    GatewayName
}
text_id! {
    /// A pool of nodes that share zone, SKU, compute class, tenancy and owner.
    PoolId
}
text_id! {
    /// A Reserved or Flex agreement.
    ContractId
}
text_id! {
    /// A capacity claim.
    ClaimId
}
text_id! {
    /// An API token's public id (never its secret).
    TokenId
}
text_id! {
    /// A join secret's public id.
    JoinId
}
text_id! {
    /// One start of a host's kernel: `/proc/sys/kernel/random/boot_id`.
    BootId
}
text_id! {
    /// One life of an agent's segment log; a new one starts where the old log was lost.
    SegmentLogId
}
text_id! {
    /// A GPU by its UUID as NVML prints it (`GPU-...`). GPUs are never known by index.
    GpuUuid
}
text_id! {
    /// A hook by its local id: `[a-z0-9-]{1,32}`, a file of the node's owner.
    HookId
}
text_id! {
    /// One notice, named by the source that heard it; the same event keeps the same id.
    NoticeId
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
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
