//! Drills beyond their budget, under a real notice, and over without being over.

use std::collections::BTreeMap;

use wharfage_scheduler_core::words::drill::Outcome;
use wharfage_scheduler_core::words::event::drill::Event as Drills;

use super::*;
use crate::stories::drills::drill;

fn created(nodes: &[&str], at: Timestamp) -> Event {
    let drill = drill(wharfage_scheduler_core::words::drill::Scope::Pool("standard".into()));
    let nodes = nodes.iter().map(|node| NodeId::from(*node)).collect();
    Event::Drill(Drills::Created { drill, nodes, at })
}

fn begun(node: &str, at: Timestamp) -> Event {
    Event::Drill(Drills::Begun {
        drill: "d-1".into(),
        node: node.into(),
        notice: NoticeId::from("drill-d-1"),
        stood: Vec::new(),
        ready: BTreeMap::new(),
        held: 0,
        at,
        gone_at: at + Millis::from_seconds(60),
    })
}

fn noticed(node: &str, id: &str, at: Timestamp) -> Event {
    let notice = NoticeFact {
        id: id.into(),
        kind: NoticeKind::Preempt,
        source: NoticeSource::Drill,
        leaves: Leaves::Replicas,
        heard_at: at,
        drain_at: at + Millis::from_seconds(60),
        gone_at: at + Millis::from_seconds(60),
    };
    Event::Node(Nodes::Noticed { node: node.into(), notice })
}

#[test]
fn two_nodes_are_drilled_at_once_where_one_may_be() {
    let found = after(|_, at| {
        vec![created(&["node-1", "node-2"], at), begun("node-1", at), begun("node-2", at)]
    });
    finds(&found, "drills", "on 2 nodes at once, 1 may be");
}

#[test]
fn a_node_with_a_real_notice_is_drilled() {
    let found = after(|_, at| {
        vec![created(&["node-1"], at), begun("node-1", at), noticed("node-1", "file-1", at)]
    });
    finds(&found, "drills", "node-1 is drilled under a real notice");
}

#[test]
fn a_drill_ends_and_leaves_its_notice_in_force() {
    let found = after(|_, at| {
        let (drill, node, outcome) = ("d-1".into(), "node-1".into(), Outcome::Completed);
        let ended = Event::Drill(Drills::Ended { drill, node, outcome, at });
        let noticed = noticed("node-1", "drill-d-1", at);
        vec![created(&["node-1"], at), begun("node-1", at), noticed, ended]
    });
    finds(&found, "drills", "the drill on node-1 is over, its notice is not");
}

#[test]
fn a_drill_is_finished_before_its_nodes_are() {
    let found = after(|_, at| {
        let finished = Event::Drill(Drills::Finished { drill: "d-1".into(), at });
        vec![created(&["node-1"], at), begun("node-1", at), finished]
    });
    finds(&found, "drills", "finished and a node of it is not");
}

#[test]
fn a_drill_begins_on_a_closed_node() {
    let found = after(|_, at| {
        let intent = Intent::Cordoned { reason: "a look".to_owned() };
        let closed = Event::Node(Nodes::IntentChanged { node: "node-1".into(), intent, at });
        vec![closed, created(&["node-1"], at), begun("node-1", at)]
    });
    finds(&found, "drills", "begins on node-1, which is closed");
}
