//! A deployment's row, its specification in the API's words, and its status.

use serde::Serialize;
use serde_json::{Value, json};
use wharfage_scheduler_core::capacity::lending::awaited;
use wharfage_scheduler_core::capacity::memory;
use wharfage_scheduler_core::explain;
use wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow;
use wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;
use wharfage_scheduler_core::policies::rollout;
use wharfage_scheduler_core::words::deployment::{Dialect, Spec};
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_shared::ids::{DeploymentId, OrganizationId, ReplicaId};
use wharfage_shared::time::Millis;

use super::{Shown, instant};
use crate::http::baseten::settings;
use crate::http::coreweave::{deployment::class_name, extension};

/// Failed starts in a row after which a deployment without a ready replica is in error.
const FAILURES_OF_AN_ERROR: u32 = 3;

/// The row of our own API.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its id.
    pub id: DeploymentId,
    /// Its name.
    pub name: String,
    /// Whose.
    pub organization: OrganizationId,
    /// coreweave, baseten.
    pub dialect: &'static str,
    /// The name that requests use.
    pub model: String,
    /// Its environment.
    pub environment: Option<String>,
    /// Where new replicas may run, in the order of preference; empty = claims, then on-demand.
    pub capacity_classes: Vec<&'static str>,
    /// Its priority.
    pub priority: u16,
    /// How many replicas it is to have.
    pub desired: u32,
    /// Why so many.
    pub because: String,
    /// How many are ready.
    pub ready: u32,
    /// Its replicas whose end is not proven.
    pub replicas: Vec<ReplicaId>,
    /// Which of its settings new replicas run.
    pub revision: u32,
    /// Since when.
    pub created_at: String,
    /// When its settings changed last.
    pub updated_at: String,
    /// Requests now, as gateways say; null when none has spoken.
    pub load: Option<Load>,
    /// What was asked for.
    pub spec: Value,
    /// How it stands.
    pub status: Value,
}

/// Requests of one deployment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
    /// At replicas.
    pub in_flight: u64,
    /// Waiting.
    pub queued: u64,
    /// Waiting for a first replica.
    pub parked: u64,
}

/// The words of CoreWeave's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Status {
    /// Being made for the first time.
    #[serde(rename = "STATUS_CREATING")]
    Creating,
    /// It serves what it is to serve.
    #[serde(rename = "STATUS_READY")]
    Ready,
    /// A change is under way.
    #[serde(rename = "STATUS_UPDATING")]
    Updating,
    /// It is being removed.
    #[serde(rename = "STATUS_DELETING")]
    Deleting,
    /// Its starts fail; it is tried again.
    #[serde(rename = "STATUS_ERROR")]
    Error,
}

impl Shown<'_> {
    /// Every deployment that the caller may see, in the order of ids.
    pub fn deployments(&self) -> impl Iterator<Item = &DeploymentRow> {
        let visible =
            |row: &&DeploymentRow| row.deleting.is_none() && self.caller.sees(&row.organization);
        self.fleet.deployments().filter(visible)
    }

    /// One deployment's row.
    pub fn deployment(&self, row: &DeploymentRow) -> Row {
        let replicas: Vec<ReplicaId> =
            self.fleet.replicas_of(&row.id).map(|replica| replica.id).collect();
        let load = self.telemetry.load(self.now, &row.id, replicas.iter().copied());
        Row {
            id: row.id.clone(),
            name: row.spec.name.clone(),
            organization: row.organization.clone(),
            dialect: dialect(row.spec.scaling.dialect),
            model: row.spec.model.name.clone(),
            environment: row.spec.extension.environment.clone(),
            capacity_classes: row.spec.classes.iter().map(|class| class_name(*class)).collect(),
            priority: row.spec.priority.get(),
            desired: row.desired,
            because: row.because.to_string(),
            ready: self.ready(row),
            replicas,
            revision: row.revision,
            created_at: instant(row.created_at),
            updated_at: instant(row.updated_at),
            load: load.map(|load| Load {
                in_flight: load.in_flight,
                queued: load.queued,
                parked: load.parked,
            }),
            spec: spec(row, true),
            status: self.status(row),
        }
    }

    /// The resource as CoreWeave's API shows it: `{"spec":..., "status":...}`.
    pub fn resource(&self, row: &DeploymentRow) -> Value {
        json!({"spec": spec(row, false), "status": self.status(row)})
    }

    fn ready(&self, row: &DeploymentRow) -> u32 {
        let ready = self.fleet.replicas_of(&row.id).filter(|replica| replica.phase.is_ready());
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }

    /// The status block.
    pub fn status(&self, row: &DeploymentRow) -> Value {
        let word = self.status_word(row);
        let ready = self.ready(row);
        let enough = ready >= row.desired;
        let zone = self.zone(row);
        let at = self.changed_at(row);
        let (reason, message) = self.ready_reason(row, ready);
        let comes = |replica: &&ReplicaRow| awaited(self.fleet, replica).is_some();
        let called_back = self.waiting(row).find(comes);
        let waiting = called_back.or_else(|| self.waiting(row).next());
        let progressing = waiting.is_some() || row.deleting.is_some();
        let message_of = |replica: &ReplicaRow| {
            let because = replica.because().unwrap_or_default();
            format!("{} is {}: {because}", replica.id, phase_text(self, replica))
        };
        let mut progress = waiting.map_or_else(|| "nothing is under way".to_owned(), message_of);
        let stopped = row.deleting.is_none() && rollout::is_stopped(self.fleet, row);
        if stopped {
            progress = stopped_because(row);
        }
        let progressing = progressing && !stopped;
        let mut status = json!({
            "status": word,
            "createdAt": instant(row.created_at),
            "updatedAt": instant(row.updated_at),
            "conditions": [
                {
                    "type": "Ready",
                    "status": truth(enough && row.deleting.is_none() && !row.spec.disabled),
                    "reason": reason,
                    "message": message,
                    "zone": zone,
                    "lastUpdateTime": at,
                },
                {
                    "type": "Progressing",
                    "status": truth(progressing),
                    "reason": match (progressing, stopped) {
                        (_, true) => "RolloutStopped",
                        (true, false) if called_back.is_some() => "ReclaimingSpot",
                        (true, false) => "ReplicasStarting",
                        (false, false) => "AsExpected",
                    },
                    "message": progress,
                    "zone": zone,
                    "lastUpdateTime": at,
                },
            ],
        });
        let starved = self.starved(row);
        if starved > 0
            && let Some(conditions) = status["conditions"].as_array_mut()
        {
            let (priority, waits) = (row.spec.priority.get(), counted(starved));
            let message = format!(
                "{waits} while replicas of a priority above {priority} have been placed; it is not \
                 promoted by itself"
            );
            conditions.push(json!({
                "type": "Starved",
                "status": "True",
                "reason": "HigherPriorityPlaced",
                "message": message,
                "zone": zone,
                "lastUpdateTime": at,
            }));
        }
        // Absent while the weights or the GPUs are not known.
        if let Some(memory) = memory::of(self.fleet, &row.spec)
            && let Some(conditions) = status["conditions"].as_array_mut()
        {
            let tight = memory.is_tight();
            conditions.push(json!({
                "type": "MemoryTight",
                "status": truth(tight),
                "reason": if tight { "WeightsTooLarge" } else { "AsExpected" },
                "message": memory.to_string(),
                "zone": zone,
                "lastUpdateTime": at,
            }));
        }
        status
    }

    /// How many of its replicas wait while others of a higher priority were placed.
    fn starved(&self, row: &DeploymentRow) -> u32 {
        let starved = self.starved.get_or_init(|| explain::starved(self.fleet));
        starved.get(&row.id).copied().unwrap_or_default()
    }

    fn ready_reason(&self, row: &DeploymentRow, ready: u32) -> (&'static str, String) {
        let counts = format!("{ready} of {} replicas are ready", row.desired);
        if row.deleting.is_some() {
            ("Deleting", "its replicas are being stopped".to_owned())
        } else if row.spec.disabled {
            ("Disabled", "it is switched off: no replicas, no traffic".to_owned())
        } else if ready >= row.desired {
            ("AsExpected", counts)
        } else if let Some(until) = row.backoff_until.filter(|until| *until > self.now) {
            let wait = Millis(until.since(self.now).0.div_ceil(1000) * 1000);
            let failures = row.failures;
            ("BackingOff", format!("{counts}; {failures} failures in a row, next try in {wait}"))
        } else {
            ("ReplicasNotReady", counts)
        }
    }

    /// The status word. A deployment is being created until the replicas of its making are ready,
    /// and is being updated likewise after a change; what is lost later does not undo that.
    pub fn status_word(&self, row: &DeploymentRow) -> Status {
        if row.deleting.is_some() {
            return Status::Deleting;
        }
        let live: Vec<&ReplicaRow> = self.fleet.replicas_of(&row.id).collect();
        let (mut ready, mut first) = (0, false);
        for replica in &live {
            if replica.phase.is_ready() && replica.revision == row.revision {
                ready += 1;
            }
            let of_the_making = replica.created_at <= row.updated_at + Millis::from_seconds(1);
            first |= of_the_making && is_starting(replica) && !replica.was_ready;
        }
        let making =
            if row.updated_at == row.created_at { Status::Creating } else { Status::Updating };
        let replacing = live
            .iter()
            .any(|replica| replica.revision != row.revision && replica.phase.holds().is_some());
        if row.spec.disabled && live.iter().all(|replica| replica.phase.holds().is_none()) {
            return Status::Ready;
        }
        if ready == 0 && row.failures >= FAILURES_OF_AN_ERROR {
            return Status::Error;
        }
        if replacing {
            return Status::Updating;
        }
        if ready >= row.desired || (ready > 0 && !first) {
            return Status::Ready;
        }
        if first || row.last_start.is_none() { making } else { Status::Updating }
    }

    /// Replicas that are on their way.
    fn waiting<'s>(&'s self, row: &'s DeploymentRow) -> impl Iterator<Item = &'s ReplicaRow> {
        self.fleet.replicas_of(&row.id).filter(|replica| is_starting(replica))
    }

    fn changed_at(&self, row: &DeploymentRow) -> String {
        let of_replicas = self.fleet.replicas_of(&row.id).map(ReplicaRow::since).max();
        instant(of_replicas.unwrap_or(row.updated_at).max(row.updated_at))
    }

    /// The zone, where all of its replicas are in one.
    fn zone(&self, row: &DeploymentRow) -> String {
        let mut zones: Vec<&str> = Vec::new();
        for replica in self.fleet.replicas_of(&row.id) {
            if let Some(node) = replica.node().and_then(|node| self.fleet.node(node))
                && !zones.contains(&node.zone.as_str())
            {
                zones.push(node.zone.as_str());
            }
        }
        match zones.as_slice() {
            [zone] => (*zone).to_owned(),
            _none_or_several => String::new(),
        }
    }
}

fn counted(replicas: u32) -> String {
    if replicas == 1 { "1 replica waits".to_owned() } else { format!("{replicas} replicas wait") }
}

/// Why a rollout has stopped, and the way back.
fn stopped_because(row: &DeploymentRow) -> String {
    let (failures, revision) = (row.failures, row.revision);
    format!(
        "{failures} starts of revision {revision} in a row failed and no more replicas are \
         replaced: those of the settings before go on serving; with these settings again they are \
         kept as they are, with others the rollout begins anew"
    )
}

fn is_starting(replica: &ReplicaRow) -> bool {
    match &replica.phase {
        Phase::Pending { .. } | Phase::Promised { .. } => true,
        Phase::Placed { .. } => !replica.phase.is_ready(),
        Phase::Leaving { .. } | Phase::Stopped { .. } => false,
    }
}

fn phase_text(shown: &Shown<'_>, replica: &ReplicaRow) -> String {
    let word = serde_json::to_value(shown.fleet.phase_word(replica)).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}

fn truth(claim: bool) -> &'static str {
    if claim { "True" } else { "False" }
}

fn dialect(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::CoreWeave => "coreweave",
        Dialect::Baseten => "baseten",
    }
}

/// The spec in the API's words; on our own API in the dialect of its making.
pub fn spec(row: &DeploymentRow, own: bool) -> Value {
    let spec: &Spec = &row.spec;
    let classes: Vec<&str> = spec.classes.iter().map(|class| class_name(*class)).collect();
    let mut autoscaling = match (spec.scaling.dialect, own) {
        (Dialect::Baseten, true) => settings::show(&spec.scaling),
        (Dialect::CoreWeave, _) | (Dialect::Baseten, false) => json!({
            "min": spec.scaling.bounds.min(),
            "max": spec.scaling.bounds.max(),
        }),
    };
    // What nobody asked for is absent: a client that compares would see a change of its own spec.
    let is_coreweave = !(own && spec.scaling.dialect == Dialect::Baseten);
    if is_coreweave && !spec.scaling.concurrency_is_default {
        autoscaling["concurrency"] = json!(spec.scaling.concurrency);
    }
    autoscaling["priority"] = json!(spec.priority.get());
    autoscaling["capacityClasses"] = json!(classes);
    let mut shown = json!({
        "id": row.id,
        "name": spec.name,
        "organizationId": row.organization,
        "gatewayIds": spec.gateways,
        "disabled": spec.disabled,
        "runtime": {
            "engine": spec.runtime.engine,
            "version": spec.runtime.version,
            "engineConfig": spec.runtime.config,
            "engineEnv": spec.runtime.env,
        },
        "resources": {"instanceType": spec.sku, "gpuCount": spec.gpus},
        "model": {
            "name": spec.model.name,
            "bucket": spec.model.bucket,
            "path": spec.model.path,
        },
        "autoscaling": autoscaling,
        "traffic": {"weight": spec.weight},
    });
    if own {
        shown["dialect"] = json!(dialect(spec.scaling.dialect));
    }
    if let Some(block) = extension::show(&spec.extension) {
        shown["wharfage"] = block;
    }
    shown
}
