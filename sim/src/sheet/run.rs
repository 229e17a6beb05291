//! Runs a sheet: statement by statement, with everything that happens in between as a timeline.

use serde::Serialize;
use wharfage_scheduler_core::Refusal;
use wharfage_scheduler_core::words::replica::PhaseWord;
use wharfage_shared::ids::NodeId;
use wharfage_shared::time::Millis;

use super::act::{Context, act, hooks_of};
use super::parse::{self, BadSheet};
use super::statement::{Expect, Line, Run, Sheet, Statement};
use super::{expect, names, show};
use crate::trace::Entry;
use crate::world::{ACME, Plan, PlannedHost, World};

/// What a sheet came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The sheet's file.
    pub file: String,
    /// The seed that decided everything.
    pub seed: u64,
    /// Nothing failed.
    pub passed: bool,
    /// What happened, in order, as lines for people.
    pub timeline: Vec<String>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Virtual seconds from the sheet's zero to its end, in milliseconds.
    pub ended_at_ms: u64,
    /// Requests that an engine's end cut off.
    pub requests_cut: u64,
    /// A hash over everything that happened: two runs of one seed share it.
    pub trace: String,
}

/// An expectation that was not met, a statement that was refused, or a rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The line of the sheet.
    pub line: usize,
    /// What stands there.
    pub statement: String,
    /// What was found instead.
    pub found: String,
}

impl Outcome {
    /// As JSON, one object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("an outcome has text keys only")
    }

    /// The failures as lines with file and line.
    pub fn failure_lines(&self) -> impl Iterator<Item = String> {
        self.failures.iter().map(|failure| {
            format!("{}:{}: {}: {}", self.file, failure.line, failure.statement, failure.found)
        })
    }
}

/// Reads and runs a sheet. An error is a sheet that cannot be read; everything else is an outcome.
pub fn run(text: &str, file: &str, seed: u64) -> Result<Outcome, BadSheet> {
    let sheet = parse::sheet(text, file)?;
    names::check(&sheet)?;
    let mut runner = Runner::new(&sheet, seed);
    for line in &sheet.statements {
        runner.line(line);
        if !runner.world.violations().is_empty() {
            break;
        }
    }
    Ok(runner.end())
}

struct Runner<'a> {
    sheet: &'a Sheet,
    seed: u64,
    world: World,
    context: Context,
    timeline: Vec<String>,
    failures: Vec<Failure>,
    /// The line before was refused and nobody has said yet that this was expected.
    refused: Option<(Line, Refusal)>,
    shown: usize,
    last: Option<Line>,
}

impl<'a> Runner<'a> {
    fn new(sheet: &'a Sheet, seed: u64) -> Self {
        let (hooks, lengths) = hooks_of(sheet);
        let mut hosts = Vec::new();
        for line in &sheet.statements {
            let Statement::Fleet(groups) = &line.statement else { continue };
            for group in groups {
                let host = PlannedHost {
                    sku: group.sku.clone(),
                    zone: group.zone.clone(),
                    compute_class: group.compute_class,
                    joins_after: group.joins_after,
                    drift_ppm: 0,
                    shared_disk: group.shared_disk,
                };
                hosts.extend((0..group.count).map(|_| host.clone()));
            }
        }
        let first_sku = hosts.first().map(|host| host.sku.clone());
        let first_sku = first_sku.expect("a sheet begins with a fleet of at least one node");
        let world = World::make(Plan {
            seed,
            hosts,
            organizations: vec![ACME.into()],
            gateways: 1,
            hooks: lengths,
            keeps_lines: true,
            policy: wharfage_scheduler_core::Policy::default(),
        });
        let shown = world.stage.trace.entries().len();
        Self {
            sheet,
            seed,
            world,
            context: Context { first_sku, hooks },
            timeline: Vec::new(),
            failures: Vec::new(),
            refused: None,
            shown,
            last: None,
        }
    }

    fn line(&mut self, line: &Line) {
        if line.statement != Statement::Expect(Expect::Refused) {
            self.refused_for_good();
        }
        self.tell();
        self.timeline.push(format!("{:>10} > {}", self.clock(self.world.stage.now), line.text));
        match &line.statement {
            Statement::Run(Run::For(length)) => {
                let until = self.world.stage.now + *length;
                self.world.run_until(until);
            }
            Statement::Run(Run::UntilReady(most)) => self.until_ready(*most),
            Statement::Expect(Expect::Refused) => match self.refused.take() {
                Some((_, refusal)) => self.timeline.push(format!("{:>12} {refusal}", "")),
                None => self.fail(line, "the statement before was carried out".to_owned()),
            },
            Statement::Expect(expect) => {
                if let Err(found) = expect::evaluate(&self.world, expect) {
                    self.fail(line, found);
                }
            }
            Statement::Show(what) => {
                self.tell();
                let lines = show::lines(&self.world, what);
                self.timeline.extend(lines.into_iter().map(|line| format!("{:>12} {line}", "|")));
            }
            statement @ (Statement::Fleet(_)
            | Statement::Org(_)
            | Statement::Contract(_)
            | Statement::Claim(_)
            | Statement::Deploy(_)
            | Statement::Load { .. }
            | Statement::Notice { .. }
            | Statement::Withdraw(_)
            | Statement::Fault(_)
            | Statement::Do(_)) => {
                if let Err(refusal) = act(&mut self.world, &self.context, line.number, statement) {
                    self.refused = Some((line.clone(), refusal));
                }
                // What follows at this very instant has happened before the next line is read.
                let now = self.world.stage.now;
                self.world.run_until(now);
            }
        }
        self.last = Some(line.clone());
        self.tell();
    }

    /// The statement before was refused and the sheet did not say so.
    fn refused_for_good(&mut self) {
        if let Some((line, refusal)) = self.refused.take() {
            self.fail(&line, format!("refused: {refusal}"));
        }
    }

    fn fail(&mut self, line: &Line, found: String) {
        self.timeline.push(format!("{:>12} FAILED: {found}", ""));
        let (line, statement) = (line.number, line.text.clone());
        self.failures.push(Failure { line, statement, found });
    }

    fn until_ready(&mut self, most: Millis) {
        let until = self.world.stage.now + most;
        let now = self.world.stage.now;
        self.world.run_until(now);
        let mut records = usize::MAX;
        while self.world.violations().is_empty() {
            let next = self.world.stage.queue.next_at();
            let is_new_instant = next.is_none_or(|at| at > self.world.stage.now);
            if is_new_instant && records != self.world.scheduler.records() {
                records = self.world.scheduler.records();
                if all_ready(&self.world) {
                    return;
                }
            }
            if next.is_none_or(|at| at > until) {
                break;
            }
            self.world.step();
        }
        self.world.run_until(until);
    }

    /// Adds what has happened since the last time.
    fn tell(&mut self) {
        let entries = &self.world.stage.trace.entries()[self.shown..];
        let lines = entries.iter().filter(|entry| !entry.is_detail);
        self.timeline.extend(lines.map(|entry| told(entry, self.world.zero)));
        self.shown = self.world.stage.trace.entries().len();
    }

    fn clock(&self, at: Millis) -> String {
        clock(at, self.world.zero)
    }

    fn end(mut self) -> Outcome {
        self.refused_for_good();
        if self.world.violations().is_empty() {
            self.world.check_now();
        }
        self.tell();
        let last = self.last.take();
        for violation in self.world.violations() {
            let at = clock(violation.at, self.world.zero);
            self.failures.push(Failure {
                line: last.as_ref().map_or(1, |line| line.number),
                statement: last.as_ref().map_or(String::new(), |line| line.text.clone()),
                found: format!("rule {} is broken at {at}: {}", violation.rule, violation.found),
            });
        }
        Outcome {
            file: self.sheet.file.clone(),
            seed: self.seed,
            passed: self.failures.is_empty(),
            timeline: self.timeline,
            failures: self.failures,
            ended_at_ms: (self.world.stage.now - self.world.zero).0,
            requests_cut: self.world.requests_cut(),
            trace: format!("{:016x}", self.world.stage.trace.hash()),
        }
    }
}

/// An instant as a sheet counts it.
pub(crate) fn clock(at: Millis, zero: Millis) -> String {
    if at < zero {
        return format!("-{}.{:03}s", (zero - at).0 / 1000, (zero - at).0 % 1000);
    }
    let since = at - zero;
    format!("{}.{:03}s", since.0 / 1000, since.0 % 1000)
}

/// One line of a timeline.
pub(crate) fn told(entry: &Entry, zero: Millis) -> String {
    let node = entry.node.as_ref().map_or("", NodeId::as_str);
    format!("{:>10}   {node:<8} {}", clock(entry.at, zero), entry.text)
}

/// Every deployment has as many ready replicas as it wants.
fn all_ready(world: &World) -> bool {
    let fleet = world.fleet();
    world.scheduler.is_up()
        && fleet.deployments().all(|deployment| {
            let rows = fleet.replicas_of(&deployment.id);
            let ready = rows.filter(|row| fleet.phase_word(row) == PhaseWord::Ready).count();
            deployment.deleting.is_some() || ready >= deployment.desired as usize
        })
}
