//! Bodies of our own API -> the checked words: pools, contracts, prices, access, periods.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use wharfage_billing::money::{Currency, MicroRate};
use wharfage_billing::timestamp::{parse_rfc3339, to_rfc3339};
use wharfage_scheduler_core::words::command::access::Admits;
use wharfage_scheduler_core::words::contract::{Contract, ContractTerms, Price};
use wharfage_scheduler_core::words::node::{Pool, PoolSize};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_scheduler_core::words::quota::QuotaKey;
use wharfage_shared::capacity::{ComputeClass, Region, Sku, Tenancy, Zone};
use wharfage_shared::ids::{ContractId, OrganizationId, PoolId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::time::{Millis, Timestamp};

use crate::http::coreweave::resource::{has_control, is_label};
use crate::http::fields::{Fields, Problems, Unknown, Wrong};

const ID: &str = "1 to 63 of a-z, A-Z, 0-9 and `-`, beginning and ending with a letter or a digit";
const INSTANT: &str = "RFC 3339 in UTC, as in 2026-06-01T00:00:00Z";
const PLACE: &str = "1 to 63 of A-Z, a-z, 0-9, `-`, `_` and `.`";

/// The longest reason of an operator.
const LONGEST_REASON: usize = 500;

/// Most uses of a join: more is a mistake, not a fleet.
const MOST_USES: u32 = 100_000;

/// Longest life of a join: a year.
const LONGEST_JOIN_SECONDS: u32 = 31_536_000;

/// Reads a body with `reader`; every key that it does not ask for is refused.
pub fn read<T>(
    body: &Map<String, Value>,
    reader: impl FnOnce(&Fields<'_>) -> Option<T>,
) -> Result<T, Vec<Wrong>> {
    let problems = Problems::default();
    let fields = Fields::new(body, Unknown::Refuse, &problems);
    let value = reader(&fields);
    fields.finish();
    problems.take()?;
    value.ok_or_else(|| {
        let problem = "the body cannot be read".to_owned();
        vec![Wrong { field: String::new(), problem, accepted: None }]
    })
}

/// `{"reason": "..."}` and, for reclaims, what leaves and when.
#[derive(Debug)]
pub struct Verb {
    /// The operator's words.
    pub reason: String,
    /// What ends.
    pub leaves: Leaves,
    /// Until the drain.
    pub drain_after: Option<Millis>,
    /// Until the end.
    pub gone_after: Option<Millis>,
}

/// The body of a verb on a node.
pub fn verb(fields: &Fields<'_>, reclaim: bool) -> Option<Verb> {
    let accepted = "why, in at most 500 bytes: it is shown wherever the node is shown";
    let reason = fields.required_text("reason", accepted).filter(|reason| {
        let good = reason.len() <= LONGEST_REASON && !has_control(reason);
        if !good {
            fields.wrong("reason", "it is too long or has control characters", accepted);
        }
        good
    });
    let mut verb = Verb {
        reason: reason?.to_owned(),
        leaves: Leaves::Node,
        drain_after: None,
        gone_after: None,
    };
    if reclaim {
        let words = [("node", 0, Leaves::Node), ("replicas", 1, Leaves::Replicas)];
        verb.leaves = fields.word("leaves", &words).unwrap_or_default();
        let seconds = |key| fields.whole(key, 0..=86_400).map(u64::from).map(Millis::from_seconds);
        verb.drain_after = seconds("drain_after_seconds");
        verb.gone_after = seconds("gone_after_seconds");
        if let (Some(drain), Some(gone)) = (verb.drain_after, verb.gone_after)
            && drain > gone
        {
            let accepted = "at least drain_after_seconds";
            fields.wrong("gone_after_seconds", "the end would come before the drain", accepted);
        }
    }
    Some(verb)
}

/// Most nodes of one pool.
const MOST_NODES: u32 = 1_000_000;

/// How many nodes a pool is to have; what is not said stays as it is, or follows from the target.
pub fn pool_size(fields: &Fields<'_>, current: Option<PoolSize>) -> Option<PoolSize> {
    let said = ["target_nodes", "min_nodes", "max_nodes"].map(|key| fields.has(key));
    let target = fields.whole("target_nodes", 0..=MOST_NODES);
    let min = fields.whole("min_nodes", 0..=MOST_NODES);
    let max = fields.whole("max_nodes", 0..=MOST_NODES);
    if !said.contains(&true) {
        return None;
    }
    let target = target.or(current.map(|size| size.target)).or(min).unwrap_or(0);
    let min = min.or(current.map(|size| size.min)).unwrap_or(0);
    let max = max.or(current.map(|size| size.max)).unwrap_or(MOST_NODES);
    Some(PoolSize { target, min, max })
}

/// A pool.
pub fn pool(fields: &Fields<'_>) -> Option<Pool> {
    let id = label(fields, "id");
    let zone = place(fields, "zone").map(Zone::new);
    let sku = place(fields, "sku").map(Sku::new);
    let classes = [("standard", 0, ComputeClass::Standard), ("spot", 1, ComputeClass::Spot)];
    let compute_class = fields.word("compute_class", &classes).unwrap_or_default();
    let tenancies = [("dedicated", 0, Tenancy::Dedicated), ("shared", 1, Tenancy::Shared)];
    let tenancy = fields.word("tenancy", &tenancies).unwrap_or_default();
    let owner = if fields.has("owner") { Some(label(fields, "owner")?) } else { None };
    Some(Pool {
        id: PoolId::from(id?),
        zone: zone?,
        sku: sku?,
        compute_class,
        tenancy,
        owner: owner.map(OrganizationId::from),
    })
}

/// A contract; `gpus_of` says how many GPUs an instance of a SKU has, for contracts in GPUs.
pub fn contract(fields: &Fields<'_>, gpus_of: impl Fn(&Sku) -> Option<u32>) -> Option<Contract> {
    let id = label(fields, "id");
    let organization = label(fields, "organization");
    let sku = place(fields, "sku").map(Sku::new);
    let region = place(fields, "region").map(Region::new);
    let start = required_instant(fields, "start");
    let end = required_instant(fields, "end");
    if let (Some(start), Some(end)) = (start, end)
        && end <= start
    {
        fields.wrong("end", "it is not after `start`", "a later instant");
    }
    let instances = instances(fields, sku.as_ref(), gpus_of);
    let plans = [("reserved", 0, true), ("flex", 1, false)];
    if !fields.has("plan") {
        fields.wrong("plan", "it is missing", "reserved, flex");
    }
    let terms = match fields.word("plan", &plans) {
        Some(true) => rate(fields, "rate", true).map(|rate| ContractTerms::Reserved { rate }),
        Some(false) => {
            let holding = rate(fields, "holding_rate", true);
            let usage = rate(fields, "usage_rate", true);
            holding
                .zip(usage)
                .map(|(holding_rate, usage_rate)| ContractTerms::Flex { holding_rate, usage_rate })
        }
        None => {
            // Named here, so that they are not called unknown beside a wrong plan.
            let _named = ["rate", "holding_rate", "usage_rate"].map(|key| fields.has(key));
            None
        }
    };
    Some(Contract {
        id: ContractId::from(id?),
        organization: OrganizationId::from(organization?),
        region: region?,
        sku: sku?,
        instances: instances?,
        start: start?,
        end: end?,
        terms: terms?,
    })
}

/// A Flex agreement that goes on as a Reserved one.
#[derive(Debug)]
pub struct Amendment {
    /// The id of what follows it.
    pub id: ContractId,
    /// From when on.
    pub from: Timestamp,
    /// The reserved rate.
    pub rate: String,
}

/// The body of an amendment; without `from` it begins at `now`.
pub fn amendment(fields: &Fields<'_>, now: Timestamp) -> Option<Amendment> {
    let id = label(fields, "id").map(ContractId::from);
    let from = if fields.has("from") { instant(fields, "from") } else { Some(now) };
    let rate = rate(fields, "rate", true);
    Some(Amendment { id: id?, from: from?, rate: rate? })
}

fn instances(
    fields: &Fields<'_>,
    sku: Option<&Sku>,
    gpus_of: impl Fn(&Sku) -> Option<u32>,
) -> Option<u32> {
    let accepted = "exactly one of `instances` and `gpus`";
    match (fields.has("instances"), fields.has("gpus")) {
        (true, true) => {
            fields.wrong("gpus", "both are given", accepted);
            None
        }
        (false, false) => {
            fields.wrong("instances", "it is missing", accepted);
            None
        }
        (true, false) => fields.whole("instances", 1..=1_000_000),
        (false, true) => {
            let gpus = fields.whole("gpus", 1..=16_000_000)?;
            let Some(each) = gpus_of(sku?).filter(|each| *each > 0) else {
                let problem = "no price says how many GPUs an instance of this SKU has";
                fields.wrong("gpus", problem, "`instances`");
                return None;
            };
            if gpus % each != 0 {
                let accepted = format!("a multiple of {each}, the GPUs of an instance");
                fields.wrong("gpus", format!("it is {gpus}"), accepted);
            }
            Some(gpus / each)
        }
    }
}

/// An instance quota.
pub fn quota(fields: &Fields<'_>) -> Option<(QuotaKey, u32)> {
    let organization = label(fields, "organization").map(OrganizationId::from);
    let zone = place(fields, "zone").map(Zone::new);
    let sku = place(fields, "sku").map(Sku::new);
    let instances = fields.required_whole("instances", 0..=1_000_000);
    let key = QuotaKey { organization: organization?, zone: zone?, sku: sku? };
    Some((key, instances?))
}

/// A list price; without `from` it holds from `now` on.
pub fn price(fields: &Fields<'_>, now: Timestamp) -> Option<Price> {
    let sku = place(fields, "sku").map(Sku::new);
    let region = place(fields, "region").map(Region::new);
    let from = instant(fields, "from").unwrap_or(now);
    let on_demand = rate(fields, "on_demand", true);
    let spot = rate(fields, "spot", false);
    let gpus = fields.whole("gpus", 1..=1024);
    let gpu_hour = rate(fields, "gpu_hour", false);
    Some(Price { sku: sku?, region: region?, from, on_demand: on_demand?, spot, gpus, gpu_hour })
}

fn rate(fields: &Fields<'_>, key: &'static str, required: bool) -> Option<String> {
    let accepted = "a decimal text per instance-hour such as \"24.00\"";
    let text = if required { fields.required_text(key, accepted)? } else { fields.text(key)? };
    if let Err(error) = text.parse::<MicroRate>() {
        fields.wrong(key, error.to_string(), accepted);
    }
    Some(text.to_owned())
}

/// A period: organization, from, to.
#[derive(Debug)]
pub struct Period {
    /// Whose; absent = the caller's.
    pub organization: Option<OrganizationId>,
    /// First instant.
    pub from: Timestamp,
    /// First instant after it.
    pub to: Timestamp,
}

/// The body of an invoice's draft; without a period it is the calendar month of `now`.
pub fn period(fields: &Fields<'_>, now: Timestamp) -> Option<Period> {
    let organization =
        if fields.has("organization") { Some(label(fields, "organization")?) } else { None };
    let (from, to) = if fields.has("from") || fields.has("to") {
        (required_instant(fields, "from"), required_instant(fields, "to"))
    } else {
        let (from, to) = month_of(now);
        (Some(from), Some(to))
    };
    if let (Some(from), Some(to)) = (from, to)
        && to <= from
    {
        fields.wrong("to", "it is not after `from`", "a later instant");
    }
    Some(Period { organization: organization.map(OrganizationId::from), from: from?, to: to? })
}

/// The calendar month in UTC that an instant lies in.
fn month_of(now: Timestamp) -> (Timestamp, Timestamp) {
    let first_of = |at: Timestamp| {
        let text = to_rfc3339(at);
        let first =
            text.get(..7).and_then(|month| parse_rfc3339(&format!("{month}-01T00:00:00Z")).ok());
        first.unwrap_or(at)
    };
    let from = first_of(now);
    // The 32nd day from a month's first lies in the next month.
    (from, first_of(from + Millis::from_seconds(32 * 86_400)))
}

/// An organization.
pub fn organization(fields: &Fields<'_>) -> Option<(OrganizationId, String)> {
    let id = label(fields, "id");
    let currency = fields.text("currency").unwrap_or("USD");
    if let Err(error) = currency.parse::<Currency>() {
        fields.wrong("currency", error.to_string(), "an ISO 4217 code such as USD");
    }
    Some((OrganizationId::from(id?), currency.to_owned()))
}

/// A token to be made.
#[derive(Debug)]
pub struct NewToken {
    /// Whose; absent = the caller's.
    pub organization: Option<OrganizationId>,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// For people.
    pub name: String,
}

/// The body of a token.
pub fn token(fields: &Fields<'_>) -> Option<NewToken> {
    let words = [
        ("viewer", 1, Role::Viewer),
        ("operator", 2, Role::Operator),
        ("billing", 3, Role::Billing),
        ("admin", 4, Role::Admin),
    ];
    let organization =
        if fields.has("organization") { Some(label(fields, "organization")?) } else { None };
    let mut roles = BTreeSet::new();
    for (at, value) in fields.list("roles").unwrap_or_default().iter().enumerate() {
        roles.extend(fields.word_of(&fields.entry("roles", at), value, &words));
    }
    if roles.is_empty() && fields.list("roles").is_none_or(<[Value]>::is_empty) {
        fields.wrong("roles", "no role is given", "some of viewer, operator, billing, admin");
    }
    let name = fields.text("name").unwrap_or("");
    if name.len() > 128 || has_control(name) {
        let accepted = "at most 128 bytes without control characters";
        fields.wrong("name", "it is no name", accepted);
    }
    Some(NewToken {
        organization: organization.map(OrganizationId::from),
        roles,
        name: name.to_owned(),
    })
}

/// A join to be made.
#[derive(Debug)]
pub struct NewJoin {
    /// What it admits.
    pub admits: Admits,
    /// How often.
    pub uses: u32,
    /// For how long.
    pub lives: Millis,
}

/// The body of a join.
pub fn join(fields: &Fields<'_>) -> Option<NewJoin> {
    let words = [("nodes", 0, true), ("gateways", 1, false)];
    let nodes = fields.word("admits", &words).unwrap_or(true);
    let admits = if nodes {
        Admits::Nodes { pool: PoolId::from(label(fields, "pool")?) }
    } else {
        if fields.has("pool") {
            fields.wrong("pool", "gateways belong to no pool", "no `pool` here");
        }
        Admits::Gateways
    };
    let uses = fields.whole("uses", 1..=MOST_USES).unwrap_or(1);
    // 15 minutes: long enough to paste, short enough to leak little.
    let seconds = fields.whole("expires_in_seconds", 1..=LONGEST_JOIN_SECONDS).unwrap_or(900);
    Some(NewJoin { admits, uses, lives: Millis::from_seconds(u64::from(seconds)) })
}

fn label<'a>(fields: &Fields<'a>, key: &'static str) -> Option<&'a str> {
    let text = fields.required_text(key, ID)?;
    if !is_label(text) {
        fields.wrong(key, format!("`{text}` is no id"), ID);
        return None;
    }
    Some(text)
}

/// A zone, region or SKU: a word of the fleet's own making.
fn place<'a>(fields: &Fields<'a>, key: &'static str) -> Option<&'a str> {
    let text = fields.required_text(key, PLACE)?;
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if text.len() > 63 || !text.bytes().all(good) {
        fields.wrong(key, "it is no such name", PLACE);
        return None;
    }
    Some(text)
}

fn instant(fields: &Fields<'_>, key: &'static str) -> Option<Timestamp> {
    match parse_rfc3339(fields.text(key)?) {
        Ok(at) => Some(at),
        Err(error) => {
            fields.wrong(key, format!("`{}`: {}", error.text, error.problem), INSTANT);
            None
        }
    }
}

fn required_instant(fields: &Fields<'_>, key: &'static str) -> Option<Timestamp> {
    if !fields.has(key) {
        fields.wrong(key, "it is missing", INSTANT);
        return None;
    }
    instant(fields, key)
}
