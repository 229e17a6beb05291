//! The live part of the page: totals, notices, nodes, deployments, replicas, last facts.

use maud::{Markup, html};
use wharfage_billing::timestamp::to_rfc3339;
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_scheduler_core::words::replica::PhaseWord;

use super::{facts, gpus, health, hearing};
use crate::http::Shared;
use crate::http::rows::{Shown, deployment, node, replica};

/// Most nodes drawn at one time: a page, not a census.
const MOST_NODES: usize = 200;

/// Most rows of a table.
const MOST_ROWS: usize = 500;

/// Everything that changes.
pub async fn render(shared: &Shared, caller: &Caller) -> Markup {
    let last = facts::last(shared, caller).await;
    let position = shared.handle.view().position();
    let full = shared.handle.is_disk_full();
    shared.show(caller, |shown| {
        let nodes = shown.nodes();
        let mut replicas = shown.replicas();
        replicas.retain(|row| row.phase != PhaseWord::Stopped);
        let deployments: Vec<deployment::Row> =
            shown.deployments().map(|row| shown.deployment(row)).collect();
        html! {
            @if full {
                p.alarm role="alert" { "The log's disk is full: nothing can be written." }
            }
            (totals(&nodes, &deployments, &replicas))
            (notices(&nodes))
            (health::brakes(&shown.brakes()))
            (node_cards(&nodes))
            (deployment_table(shown, &deployments))
            (replica_table(&replicas))
            (last)
            footer.state {
                "State of " time datetime=(to_rfc3339(shown.now)) { (to_rfc3339(shown.now)) }
                " · position " (position)
            }
        }
    })
}

fn totals(
    nodes: &[node::Row],
    deployments: &[deployment::Row],
    replicas: &[replica::Row],
) -> Markup {
    let connected = nodes.iter().filter(|node| word(&node.reach) == "connected").count();
    let gpus = || nodes.iter().flat_map(|node| &node.gpus);
    let used = gpus().filter(|gpu| gpu.in_use).count();
    let memory: u64 = gpus().filter_map(|gpu| gpu.memory_used_mib).sum();
    let all: u64 = gpus().filter_map(|gpu| gpu.memory_mib).sum();
    let ready = replicas.iter().filter(|row| row.phase == PhaseWord::Ready).count();
    let desired: u32 = deployments.iter().map(|row| row.desired).sum();
    let pending = replicas.iter().filter(|row| row.phase == PhaseWord::Pending).count();
    html! {
        dl.totals {
            div { dt { "Nodes connected" } dd { (connected) small { " of " (nodes.len()) } } }
            div { dt { "GPUs in use" } dd { (used) small { " of " (gpus().count()) } } }
            div {
                dt { "GPU memory" }
                dd { (memory / 1024) small { " of " (all / 1024) " GiB" } }
            }
            div { dt { "Replicas ready" } dd { (ready) small { " of " (desired) " desired" } } }
            div data-warn[pending > 0] { dt { "Pending" } dd { (pending) } }
        }
    }
}

fn notices(nodes: &[node::Row]) -> Markup {
    let noticed: Vec<(&node::Row, &node::Notice)> =
        nodes.iter().filter_map(|node| Some((node, node.notice.as_ref()?))).collect();
    html! {
        @if !noticed.is_empty() {
            section.notices {
                h2 { "Notices" }
                @for (node, notice) in &noticed {
                    div.notice role="status" {
                        b { (node.id) }
                        span {
                            (word(&notice.kind)) ", said by " (word(&notice.source)) ", "
                            @match word(&notice.leaves).as_str() {
                                "replicas" => { "its replicas leave" }
                                _node => { "the node leaves" }
                            }
                        }
                        span.countdown data-until=(notice.gone_at) {
                            (minutes(notice.seconds_left))
                        }
                    }
                }
            }
        }
    }
}

fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn node_cards(nodes: &[node::Row]) -> Markup {
    html! {
        section {
            h2 { "Nodes" span.legend {
                i.memory {} "memory in use" i.busy {} "utilization" i.others {} "free or of others"
            } }
            @if nodes.is_empty() {
                p.note { "No node has joined. Make a join string and start an agent with it." }
            }
            div.cards {
                @for node in nodes.iter().take(MOST_NODES) { (node_card(node)) }
            }
            @if nodes.len() > MOST_NODES {
                p.note { (nodes.len() - MOST_NODES) " more nodes: see /api/v1/nodes" }
            }
        }
    }
}

fn node_card(node: &node::Row) -> Markup {
    html! {
        article.node {
            header {
                h3 { (node.id) }
                span.class data-class=(node.compute_class) { (node.compute_class) }
            }
            p.where { (node.sku) " · " (node.zone) " · " (node.pool) }
            (gpus::bars(node))
            ul.axes {
                li { (badge("reach", &word(&node.reach))) }
                li { (badge("health", node.health)) }
                li { (badge("intent", node.intent)) }
                li { (badge("departure", node.departure)) }
            }
            @if let Some(because) = &node.health_because { p.because { (because) } }
            @if let Some(reason) = &node.intent_reason { p.said { (reason) } }
            @if let Some(trouble) = &node.gpu_trouble { p.because { (trouble) } }
            (health::of_node(node))
            (hearing::of_node(node))
            @if let Some(held) = &node.held_by { p.held { "held by " (held) } }
        }
    }
}

pub(super) fn badge(axis: &str, word: &str) -> Markup {
    let shown = if word == "none" { "stays" } else { word };
    html! { span.badge data-word=(word) title=(format!("{axis}: {word}")) { (shown) } }
}

fn deployment_table(shown: &Shown<'_>, rows: &[deployment::Row]) -> Markup {
    let provider = shown.caller.is_provider();
    html! {
        section {
            h2 { "Deployments" }
            @if rows.is_empty() { p.note { "There are none." } } @else {
                div.scroll {
                    table {
                        thead { tr {
                            th { "Name" }
                            @if provider { th { "Organization" } }
                            th { "Model" } th { "Runs on" } th.n { "Priority" } th.n { "Ready" }
                            th { "Why so many" } th { "Status" } th.n { "In flight" }
                        } }
                        tbody {
                            @for row in rows.iter().take(MOST_ROWS) {
                                tr {
                                    td { b { (row.name) } }
                                    @if provider { td { (row.organization) } }
                                    td { (row.model) }
                                    td { (classes(row)) }
                                    td.n { (row.priority) }
                                    td.n data-warn[row.ready < row.desired] {
                                        (row.ready) " / " (row.desired)
                                    }
                                    td.soft { (row.because) }
                                    td { (status(row)) }
                                    td.n { (load(row)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn classes(row: &deployment::Row) -> String {
    if row.capacity_classes.is_empty() {
        return "on demand".to_owned();
    }
    let words = row.capacity_classes.iter().map(|class| {
        class.trim_start_matches("CAPACITY_CLASS_").replace('_', " ").to_ascii_lowercase()
    });
    words.collect::<Vec<_>>().join(", then ")
}

fn status(row: &deployment::Row) -> Markup {
    let word = row.status["status"].as_str().unwrap_or_default();
    let word = word.trim_start_matches("STATUS_").to_ascii_lowercase();
    html! { (badge("status", &word)) }
}

fn load(row: &deployment::Row) -> String {
    match row.load {
        None => "–".to_owned(),
        Some(load) if load.queued + load.parked > 0 => {
            format!("{} (+{} waiting)", load.in_flight, load.queued + load.parked)
        }
        Some(load) => load.in_flight.to_string(),
    }
}

fn replica_table(rows: &[replica::Row]) -> Markup {
    html! {
        section {
            h2 { "Replicas" }
            @if rows.is_empty() { p.note { "There are none." } } @else {
                div.scroll {
                    table {
                        thead { tr {
                            th { "Replica" } th { "Deployment" } th { "Node" } th.n { "GPUs" }
                            th { "Phase" } th { "Progress" } th { "Since" } th { "Why" }
                        } }
                        tbody {
                            @for row in rows.iter().take(MOST_ROWS) {
                                tr {
                                    td { b { (row.id) } }
                                    td { (row.deployment_name.as_deref().unwrap_or("(deleted)")) }
                                    td.tight { (row.node.as_ref().map_or("–", |node| node.as_str())) }
                                    td.n { (row.gpus.len()) }
                                    td { (badge("phase", &word(&row.phase))) }
                                    td { (progress(row)) }
                                    td { time datetime=(row.since) {
                                        (row.since.get(11..19).unwrap_or(&row.since))
                                    } }
                                    td.soft { (row.because.as_deref().unwrap_or("")) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn progress(row: &replica::Row) -> Markup {
    let Some(share) = row.progress else {
        return html! { @if let Some(deadline) = &row.deadline {
            span.countdown data-until=(deadline) {
                "until " (deadline.get(11..19).unwrap_or(deadline))
            }
        } };
    };
    let percent = (share * 100.0).round();
    html! {
        span.share {
            svg.progress viewBox="0 0 100 6" width="100" height="6" role="img"
                aria-label=(format!("{percent} %")) {
                rect.room width="100" height="6" rx="3" {}
                rect.done width=(percent) height="6" rx="3" {}
            }
            span.soft { (percent) " %" }
        }
    }
}

/// The word of an enum as rows show it.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
