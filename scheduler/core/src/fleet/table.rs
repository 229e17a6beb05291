//! An ordered table whose copies are cheap: a B-tree whose nodes are shared until they change.
//!
//! The published view, a dry run, a snapshot and the roll-back after a failed log write are all
//! copies of the same tables, so a copy costs one reference count and a change costs one path.

use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Entries of a leaf: few, because copying one counts every row of it once more.
const LEAF: usize = 8;
/// Children of a branch.
const BRANCH: usize = 8;
/// How deep a large table is.
const USUAL_DEPTH: usize = 6;

enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    /// Children with their smallest keys.
    Branch(Vec<(K, Arc<Node<K, V>>)>),
}

/// An ordered map with cheap copies.
#[derive(Clone)]
pub struct Table<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

/// A copy is made to be changed: it has room for one more.
impl<K: Clone, V: Clone> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        fn copy<T: Clone>(from: &[T]) -> Vec<T> {
            let mut copy = Vec::with_capacity(from.len() + 1);
            copy.extend_from_slice(from);
            copy
        }
        match self {
            Node::Leaf(entries) => Node::Leaf(copy(entries)),
            Node::Branch(children) => Node::Branch(copy(children)),
        }
    }
}

/// Puts one more in. What grows at all grows to its full width at once.
fn put_in<T>(list: &mut Vec<T>, at: usize, item: T, width: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact((width + 1).saturating_sub(list.len()).max(1));
    }
    list.insert(at, item);
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    fn first(&self) -> Option<&K> {
        match self {
            Node::Leaf(entries) => entries.first().map(|(key, _)| key),
            Node::Branch(children) => children.first().map(|(key, _)| key),
        }
    }

    fn first_entry(&self) -> Option<(&K, &V)> {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(entries) => return entries.first().map(|(key, value)| (key, value)),
                Node::Branch(children) => node = &children.first()?.1,
            }
        }
    }

    /// Puts the entry in; the second half when the node had to be split.
    fn insert(&mut self, key: K, value: V) -> (Option<V>, Option<Arc<Self>>) {
        match self {
            Node::Leaf(entries) => match entries.binary_search_by(|(at, _)| at.cmp(&key)) {
                Ok(at) => (Some(std::mem::replace(&mut entries[at].1, value)), None),
                Err(at) => {
                    put_in(entries, at, (key, value), LEAF);
                    let half = (entries.len() > LEAF).then(|| {
                        // Ascending insertion is the common case: leave the first half full.
                        let cut = if at + 1 == entries.len() { LEAF } else { LEAF / 2 };
                        Arc::new(Node::Leaf(entries.split_off(cut)))
                    });
                    (None, half)
                }
            },
            Node::Branch(children) => {
                let at = child_of(children, &key);
                if key < children[at].0 {
                    children[at].0 = key.clone();
                }
                let (old, half) = Arc::make_mut(&mut children[at].1).insert(key, value);
                let Some(half) = half else { return (old, None) };
                let first = half.first().expect("a split leaves both halves filled").clone();
                put_in(children, at + 1, (first, half), BRANCH);
                let half = (children.len() > BRANCH).then(|| {
                    let cut = if at + 2 == children.len() { BRANCH } else { BRANCH / 2 };
                    Arc::new(Node::Branch(children.split_off(cut)))
                });
                (old, half)
            }
        }
    }

    /// Takes the entry out. Nodes that become empty are removed by their parent.
    fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Node::Leaf(entries) => {
                let at = entries.binary_search_by(|(at, _)| at.cmp(key)).ok()?;
                Some(entries.remove(at).1)
            }
            Node::Branch(children) => {
                let at = child_of(children, key);
                let old = Arc::make_mut(&mut children[at].1).remove(key)?;
                match children[at].1.first() {
                    None => drop(children.remove(at)),
                    Some(first) if *first != children[at].0 => children[at].0 = first.clone(),
                    Some(_) => {}
                }
                Some(old)
            }
        }
    }
}

/// The child that holds `key` or would hold it.
fn child_of<K: Ord, T>(children: &[(K, T)], key: &K) -> usize {
    children.partition_point(|(first, _)| first <= key).saturating_sub(1)
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(at, _)| at.cmp(key)).ok()?;
                    return Some(&entries[at].1);
                }
                Node::Branch(children) => node = &children[child_of(children, key)].1,
            }
        }
    }

    /// Whether the key is there.
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// The value of a key, to be changed; copies the path that leads to it where it is shared.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let mut node = Arc::make_mut(&mut self.root);
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(at, _)| at.cmp(key)).ok()?;
                    return Some(&mut entries[at].1);
                }
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    node = Arc::make_mut(&mut children[at].1);
                }
            }
        }
    }

    /// Puts an entry in; the value that it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (old, half) = Arc::make_mut(&mut self.root).insert(key, value);
        if let Some(half) = half {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            let first = |node: &Node<K, V>| node.first().expect("a half is filled").clone();
            let children = vec![(first(&left), left), (first(&half), half)];
            self.root = Arc::new(Node::Branch(children));
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = Arc::make_mut(&mut self.root).remove(key);
        self.len -= usize::from(old.is_some());
        self.shrink();
        old
    }

    /// A root with one child, or none, is one level too many.
    fn shrink(&mut self) {
        loop {
            let next = match &*self.root {
                Node::Branch(children) if children.is_empty() => Arc::new(Node::Leaf(Vec::new())),
                Node::Branch(children) if children.len() == 1 => Arc::clone(&children[0].1),
                Node::Branch(_) | Node::Leaf(_) => return,
            };
            self.root = next;
        }
    }

    /// All entries in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { path: Vec::new() };
        iter.path.push(Cursor::at(&self.root, 0));
        iter
    }

    /// The entries from `key` on, in order.
    pub fn from(&self, key: &K) -> Iter<'_, K, V> {
        let mut iter = Iter { path: Vec::with_capacity(USUAL_DEPTH) };
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.partition_point(|(at, _)| at < key);
                    iter.path.push(Cursor::Leaf(entries[at..].iter()));
                    return iter;
                }
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    iter.path.push(Cursor::Branch(children[at + 1..].iter()));
                    node = &children[at].1;
                }
            }
        }
    }

    /// The first entry from `key` on.
    pub fn next_from(&self, key: &K) -> Option<(&K, &V)> {
        let mut node = &*self.root;
        // The subtree to go on in where the one that holds the key's place has nothing behind it.
        let mut beyond: Option<&Node<K, V>> = None;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.partition_point(|(at, _)| at < key);
                    let found = entries.get(at).map(|(key, value)| (key, value));
                    return found.or_else(|| beyond.and_then(Node::first_entry));
                }
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    beyond = children.get(at + 1).map(|(_, child)| &**child).or(beyond);
                    node = &children[at].1;
                }
            }
        }
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The first entry.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.root.first_entry()
    }

    /// The last entry.
    pub fn last(&self) -> Option<(&K, &V)> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => return entries.last().map(|(key, value)| (key, value)),
                Node::Branch(children) => node = &children.last()?.1,
            }
        }
    }
}

enum Cursor<'a, K, V> {
    Leaf(std::slice::Iter<'a, (K, V)>),
    Branch(std::slice::Iter<'a, (K, Arc<Node<K, V>>)>),
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn at(node: &'a Node<K, V>, start: usize) -> Self {
        match node {
            Node::Leaf(entries) => Cursor::Leaf(entries[start..].iter()),
            Node::Branch(children) => Cursor::Branch(children[start..].iter()),
        }
    }
}

/// Entries in order.
pub struct Iter<'a, K, V> {
    path: Vec<Cursor<'a, K, V>>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let below = match self.path.last_mut()? {
                Cursor::Leaf(entries) => match entries.next() {
                    Some((key, value)) => return Some((key, value)),
                    None => None,
                },
                Cursor::Branch(children) => children.next().map(|(_, child)| Cursor::at(child, 0)),
            };
            match below {
                Some(cursor) => self.path.push(cursor),
                None => drop(self.path.pop()),
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut table = Self::default();
        for (key, value) in entries {
            table.insert(key, value);
        }
        table
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for Table<K, V> {}

/// As a list of pairs: keys need not be texts.
impl<K: Ord + Clone + Serialize, V: Clone + Serialize> Serialize for Table<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de, K, V> Deserialize<'de> for Table<K, V>
where
    K: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<K, V>(std::marker::PhantomData<(K, V)>);

        impl<'de, K, V> Visitor<'de> for Pairs<K, V>
        where
            K: Ord + Clone + Deserialize<'de>,
            V: Clone + Deserialize<'de>,
        {
            type Value = Table<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of [key, value] pairs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
                let mut table = Table::default();
                while let Some((key, value)) = pairs.next_element()? {
                    table.insert(key, value);
                }
                Ok(table)
            }
        }

        deserializer.deserialize_seq(Pairs(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::Table;

    proptest! {
        #[test]
        fn a_table_is_an_ordered_map_and_its_copies_do_not_change(
            steps in prop::collection::vec((any::<bool>(), 0u16..600, any::<u8>()), 0..1500),
            start in 0u16..600,
        ) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for (number, (puts, key, value)) in steps.into_iter().enumerate() {
                if puts {
                    prop_assert_eq!(table.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(table.remove(&key), model.remove(&key));
                }
                if let Some(value) = table.get_mut(&key) {
                    *value ^= 1;
                    *model.get_mut(&key).expect("the model has it too") ^= 1;
                }
                if number % 100 == 0 {
                    copies.push((table.clone(), model.clone()));
                }
            }
            copies.push((table, model));
            for (table, model) in copies {
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.iter().eq(model.iter()));
                prop_assert!(table.from(&start).eq(model.range(start..)));
                prop_assert_eq!(table.next_from(&start), model.range(start..).next());
                prop_assert_eq!(table.first(), model.first_key_value());
                prop_assert_eq!(table.last(), model.last_key_value());
                prop_assert_eq!(table.get(&start), model.get(&start));
            }
        }
    }
}
