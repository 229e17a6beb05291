//! A replica's row: where it is, how far, and why.

use serde::Serialize;
use wharfage_scheduler_core::capacity::lending::awaited;
use wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;
use wharfage_scheduler_core::words::replica::{Phase, PhaseWord, Seat};
use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::ids::{DeploymentId, GpuUuid, HookId, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::replica::{Ended, HookKind, HookOutcome, ReportedPhase};

use super::{Shown, instant};

/// The row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its id.
    pub id: ReplicaId,
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// That deployment's name; absent once it is gone.
    pub deployment_name: Option<String>,
    /// Whose.
    pub organization: OrganizationId,
    /// Where; null while it is pending.
    pub node: Option<NodeId>,
    /// Its GPUs, on all of its nodes.
    pub gpus: Vec<GpuUuid>,
    /// What stands where, by rank, if it stands on several nodes; the first serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// The word for where it is in its life.
    pub phase: PhaseWord,
    /// Since when.
    pub since: String,
    /// How far the phase has come, 0 to 1; null where it has no measure.
    pub progress: Option<f64>,
    /// When it should be ready; null when it is, or nobody knows.
    pub expected_ready_at: Option<String>,
    /// By when there is room for it, where spot is called back for it.
    pub room_by: Option<String>,
    /// Why it is where it is.
    pub because: Option<String>,
    /// On what ground it stands there.
    pub capacity_class: Option<CapacityClass>,
    /// Which of the deployment's settings it runs.
    pub revision: u32,
    /// The engine's version.
    pub engine_version: Option<String>,
    /// When it was first wanted.
    pub created_at: String,
    /// Until when it may go on, once it leaves.
    pub deadline: Option<String>,
    /// Requests at it now, as gateways say.
    pub in_flight: u64,
    /// Hooks that ran or run.
    pub hooks: Vec<Hook>,
    /// How its engine ended.
    pub ended: Option<Ended>,
}

/// One member of a replica that stands on several nodes.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// Its rank.
    pub rank: usize,
    /// Its node.
    pub node: NodeId,
    /// Its GPUs.
    pub gpus: Vec<GpuUuid>,
    /// Where its host says that it is; null before it was heard of and after its end.
    pub phase: Option<ReportedPhase>,
}

/// One run of one hook.
#[derive(Clone, Debug, Serialize)]
pub struct Hook {
    /// The local id.
    pub hook: HookId,
    /// Which hook.
    pub kind: HookKind,
    /// How it stands.
    pub outcome: HookOutcome,
    /// What it said last.
    pub detail: Option<String>,
}

impl Shown<'_> {
    /// Every replica that the caller may see, in the order of ids.
    pub fn replicas(&self) -> Vec<Row> {
        let visible = self.fleet.replicas().filter(|row| self.caller.sees(&row.organization));
        visible.map(|row| self.replica(row)).collect()
    }

    /// One replica's row.
    pub fn replica(&self, row: &ReplicaRow) -> Row {
        let told = row.node().and_then(|node| self.telemetry.node(node));
        let report = told.as_ref().and_then(|told| told.replica(row.id));
        let phase = self.fleet.phase_word(row);
        let starting =
            matches!(phase, PhaseWord::Fetching | PhaseWord::Loading | PhaseWord::Warming);
        let is_over = matches!(row.phase, Phase::Stopped { .. });
        let report = report.filter(|_| !is_over);
        let permille = report.and_then(|report| report.progress_permille);
        let expected = told.as_ref().and_then(|told| told.expected_ready_at(row.id));
        let seat = row.phase.seat();
        let members = |seat: &Seat| {
            let member = |(rank, (node, gpus)): (usize, (&NodeId, &[GpuUuid]))| Member {
                rank,
                node: node.clone(),
                gpus: gpus.to_vec(),
                phase: row.seen_on(node).filter(|_| !is_over),
            };
            seat.members().enumerate().map(member).collect()
        };
        let hooks = report.map(|report| report.hooks.as_slice()).unwrap_or_default();
        Row {
            id: row.id,
            deployment: row.deployment.clone(),
            deployment_name: self
                .fleet
                .deployment(&row.deployment)
                .map(|deployment| deployment.spec.name.clone()),
            organization: row.organization.clone(),
            node: row.node().cloned(),
            gpus: seat
                .into_iter()
                .flat_map(Seat::members)
                .flat_map(|(_, gpus)| gpus)
                .cloned()
                .collect(),
            members: seat.filter(|seat| seat.is_gang()).map_or_else(Vec::new, members),
            phase,
            since: instant(row.since()),
            progress: permille.filter(|_| starting).map(|permille| f64::from(permille) / 1000.0),
            expected_ready_at: expected.filter(|_| starting).map(instant),
            room_by: awaited(self.fleet, row)
                .and_then(|node| node.reclaim())
                .map(|notice| instant(notice.gone_at)),
            because: row.because(),
            capacity_class: row.placement.as_ref().map(|placement| placement.class),
            revision: row.revision,
            engine_version: Some(row.engine_version.to_string())
                .filter(|version| !version.is_empty()),
            created_at: instant(row.created_at),
            deadline: row.phase.leaving().map(|leaving| instant(leaving.deadline)),
            in_flight: self.telemetry.in_flight(self.now, row.id),
            hooks: hooks
                .iter()
                .map(|hook| Hook {
                    hook: hook.hook.clone(),
                    kind: hook.kind,
                    outcome: hook.outcome,
                    detail: hook.detail.clone(),
                })
                .collect(),
            ended: row.ended.clone(),
        }
    }
}
