//! XIDs of one MIG instance: what is only restarted is restarted there alone; what closes a GPU closes
//! all of it.

use wharfage_shared::health::{Asked, Health};
use wharfage_shared::ids::GpuUuid;

use crate::health::Node;

/// Where replicas are to be ended at once.
fn restarted(verdict: &Health) -> Vec<String> {
    let asks = verdict.asks.iter().filter(|ask| ask.what == Asked::RestartReplica);
    asks.filter_map(|ask| ask.gpu.as_ref().map(GpuUuid::to_string)).collect()
}

#[test]
fn a_programs_fault_on_one_instance_restarts_what_runs_on_that_one() {
    let mut node = Node::split();
    let verdict = node.xid_of_parts(13, &[2]).verdict();
    assert_eq!(restarted(&verdict), ["MIG-2"]);
    assert_eq!(verdict.incidents[0].because, "XID 13 on MIG-2: a fault of the program");
    assert_eq!(node.gpus(), [None, None, None], "it closes nothing");
    let verdict = node.xid_of_parts(13, &[1]).verdict();
    assert_eq!(restarted(&verdict), ["MIG-1", "MIG-2"], "the other one has it too");
    assert_eq!(verdict.incidents.len(), 1, "it is the same burst");
}

#[test]
fn a_fault_that_is_heard_of_the_whole_gpu_once_is_the_whole_gpus() {
    for whole_first in [true, false] {
        let mut node = Node::split();
        let (first, second): (&[usize], &[usize]) =
            if whole_first { (&[], &[2]) } else { (&[2], &[]) };
        node.xid_of_parts(31, first).xid_of_parts(31, second);
        assert_eq!(restarted(&node.verdict()), ["MIG-1", "MIG-2"], "whole first: {whole_first}");
    }
    let mut node = Node::split();
    node.xid_of_parts(13, &[2]).xid_of_parts(31, &[]);
    assert_eq!(restarted(&node.verdict()), ["MIG-1", "MIG-2"], "two XIDs, one of the whole GPU");
}

#[test]
fn what_makes_a_gpu_untrustworthy_ends_all_that_runs_on_it() {
    let mut node = Node::split();
    let verdict = node.xid_of_parts(13, &[1]).xid_of_parts(48, &[2]).verdict();
    assert_eq!(restarted(&verdict), ["MIG-1", "MIG-2"]);
    let [first, second, other] = &node.gpus()[..] else { panic!("three slots") };
    assert_eq!((first.is_some(), second.is_some(), other.is_some()), (true, true, false));
    let mut node = Node::split();
    let verdict = node.xid_of_parts(48, &[2]).verdict();
    assert_eq!(restarted(&verdict), ["MIG-1", "MIG-2"], "whichever instance was named");
    let mut node = Node::split();
    let verdict = node.xid_of_parts(13, &[1]).xid_of_parts(62, &[2]).verdict();
    assert_eq!(restarted(&verdict), ["MIG-1"], "a reset moves the others, it does not end them");
    assert!(verdict.asks.iter().any(|ask| ask.what == Asked::Reset));
}

#[test]
fn the_cleanup_that_follows_a_fault_counts_for_nothing_beside_it() {
    let mut node = Node::split();
    node.xid_of_parts(45, &[]);
    assert_eq!(restarted(&node.verdict()), ["MIG-1", "MIG-2"], "alone it counts");
    node.xid_of_parts(13, &[2]);
    assert_eq!(restarted(&node.verdict()), ["MIG-2"]);
}

#[test]
fn an_instance_that_is_no_more_restarts_nothing() {
    let mut node = Node::split();
    node.xid_of_parts(13, &[7]);
    assert_eq!(restarted(&node.verdict()), [] as [&str; 0]);
}
