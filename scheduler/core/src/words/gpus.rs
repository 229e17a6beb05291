//! The GPUs of a seat on one node: most replicas have one, which stands in the value itself, so
//! that a fleet of seats is small and a seat is copied without asking for memory.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wharfage_shared::ids::GpuUuid;

/// GPUs of one node, in its order.
#[derive(Clone)]
pub struct Gpus(Held);

#[derive(Clone)]
enum Held {
    One(GpuUuid),
    Others(Box<[GpuUuid]>),
}

impl Deref for Gpus {
    type Target = [GpuUuid];

    fn deref(&self) -> &[GpuUuid] {
        match &self.0 {
            Held::One(gpu) => std::slice::from_ref(gpu),
            Held::Others(gpus) => gpus,
        }
    }
}

impl FromIterator<GpuUuid> for Gpus {
    fn from_iter<I: IntoIterator<Item = GpuUuid>>(gpus: I) -> Self {
        let mut gpus = gpus.into_iter();
        Self(match (gpus.next(), gpus.next()) {
            (Some(one), None) => Held::One(one),
            (first, second) => Held::Others(first.into_iter().chain(second).chain(gpus).collect()),
        })
    }
}

impl From<Vec<GpuUuid>> for Gpus {
    fn from(gpus: Vec<GpuUuid>) -> Self {
        gpus.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Gpus {
    type Item = &'a GpuUuid;
    type IntoIter = std::slice::Iter<'a, GpuUuid>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Gpus {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Gpus {}

impl PartialOrd for Gpus {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Gpus {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Debug for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Gpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Gpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use wharfage_shared::ids::GpuUuid;

    use super::{Gpus, Held};

    #[test]
    fn they_are_a_list_however_they_are_held() {
        let lists: Vec<Vec<GpuUuid>> = [&[][..], &["b"], &["a", "b"], &["c", "a", "b"]]
            .map(|names| names.iter().map(GpuUuid::new).collect())
            .into();
        for list in &lists {
            let gpus = Gpus::from(list.clone());
            assert_eq!(gpus.to_vec(), *list);
            assert_eq!(matches!(gpus.0, Held::One(_)), list.len() == 1);
            assert_eq!(format!("{gpus:?}"), format!("{list:?}"));
            let written = serde_json::to_string(&gpus).expect("a list is JSON");
            assert_eq!(written, serde_json::to_string(list).expect("a list is JSON"));
            assert_eq!(serde_json::from_str::<Gpus>(&written).expect("a list"), gpus);
            for other in &lists {
                assert_eq!(gpus.cmp(&Gpus::from(other.clone())), list.cmp(other));
            }
        }
        assert_eq!(size_of::<Gpus>(), size_of::<GpuUuid>());
    }
}
