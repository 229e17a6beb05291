//! Every XID that NVIDIA's catalogue gives an action, and what becomes of it on a node: the table is
//! the catalogue's, so that a row that is lost from the policy is noticed.

use proptest::prelude::*;
use wharfage_agent_core::health::XidSource;
use wharfage_agent_core::health::policy::named_action;
use wharfage_shared::health::{Action, Asked, NodeHealth};

use crate::health::{Node, policy};

/// What one XID alone does to a node of two GPUs.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    action: Action,
    /// Nothing new goes to its GPU.
    closes_gpu: bool,
    /// Nothing new goes to the node.
    closes_node: bool,
    asks: Vec<Asked>,
}

impl Outcome {
    fn of(xid: u32) -> Self {
        let mut node = Node::qualified();
        node.xid(xid, 0);
        let verdict = node.verdict();
        let incident = verdict.incidents.first().expect("an incident");
        assert_eq!(incident.xids, [xid]);
        let [first, second] = &node.gpus()[..] else { panic!("two GPUs") };
        let closes_node = matches!(verdict.node, NodeHealth::Unfit(_));
        assert_eq!(second.is_some(), closes_node, "XID {xid}: the other GPU is as the node is");
        Self {
            action: incident.action,
            closes_gpu: first.is_some(),
            closes_node,
            asks: node.asks(),
        }
    }
}

/// The catalogue's rows: the XIDs, what becomes of one, what it closes, what it asks for.
#[rustfmt::skip]
const TABLE: [(&[u32], Action, Closes, &[Asked]); 12] = [
    // The program's own fault.
    (&[13, 31, 11, 32, 39, 40, 41, 69, 94], Action::RestartReplica, Closes::Nothing, &[Asked::RestartReplica]),
    // Notices of the driver.
    (&[43, 44, 92, 141], Action::Record, Closes::Nothing, &[]),
    (&[63, 121], Action::ResetWhenIdle, Closes::Nothing, &[Asked::Reset]),
    // Alone it has a cause of its own.
    (&[45], Action::RestartReplica, Closes::Nothing, &[Asked::RestartReplica]),
    (&[46, 62, 109, 110, 136, 143, 155, 156, 158], Action::Reset, Closes::Gpu, &[Asked::Drain, Asked::Reset]),
    // What runs there is not to be trusted.
    (&[48, 95, 119, 120, 140], Action::Reset, Closes::Gpu, &[Asked::RestartReplica, Asked::Drain, Asked::Reset]),
    (&[64], Action::Replace, Closes::Gpu, &[Asked::Drain, Asked::Replace]),
    // Only what spans GPUs must leave; nothing new comes.
    (&[74, 144, 145, 146, 147, 148, 149, 150], Action::Drain, Closes::Node, &[Asked::Drain]),
    (&[79], Action::Reboot, Closes::Node, &[Asked::Drain, Asked::Reboot]),
    // Somebody must look at the machine.
    (&[54, 78, 151], Action::CordonGpu, Closes::Node, &[]),
    // The driver's message did not name an action.
    (&[154], Action::CordonGpu, Closes::Gpu, &[]),
    (&[157, 160, 161, 162, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172], Action::Record, Closes::Nothing, &[]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closes {
    Nothing,
    Gpu,
    Node,
}

#[test]
fn every_row_of_the_catalogue_has_the_outcome_that_it_says() {
    for (xids, action, closes, asks) in TABLE {
        for xid in xids {
            let expected = Outcome {
                action,
                closes_gpu: closes != Closes::Nothing,
                closes_node: closes == Closes::Node,
                asks: asks.to_vec(),
            };
            assert_eq!(Outcome::of(*xid), expected, "XID {xid}");
        }
    }
}

#[test]
fn the_policy_lists_what_the_catalogue_lists_and_nothing_else() {
    let policy = policy();
    let listed = |xid: &u32| policy.rule(*xid).xids.contains(xid);
    let mut expected: Vec<u32> = TABLE.iter().flat_map(|row| row.0).copied().collect();
    expected.sort_unstable();
    let all: Vec<u32> = (0..100_000).filter(listed).collect();
    assert_eq!(all, expected);
    for unknown in [0, 1, 99, 173, 9_999] {
        let outcome = Outcome::of(unknown);
        assert_eq!((outcome.action, outcome.closes_gpu), (Action::CordonGpu, true), "{unknown}");
        assert_eq!(outcome.asks, [], "what runs there stays until somebody has looked");
    }
}

#[test]
fn what_comes_together_has_the_worst_outcome_whatever_came_first() {
    for (burst, expected) in [
        (&[48, 63][..], Action::Reset),
        (&[48, 64], Action::Replace),
        (&[45, 43], Action::Record),
        (&[45, 79], Action::Reboot),
        (&[13, 62, 154], Action::Reset),
    ] {
        for turned in [false, true] {
            let mut node = Node::qualified();
            let mut order = burst.to_vec();
            if turned {
                order.reverse();
            }
            for xid in order {
                node.xid(xid, 0);
            }
            let incidents = node.verdict().incidents;
            assert_eq!(incidents.len(), 1, "{burst:?}");
            assert_eq!(incidents[0].action, expected, "{burst:?}, turned {turned}");
        }
    }
}

#[test]
fn the_action_that_the_driver_names_counts_and_never_makes_it_milder() {
    let says = |text: &str, before: Option<u32>| {
        let mut node = Node::qualified();
        before.into_iter().for_each(|xid| node.xid(xid, 0));
        node.xid_says(154, 0, XidSource::Kmsg, text);
        node.verdict().incidents[0].action
    };
    let changed = |to: &str| format!("154, GPU recovery action changed from 0x0 (None) to {to}");
    assert_eq!(says(&changed("0x1 (GPU Reset Required)"), None), Action::Reset);
    assert_eq!(says(&changed("0x1 (PF FLR)"), None), Action::Reset);
    assert_eq!(says(&changed("0x4 (Drain and Reset)"), None), Action::Reset);
    assert_eq!(says(&changed("0x2 (Node Reboot Required)"), None), Action::Reboot);
    assert_eq!(says(&changed("0x2 (OS Reboot)"), None), Action::Reboot);
    assert_eq!(says(&changed("0x3 (Drain P2P)"), None), Action::Drain);
    assert_eq!(says(&changed("0x0 (None)"), Some(79)), Action::Reboot);
}

#[test]
fn a_reboot_that_the_driver_names_is_everybodys_on_the_node() {
    let mut node = Node::qualified();
    let says = "154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)";
    node.xid_says(154, 0, XidSource::Kmsg, says);
    let verdict = node.verdict();
    let NodeHealth::Unfit(unfit) = &verdict.node else { panic!("the node is closed: {verdict:?}") };
    assert_eq!(unfit.rule, "XID 154");
    let asks: Vec<_> = verdict.asks.iter().map(|ask| (ask.what, ask.gpu.as_ref())).collect();
    assert_eq!(asks, [(Asked::Drain, None), (Asked::Reboot, None)], "all of it is drained first");
    let mut node = Node::qualified();
    let says = "154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)";
    node.xid_says(154, 0, XidSource::Kmsg, says);
    assert_eq!(node.verdict().node, NodeHealth::Fit, "a reset is its GPU's own");
    assert_eq!((node.gpus()[0].is_some(), node.gpus()[1].is_some()), (true, false));
    assert!(node.verdict().asks.iter().all(|ask| ask.gpu.is_some()));
}

#[test]
fn corrected_errors_twice_within_a_day_close_the_gpu_and_twice_within_two_do_not() {
    let second = |hours: u64| {
        let mut node = Node::qualified();
        node.xid(92, 0);
        node.later(hours * 3600).xid(92, 0);
        let verdict = node.verdict();
        let last = verdict.incidents.last().expect("an incident").clone();
        (last.action, node.gpus()[0].is_some(), verdict.node == NodeHealth::Fit)
    };
    assert_eq!(second(24), (Action::CordonGpu, true, true));
    assert_eq!(second(25), (Action::Record, false, true));
    let mut node = Node::qualified();
    node.xid(92, 0);
    node.later(3600).xid(92, 1);
    assert_eq!(node.gpus(), [None, None], "on two GPUs it came once each");
}

proptest! {
    #[test]
    fn no_words_of_the_driver_name_an_action_that_they_do_not_contain(
        text in "(reboot|reset|drain|p2p|none|flr| to |[ -~é]{0,6}){0,8}",
    ) {
        let known = ["reboot", "reset", "flr", "drain p2p", "none"];
        let named = known.iter().any(|word| text.contains(word));
        prop_assert!(named || named_action(&text).is_none(), "{}", text);
        prop_assert_eq!(named_action(&text.to_uppercase()), named_action(&text.to_lowercase()));
    }
}
