//! The fleet file of `wharfage dev`: which nodes the installation has.
//!
//! Every error names the file, the line, the field and what is accepted.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use wharfage_shared::capacity::{ComputeClass, Sku, Zone};
use wharfage_shared::ids::{NodeId, OrganizationId};

use crate::exit::Failure;
use crate::files;

/// The most nodes that `dev` starts as real processes on one host.
const MOST_NODES: usize = 100;

/// A node loads for a day at most, and joins a day late at most.
pub const MOST_SECONDS: u32 = 86_400;

/// One node of the installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevNode {
    /// Its name.
    pub id: NodeId,
    /// Its instance type.
    pub sku: Sku,
    /// Where it is.
    pub zone: Zone,
    /// How it is sold.
    pub compute_class: ComputeClass,
    /// The tenant that owns it.
    pub owner: Option<OrganizationId>,
    /// How long its engine takes to load, in milliseconds.
    pub load_ms: u64,
    /// When it joins, in milliseconds after the start.
    pub joins_after_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFleet {
    #[serde(default)]
    node: Vec<Spanned<RawNode>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    sku: Spanned<String>,
    zone: Spanned<String>,
    id: Option<Spanned<String>>,
    count: Option<Spanned<u32>>,
    compute_class: Option<ComputeClass>,
    owner: Option<Spanned<String>>,
    load_seconds: Option<Spanned<f64>>,
    joins_after_seconds: Option<Spanned<f64>>,
}

/// Two standard nodes and one spot.
pub fn default_fleet() -> Vec<DevNode> {
    let node = |number: u32, compute_class| DevNode {
        id: NodeId::new(format!("node-{number}")),
        sku: Sku::new("gd-8xh100ib-i128"),
        zone: Zone::new("US-EAST-04A"),
        compute_class,
        owner: None,
        load_ms: 1000,
        joins_after_ms: 0,
    };
    vec![
        node(1, ComputeClass::Standard),
        node(2, ComputeClass::Standard),
        node(3, ComputeClass::Spot),
    ]
}

/// Reads a fleet file.
pub fn read(path: &Path) -> Result<Vec<DevNode>, Failure> {
    let text = files::text(path)?;
    parse(&text).map_err(|error| match error {
        Bad::Toml(message) => Failure::data(format!("{}: {message}", path.display())),
        Bad::At { line, message } => Failure::data(format!("{}:{line}: {message}", path.display())),
    })
}

#[derive(Debug)]
enum Bad {
    Toml(String),
    At { line: usize, message: String },
}

fn parse(text: &str) -> Result<Vec<DevNode>, Bad> {
    let raw: RawFleet =
        toml::from_str(text).map_err(|error| Bad::Toml(error.to_string().trim_end().to_owned()))?;
    let at = |offset: usize, message: String| {
        let line = text.get(..offset).map_or(1, |before| before.lines().count().max(1));
        let starts_line = text.get(..offset).is_some_and(|before| before.ends_with('\n'));
        Bad::At { line: line + usize::from(starts_line), message }
    };
    if raw.node.is_empty() {
        return Err(at(0, "no [[node]]: a fleet has at least one".to_owned()));
    }
    let taken: BTreeSet<String> =
        raw.node.iter().filter_map(|n| Some(n.get_ref().id.as_ref()?.get_ref().clone())).collect();
    let mut nodes: Vec<DevNode> = Vec::new();
    let mut next = 1;
    for spanned in &raw.node {
        let node = spanned.get_ref();
        let count = count(node).map_err(|(offset, message)| at(offset, message))?;
        for _ in 0..count {
            let id = match &node.id {
                Some(id) => id.get_ref().clone(),
                None => free_name(&taken, &mut next),
            };
            let checked = checked(node, &id).map_err(|(offset, message)| at(offset, message))?;
            if nodes.iter().any(|other| other.id == checked.id) {
                return Err(at(spanned.span().start, format!("id: `{id}` is named twice")));
            }
            nodes.push(checked);
        }
        if nodes.len() > MOST_NODES {
            let message = format!("count: more than {MOST_NODES} nodes in all");
            return Err(at(spanned.span().start, message));
        }
    }
    Ok(nodes)
}

type Misfit = (usize, String);

fn count(node: &RawNode) -> Result<u32, Misfit> {
    let Some(count) = &node.count else { return Ok(1) };
    match (*count.get_ref(), &node.id) {
        (1, _) => Ok(1),
        (2.., Some(_)) => Err((
            count.span().start,
            "count: a node with an id stands for itself; leave one of the two out".to_owned(),
        )),
        (n @ 2..=100, None) => Ok(n),
        (n, _) => Err((count.span().start, format!("count: {n}; accepted are 1 to {MOST_NODES}"))),
    }
}

fn free_name(taken: &BTreeSet<String>, next: &mut u32) -> String {
    loop {
        let name = format!("node-{next}");
        *next += 1;
        if !taken.contains(&name) {
            return name;
        }
    }
}

fn checked(node: &RawNode, id: &str) -> Result<DevNode, Misfit> {
    let label = |what: &str, text: &Spanned<String>| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let text_is = text.get_ref();
        if (1..=63).contains(&text_is.len()) && text_is.chars().all(good) {
            return Ok(text_is.clone());
        }
        let message = format!("{what}: `{text_is}`; accepted are 1 to 63 letters, digits, hyphens");
        Err((text.span().start, message))
    };
    let sku = Sku::new(&label("sku", &node.sku)?);
    let zone = Zone::new(&label("zone", &node.zone)?);
    if let Some(id) = &node.id {
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !label("id", id)?.chars().all(lower) {
            let message = format!("id: `{}`; accepted are [a-z0-9-]{{1,63}}", id.get_ref());
            return Err((id.span().start, message));
        }
    }
    let compute_class = node.compute_class.unwrap_or_default();
    if compute_class == ComputeClass::Spot && sku.is_superchip() {
        let message = format!("sku: `{sku}` is a superchip, which is never sold as spot");
        return Err((node.sku.span().start, message));
    }
    let owner = node.owner.as_ref().map(|owner| label("owner", owner)).transpose()?;
    Ok(DevNode {
        id: NodeId::from(id),
        sku,
        zone,
        compute_class,
        owner: owner.map(|owner| OrganizationId::from(owner.as_str())),
        load_ms: milliseconds("load_seconds", node.load_seconds.as_ref(), 1.0)?,
        joins_after_ms: milliseconds(
            "joins_after_seconds",
            node.joins_after_seconds.as_ref(),
            0.0,
        )?,
    })
}

fn milliseconds(field: &str, given: Option<&Spanned<f64>>, default: f64) -> Result<u64, Misfit> {
    let Some(given) = given else { return Ok((default * 1000.0) as u64) };
    let seconds = *given.get_ref();
    if (0.0..=f64::from(MOST_SECONDS)).contains(&seconds) {
        return Ok((seconds * 1000.0).round() as u64);
    }
    Err((
        given.span().start,
        format!("{field}: {seconds}; accepted are 0 to {MOST_SECONDS} seconds"),
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test states what it relies on")]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        match parse(text).unwrap_err() {
            Bad::Toml(message) => message,
            Bad::At { line, message } => format!("line {line}: {message}"),
        }
    }

    #[test]
    fn nodes_without_an_id_are_numbered_past_those_that_have_one() {
        let text =
            "[[node]]\nsku='a'\nzone='Z'\ncount=2\n[[node]]\nid='node-2'\nsku='a'\nzone='Z'\n";
        let ids: Vec<String> = parse(text).unwrap().iter().map(|n| n.id.to_string()).collect();
        assert_eq!(ids, ["node-1", "node-3", "node-2"]);
    }

    #[test]
    fn a_misfit_is_named_with_its_line_and_what_is_accepted() {
        let node = "[[node]]\nsku='gd-8xh100ib-i128'\nzone='Z'\n";
        let cases = [
            ("", "line 1: no [[node]]"),
            ("[[node]]\nzone='Z'\n", "missing field `sku`"),
            ("+colour='red'\n", "unknown field `colour`"),
            ("+count=0\n", "line 4: count: 0; accepted are 1 to 100"),
            ("+count=2\nid='a'\n", "line 4: count: a node with an id"),
            ("+id='A b'\n", "line 4: id: `A b`; accepted"),
            ("+load_seconds=-1.0\n", "line 4: load_seconds: -1; accepted are 0 to 86400"),
            ("+compute_class='cheap'\n", "unknown variant `cheap`"),
            ("[[node]]\nsku='gd-1xgh200'\nzone='Z'\ncompute_class='spot'\n", "line 2: sku: "),
            ("+id='a'\n+id='a'\n", "id: `a` is named twice"),
        ];
        for (text, expected) in cases {
            let error = refused(&text.replace('+', node));
            assert!(error.contains(expected), "{text:?} gave {error:?}, not {expected:?}");
        }
    }
}
