//! The questions that everybody asks of drills.

use wharfage_shared::drill::Drill as Order;
use wharfage_shared::ids::{DrillId, NodeId, NoticeId};
use wharfage_shared::notice::Leaves;

use super::Fleet;
use super::rows::drill::{Begun, Course, DrillRow, ScheduleRow};
use crate::words::drill::Outcome;

impl Fleet {
    /// Drills in the order of their ids, ended ones included.
    pub fn drills(&self) -> impl Iterator<Item = &DrillRow> {
        self.drills.values().map(|row| &**row)
    }

    /// One drill.
    pub fn drill(&self, id: &DrillId) -> Option<&DrillRow> {
        self.drills.get(id).map(|row| &**row)
    }

    /// Drills that are not finished.
    pub fn active_drills(&self) -> impl Iterator<Item = &DrillRow> {
        self.active_drills.iter().filter_map(|id| self.drill(id))
    }

    /// Schedules in the order of their ids, ended ones included.
    pub fn schedules(&self) -> impl Iterator<Item = &ScheduleRow> {
        self.schedules.values().map(|row| &**row)
    }

    /// One schedule.
    pub fn schedule(&self, id: &DrillId) -> Option<&ScheduleRow> {
        self.schedules.get(id).map(|row| &**row)
    }

    /// The drill under way on a node: told to leave, or not told so any more and not open yet.
    pub fn drill_on(&self, node: &NodeId) -> Option<(&DrillRow, &Begun)> {
        let on = self.active_drills().filter_map(|row| Some((row, row.runs.get(node)?)));
        on.filter(|(_, run)| run.is_on()).find_map(|(row, run)| Some((row, run.begun()?)))
    }

    /// Whether a notice is that of a drill which is over on the node: its agent may still report it.
    pub fn is_past_drill(&self, node: &NodeId, notice: &NoticeId) -> bool {
        let begun = self.drills().filter_map(|row| row.runs.get(node)?.begun());
        let mut ended = begun.filter(|begun| matches!(begun.course, Course::Ended { .. }));
        ended.any(|begun| begun.notice == *notice)
    }

    /// Whether a notice is that of a drill which was given up on the node and is in force still.
    pub fn is_given_up(&self, node: &NodeId, notice: &NoticeId) -> bool {
        self.drill_on(node).is_some_and(|(_, begun)| {
            begun.notice == *notice
                && matches!(begun.course, Course::Withdrawn { outcome: Outcome::Aborted, .. })
        })
    }

    /// The drill in the desired state of a node. What ends are the replicas: the node stays.
    pub(super) fn drill_order(&self, node: &NodeId) -> Option<Order> {
        let (_, begun) = self.drill_on(node).filter(|(_, begun)| begun.is_running())?;
        let (id, gone_at) = (begun.notice.clone(), begun.gone_at);
        Some(Order { id, leaves: Leaves::Replicas, gone_at })
    }
}
