//! Text to statements; an error names file, line and what was expected.

use wharfage_shared::capacity::{CapacityClass, CapacityType, ComputeClass, Region, Sku, Zone};
use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::time::Millis;

use super::drill;
use super::statement::{
    Axis, Claim, Contract, Count, Deploy, Expect, Fault, FleetGroup, Line, Run, Sheet, Show,
    Statement, Verb,
};
use super::words::{Expected, Words, length, number};

/// The most nodes that a sheet's fleet may have.
const MOST_NODES: u32 = 20_000;

/// A sheet that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {expected}")]
pub struct BadSheet {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What was wrong and what was expected.
    pub expected: String,
}

/// Reads a whole sheet; the first line that cannot be read is the error.
pub fn sheet(text: &str, file: &str) -> Result<Sheet, BadSheet> {
    let mut statements = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let text = raw.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let bad = |expected| BadSheet { file: file.to_owned(), line: index + 1, expected };
        let statement = statement(text).map_err(bad)?;
        if statements.is_empty() && !matches!(statement, Statement::Fleet(_)) {
            return Err(bad("a sheet begins with `fleet`".to_owned()));
        }
        if !statements.is_empty() && matches!(statement, Statement::Fleet(_)) {
            return Err(bad("`fleet` stands once, at the beginning".to_owned()));
        }
        statements.push(Line { number: index + 1, text: text.to_owned(), statement });
    }
    if statements.is_empty() {
        let expected = "the sheet is empty: it begins with `fleet`".to_owned();
        return Err(BadSheet { file: file.to_owned(), line: 1, expected });
    }
    Ok(Sheet { file: file.to_owned(), statements })
}

fn statement(text: &str) -> Result<Statement, Expected> {
    let mut words = Words::of(text);
    let statement = match words.word("a statement")? {
        "fleet" => return fleet(text.trim_start_matches("fleet")).map(Statement::Fleet),
        "org" => Statement::Org(OrganizationId::from(name(&mut words, "an organization")?)),
        "contract" => Statement::Contract(contract(&mut words)?),
        "claim" => Statement::Claim(claim(&mut words)?),
        "deploy" => Statement::Deploy(Box::new(deploy(&mut words)?)),
        "load" => Statement::Load {
            deployment: DeploymentId::from(name(&mut words, "a deployment")?),
            in_flight: number(words.value("in_flight")?, 0, 1_000_000)?,
        },
        "run" => Statement::Run(run(&mut words)?),
        "expect" => Statement::Expect(expect(&mut words)?),
        "notice" => notice(&mut words)?,
        "withdraw" => Statement::Withdraw(node(&mut words)?),
        "fault" => Statement::Fault(fault(&mut words)?),
        "do" => Statement::Do(verb(&mut words)?),
        "show" => Statement::Show(show(&mut words)?),
        word => {
            return Err(format!(
                "`{word}` where fleet, org, contract, claim, deploy, load, run, expect, notice, \
                 withdraw, fault, do or show was expected"
            ));
        }
    };
    words.end()?;
    Ok(statement)
}

fn fleet(text: &str) -> Result<Vec<FleetGroup>, Expected> {
    let mut groups = Vec::new();
    for part in text.split(',') {
        let mut words = Words::of(part);
        let count = words.word("a count such as 2x")?;
        let digits = count
            .strip_suffix('x')
            .ok_or_else(|| format!("`{count}` where a count such as 2x was expected"))?;
        let count = number(digits, 1, MOST_NODES)?;
        let sku = Sku::new(words.word("a SKU")?);
        let compute_class = compute_class(words.word("standard or spot")?)?;
        let zone = Zone::new(words.word("a zone such as US-EAST-04A")?);
        let (mut joins_after, mut shared_disk) = (Millis(0), false);
        while let Some((key, value)) = words.pair(&["joins_after_seconds", "shared_disk"])? {
            match key {
                "shared_disk" => shared_disk = yes_or_no(value)?,
                _ => joins_after = Millis::from_seconds(u64::from(number(value, 0, 31_536_000)?)),
            }
        }
        if sku.is_superchip() && compute_class == ComputeClass::Spot {
            return Err(format!("`{sku}` is a superchip, which is never sold as spot"));
        }
        groups.push(FleetGroup { count, sku, compute_class, zone, joins_after, shared_disk });
    }
    if groups.iter().map(|group| u64::from(group.count)).sum::<u64>() > u64::from(MOST_NODES) {
        return Err(format!("more than {MOST_NODES} nodes"));
    }
    Ok(groups)
}

fn compute_class(word: &str) -> Result<ComputeClass, Expected> {
    match word {
        "standard" => Ok(ComputeClass::Standard),
        "spot" => Ok(ComputeClass::Spot),
        _ => Err(format!("`{word}` where standard or spot was expected")),
    }
}

fn name<'a>(words: &mut Words<'a>, what: &str) -> Result<&'a str, Expected> {
    let word = words.word(what)?;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if word.len() <= 63
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(good)
    {
        Ok(word)
    } else {
        Err(format!("`{word}` where {what} (letters, digits, hyphens) was expected"))
    }
}

fn node(words: &mut Words<'_>) -> Result<NodeId, Expected> {
    name(words, "a node such as node-1").map(NodeId::from)
}

fn contract(words: &mut Words<'_>) -> Result<Contract, Expected> {
    let is_flex = match words.word("reserved or flex")? {
        "reserved" => false,
        "flex" => true,
        word => return Err(format!("`{word}` where reserved or flex was expected")),
    };
    let organization = OrganizationId::from(name(words, "an organization")?);
    let sku = Sku::new(words.word("a SKU")?);
    let region = Region::new(words.word("a region such as US-EAST-04")?);
    let instances = number(words.value("instances")?, 1, MOST_NODES)?;
    words.keyword("from")?;
    let from = length(words.word("a time")?)?;
    words.keyword("to")?;
    let to = length(words.word("a time")?)?;
    if from >= to {
        return Err("the contract ends before it starts".to_owned());
    }
    Ok(Contract { is_flex, organization, sku, region, instances, from, to })
}

fn claim(words: &mut Words<'_>) -> Result<Claim, Expected> {
    let claim = name(words, "a name")?.to_owned();
    let organization = OrganizationId::from(name(words, "an organization")?);
    let capacity_type = match words.word("SERVERLESS or CUSTOMER")? {
        "SERVERLESS" | "MANAGED" => CapacityType::Serverless,
        "CUSTOMER" => CapacityType::Customer,
        word => return Err(format!("`{word}` where SERVERLESS or CUSTOMER was expected")),
    };
    let sku = Sku::new(words.word("a SKU")?);
    let zone = Zone::new(words.word("a zone such as US-EAST-04A")?);
    let count = number(words.value("count")?, 1, MOST_NODES)?;
    Ok(Claim { name: claim, organization, capacity_type, sku, zone, count })
}

fn deploy(words: &mut Words<'_>) -> Result<Deploy, Expected> {
    let mut deploy = Deploy {
        name: DeploymentId::from(name(words, "a deployment")?),
        gpus: 0,
        min: 1,
        max: None,
        priority: 0,
        concurrency: 8,
        classes: Vec::new(),
        load: Millis::from_seconds(1),
        checkpoint: Millis(0),
        drain: Millis::from_seconds(5),
        sku: None,
        zone: None,
        organization: "acme".into(),
        single_copy: false,
    };
    const KEYS: [&str; 13] = [
        "gpus",
        "min",
        "max",
        "priority",
        "concurrency",
        "classes",
        "load",
        "checkpoint",
        "drain",
        "sku",
        "zone",
        "org",
        "single_copy",
    ];
    while let Some((key, value)) = words.pair(&KEYS)? {
        match key {
            "gpus" => deploy.gpus = number(value, 1, 16)?,
            "min" => deploy.min = number(value, 0, 10_000)?,
            "max" => deploy.max = Some(number(value, 1, 10_000)?),
            "priority" => deploy.priority = number(value, 0, 1000)?,
            "concurrency" => deploy.concurrency = number(value, 1, 1_000_000)?,
            "classes" => deploy.classes = classes(value)?,
            "load" => deploy.load = length(value)?,
            "checkpoint" => deploy.checkpoint = length(value)?,
            "drain" => deploy.drain = length(value)?,
            "sku" => deploy.sku = Some(Sku::new(value)),
            "zone" => deploy.zone = Some(Zone::new(value)),
            "org" => deploy.organization = value.into(),
            _ => deploy.single_copy = yes_or_no(value)?,
        }
    }
    if ![1, 2, 4, 8, 16].contains(&deploy.gpus) {
        return Err("gpus=... of 1, 2, 4, 8 or 16 was expected".to_owned());
    }
    if deploy.max.is_some_and(|max| max < deploy.min) {
        return Err(format!("max is below min ({})", deploy.min));
    }
    Ok(deploy)
}

fn classes(value: &str) -> Result<Vec<CapacityClass>, Expected> {
    let class = |word| match word {
        "spot" => Ok(CapacityClass::Spot),
        "on-demand" => Ok(CapacityClass::OnDemand),
        "reserved" => Ok(CapacityClass::Reserved),
        _ => Err(format!("`{word}` where spot, on-demand or reserved was expected")),
    };
    value.split(',').map(class).collect()
}

pub(super) fn yes_or_no(value: &str) -> Result<bool, Expected> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("`{value}` where yes or no was expected")),
    }
}

fn run(words: &mut Words<'_>) -> Result<Run, Expected> {
    if !words.takes("until") {
        return length(words.word("a time or `until ready or <time>`")?).map(Run::For);
    }
    words.keyword("ready")?;
    words.keyword("or")?;
    length(words.word("a time")?).map(Run::UntilReady)
}

fn notice(words: &mut Words<'_>) -> Result<Statement, Expected> {
    let node = node(words)?;
    words.keyword("in")?;
    let within = length(words.word("a time")?)?;
    let leaves = match words.pair(&["leaves"])? {
        None => Leaves::Node,
        Some((_, "node")) => Leaves::Node,
        Some((_, "replicas")) => Leaves::Replicas,
        Some((_, word)) => {
            return Err(format!("`{word}` where leaves=node or leaves=replicas was expected"));
        }
    };
    Ok(Statement::Notice { node, within, leaves })
}

fn expect(words: &mut Words<'_>) -> Result<Expect, Expected> {
    let first = words.word(
        "[no] replica on N, a deployment, requests cut=N, drill WORD, usage of ORG, node axis=word or \
         refused",
    )?;
    match first {
        "refused" => Ok(Expect::Refused),
        "no" => {
            words.keyword("replica")?;
            words.keyword("on")?;
            Ok(Expect::On { deployment: None, not: true, node: node(words)? })
        }
        "replica" => {
            words.keyword("on")?;
            Ok(Expect::On { deployment: None, not: false, node: node(words)? })
        }
        "drill" => drill::verdict(words),
        "requests" => Ok(Expect::RequestsCut(u64::from(number(words.value("cut")?, 0, u32::MAX)?))),
        "usage" => {
            words.keyword("of")?;
            let organization = OrganizationId::from(name(words, "an organization")?);
            usage(words, organization)
        }
        subject => expect_of(words, subject),
    }
}

/// The words of `line`, as invoices have them.
const LINES: [&str; 8] = [
    "reserved",
    "flex_holding",
    "flex_usage",
    "on_demand",
    "spot",
    "claim",
    "credit",
    "correction",
];

fn usage(words: &mut Words<'_>, organization: OrganizationId) -> Result<Expect, Expected> {
    let line = words.word("a word of `line`")?;
    if !LINES.contains(&line) {
        return Err(format!("`{line}` where one of {} was expected", LINES.join(", ")));
    }
    let hours = words.value("hours")?;
    let plain = hours.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    match hours.parse::<f64>() {
        Ok(hours) if plain => Ok(Expect::Usage { organization, line: line.to_owned(), hours }),
        _ => Err(format!("`{hours}` where hours such as 0.5 were expected")),
    }
}

fn expect_of(words: &mut Words<'_>, subject: &str) -> Result<Expect, Expected> {
    if subject.contains('=') || !subject.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(format!("`{subject}` where a deployment or a node was expected"));
    }
    let not = words.takes("not");
    if words.takes("on") {
        let deployment = Some(DeploymentId::from(subject));
        return Ok(Expect::On { deployment, not, node: node(words)? });
    }
    const KEYS: [&str; 7] =
        ["ready", "desired", "pending", "reach", "health", "intent", "departure"];
    let Some((key, value)) = words.pair(&KEYS)? else {
        return Err("the line ends where `on NODE`, ready=N or an axis=word was expected".into());
    };
    let counted = |what| {
        let deployment = DeploymentId::from(subject);
        Ok(Expect::Count { deployment, what, count: number(value, 0, 10_000)? })
    };
    let axis = |axis, accepted: &[&str]| {
        if !accepted.contains(&value) {
            return Err(format!("`{value}` where one of {} was expected", accepted.join(", ")));
        }
        Ok(Expect::Axis { node: subject.into(), axis, word: value.to_owned() })
    };
    match key {
        "ready" => counted(Count::Ready),
        "desired" => counted(Count::Desired),
        "pending" => counted(Count::Pending),
        "reach" => axis(Axis::Reach, &["joining", "connected", "silent", "lost"]),
        "health" => axis(Axis::Health, &["qualifying", "fit", "unfit"]),
        "intent" => axis(Axis::Intent, &["open", "cordoned", "draining", "retired"]),
        _ => axis(Axis::Departure, &["none", "noticed"]),
    }
}

fn fault(words: &mut Words<'_>) -> Result<Fault, Expected> {
    if words.takes("scheduler") {
        return words.keyword("crash").map(|()| Fault::SchedulerCrash);
    }
    let node = node(words)?;
    match words.word("crash-agent, cut, hang-driver, xid, lose or clock")? {
        "crash-agent" => Ok(Fault::CrashAgent(node)),
        "cut" => Ok(Fault::Cut(node, length(words.word("a time")?)?)),
        "hang-driver" => Ok(Fault::HangDriver(node, number(words.value("gpu")?, 0, 63)?)),
        "xid" => {
            let xid = number(words.word("an XID")?, 1, 999)?;
            Ok(Fault::Xid(node, xid, number(words.value("gpu")?, 0, 63)?))
        }
        "lose" => Ok(Fault::Lose(node)),
        "clock" => {
            clock_step(words.word("a step such as +1h")?).map(|step| Fault::Clock(node, step))
        }
        word => Err(format!(
            "`{word}` where crash-agent, cut, hang-driver, xid, lose or clock was expected"
        )),
    }
}

fn clock_step(text: &str) -> Result<i64, Expected> {
    let wrong = || format!("`{text}` where a step such as +1h or -30s was expected");
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(wrong()),
    };
    let length = length(rest)?;
    i64::try_from(length.0).map(|ms| sign * ms).map_err(|_| wrong())
}

/// What `do` knows.
const VERBS: &str = "cordon, uncordon, drain, reclaim, scale, delete, drill or abort-drill";

fn verb(words: &mut Words<'_>) -> Result<Verb, Expected> {
    match words.word(VERBS)? {
        "cordon" => node(words).map(Verb::Cordon),
        "uncordon" => node(words).map(Verb::Uncordon),
        "drain" => node(words).map(Verb::Drain),
        "reclaim" => node(words).map(Verb::Reclaim),
        "delete" => Ok(Verb::Delete(DeploymentId::from(name(words, "a deployment")?))),
        "drill" => drill::parse(words).map(|drill| Verb::Drill(Box::new(drill))),
        "abort-drill" => Ok(Verb::AbortDrill),
        "scale" => {
            let deployment = DeploymentId::from(name(words, "a deployment")?);
            let (mut min, mut max) = (None, None);
            while let Some((key, value)) = words.pair(&["min", "max"])? {
                let bound = if key == "min" { &mut min } else { &mut max };
                *bound = Some(number(value, 0, 10_000)?);
            }
            if min.is_none() && max.is_none() {
                return Err("the line ends where min=... or max=... was expected".to_owned());
            }
            Ok(Verb::Scale { deployment, min, max })
        }
        word => Err(format!("`{word}` where {VERBS} was expected")),
    }
}

fn show(words: &mut Words<'_>) -> Result<Show, Expected> {
    match words.word("timeline, usage or explain")? {
        "timeline" => {
            words.keyword("of")?;
            node(words).map(Show::Timeline)
        }
        "usage" => {
            words.keyword("of")?;
            Ok(Show::Usage(OrganizationId::from(name(words, "an organization")?)))
        }
        "explain" => Ok(Show::Explain(DeploymentId::from(name(words, "a deployment")?))),
        word => Err(format!("`{word}` where timeline, usage or explain was expected")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test states what it relies on")]
mod tests {
    use super::*;

    #[test]
    fn every_statement_of_the_grammar_is_read() {
        let text = "fleet 2x gd-8xh100ib-i128 standard US-EAST-04A, 1x gd-8xh100ib-i128 spot US-EAST-04A # nodes\n\
            org other\n\
            contract flex acme gd-8xh100ib-i128 US-EAST-04 instances=1 from 0s to 30d\n\
            claim hold acme SERVERLESS gd-8xh100ib-i128 US-EAST-04A count=1\n\
            deploy chat gpus=8 min=1 max=2 priority=500 concurrency=8 classes=spot,on-demand load=30s checkpoint=20s drain=5s\n\
            load chat in_flight=12\nrun until ready or 5m\nrun 120s\nexpect chat on node-3\n\
            expect no replica on node-1\nexpect chat not on node-1\nexpect chat ready=1\n\
            expect requests cut=0\nexpect usage of acme on_demand hours=0.5\n\
            expect node-3 health=unfit\nexpect refused\nnotice node-3 in 120s leaves=replicas\n\
            withdraw node-3\nfault node-1 crash-agent\nfault node-1 cut 60s\n\
            fault node-1 hang-driver gpu=0\nfault node-1 xid 79 gpu=0\nfault node-1 lose\n\
            fault node-1 clock +1h\nfault scheduler crash\ndo cordon node-1\ndo uncordon node-1\n\
            do drain node-1\ndo reclaim node-3\ndo scale chat min=2 max=4\ndo delete chat\n\
            do drill node-3 profile=aws-120\ndo drill chat percent=50 window=5s at_once=2 go_on=yes\n\
            do abort-drill\nexpect drill passed\nshow timeline of node-3\n\
            show usage of acme\nshow explain chat\n";
        assert_eq!(sheet(text, "all.sheet").unwrap().statements.len(), text.lines().count());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_with_what_was_expected() {
        let fleet = "fleet 1x sku standard ZONE-A\n";
        let cases = [
            ("", "bad.sheet:1: the sheet is empty: it begins with `fleet`"),
            ("run 5s\n", "bad.sheet:1: a sheet begins with `fleet`"),
            ("+run 5\n", "`5` where a time such as 500ms, 30s, 5m, 1.5h or 30d was expected"),
            ("+run until soon or 5m", "`soon` where `ready` was expected"),
            ("+deploy chat gpus=3", "gpus=... of 1, 2, 4, 8 or 16 was expected"),
            ("+deploy chat gpus=8 colour=red", "`colour=red` where one of gpus=..., min=..."),
            ("+deploy chat gpus=8 min=3 max=2", "max is below min (3)"),
            ("+deploy chat gpus=8 priority=1001", "a whole number from 0 to 1000"),
            ("+expect node-1 health=ill", "`ill` where one of qualifying, fit, unfit"),
            ("+notice node-1 in 5s leaves=soon", "leaves=node or leaves=replicas"),
            ("+fault node-1 clock 1h", "a step such as +1h or -30s"),
            ("+do drill", "the line ends where a node or a deployment was expected"),
            ("+do drill node-1", "profile=... or window=... was expected"),
            ("+do drill node-1 profile=aws", "`aws` where one of aws-120, gcp-30, azure-30"),
            ("+do drill node-1 window=2d", "at most a day was expected"),
            ("+do drill node-1 window=5s percent=0", "a whole number from 1 to 100"),
            ("+expect drill good", "`good` where running, passed, failed or aborted"),
            ("+jump node-1", "`jump` where fleet, org"),
            ("+run 5s 6s", "`6s` where the end of the line was expected"),
            ("fleet 0x sku standard Z", "a whole number from 1 to 20000"),
            ("fleet 1x gd-1xgh200 spot Z", "is a superchip, which is never sold as spot"),
        ];
        for (text, expected) in cases {
            let text = text.replacen('+', fleet, usize::from(text.starts_with('+')));
            let error = sheet(&text, "bad.sheet").unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?} gave {error:?}, not {expected:?}");
        }
    }
}
