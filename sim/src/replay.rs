//! A trace's whole-GPU pods on a trace's nodes: how many of the GPUs each policy can give away.
//!
//! The protocol of the FGD paper (USENIX ATC 2023): the pods are shuffled and drawn again until the
//! demand is 130 % of the GPUs; they only arrive. A node's GPU model is its type, a pod that names
//! several models takes the best seat of all. CPU and memory are not looked at: instances are sold
//! by their GPUs.

use std::collections::BTreeMap;

use serde::Serialize;
use wharfage_shared::capacity::Sku;

use crate::rng::Rng;
use crate::shelf::{Choice, Shelf};
use crate::table::{BadTrace, Table};

/// The demand at which a run ends, in percent of the GPUs.
const DEMAND_PERCENT: u32 = 130;
/// A whole GPU in a trace's thousandths.
const WHOLE: u64 = 1000;

/// Nodes with their types, pods with theirs.
#[derive(Clone, Debug)]
pub struct Trace {
    nodes: Vec<(Sku, u8)>,
    pods: Vec<Pod>,
}

#[derive(Clone, Debug)]
struct Pod {
    gpus: u8,
    types: Vec<Sku>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// How a seat was chosen.
    pub policy: Choice,
    /// Nodes with GPUs.
    pub nodes: usize,
    /// Their GPUs.
    pub gpus: u32,
    /// Whole-GPU pods of the trace.
    pub pods: usize,
    /// Runs.
    pub seeds: u64,
    /// Demand in percent of the GPUs, and what was given away at it.
    pub at: Vec<Allocated>,
}

/// GPUs in use at a demand, in percent of all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Allocated {
    /// Percent of the GPUs that were asked for.
    pub demand_percent: u32,
    /// The median of the runs.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Trace {
    /// Reads both files' texts; `files` are their names for people.
    pub fn read(files: [&str; 2], nodes: &str, pods: &str) -> Result<Self, BadTrace> {
        let [nodes_file, pods_file] = files;
        let mut found = Vec::new();
        for row in Table::new(nodes_file, nodes, &["node_id", "gpu_count", "gpu_model"])? {
            let gpus = row.number(1, 255)?;
            if gpus > 0 {
                found.push((sku(row.text(2)), gpus as u8));
            }
        }
        let all: BTreeMap<&Sku, ()> = found.iter().map(|(sku, _)| (sku, ())).collect();
        let mut waiting = Vec::new();
        let columns = ["pod_id", "num_gpu", "gpu_milli", "gpu_spec"];
        for row in Table::new(pods_file, pods, &columns)? {
            let (gpus, milli) = (row.number(1, 255)?, row.number(2, WHOLE)?);
            if gpus == 0 || milli < WHOLE {
                continue;
            }
            let types = match row.text(3) {
                "" => all.keys().map(|sku| (*sku).clone()).collect(),
                spec => spec.split('|').map(sku).collect(),
            };
            waiting.push(Pod { gpus: gpus as u8, types });
        }
        let empty = |file: &str, what: &str| BadTrace::Empty {
            file: file.to_owned(),
            what: what.to_owned(),
        };
        if found.is_empty() {
            return Err(empty(nodes_file, "no node has a GPU"));
        }
        if waiting.is_empty() {
            return Err(empty(pods_file, "no pod asks for whole GPUs"));
        }
        Ok(Self { nodes: found, pods: waiting })
    }

    /// Places the pods, seed by seed.
    pub fn run(&self, choice: Choice, seeds: u64) -> Outcome {
        let demands = [100, DEMAND_PERCENT];
        let mut shares: Vec<Vec<f64>> = vec![Vec::new(); demands.len()];
        let mut gpus = 0;
        for seed in 1..=seeds {
            let mut shelf = Shelf::new(&self.nodes, choice, seed);
            let mut rng = Rng::new(seed);
            gpus = shelf.gpus;
            let mut asked = 0;
            for (at, percent) in demands.iter().enumerate() {
                while asked * 100 < gpus * percent {
                    let Some(pod) = rng.pick(&self.pods) else { break };
                    asked += u32::from(pod.gpus);
                    shelf.ask(pod.gpus, &pod.types, 0);
                }
                let given = f64::from(gpus - shelf.free) / f64::from(gpus);
                shares[at].push(given * 100.0);
            }
        }
        let at = demands.iter().zip(&mut shares).map(|(percent, shares)| {
            shares.sort_by(f64::total_cmp);
            let (last, middle) = (shares.len().saturating_sub(1), shares.len() / 2);
            let of = |at: usize| shares.get(at).copied().unwrap_or_default();
            Allocated { demand_percent: *percent, median: of(middle), least: of(0), most: of(last) }
        });
        let (nodes, pods) = (self.nodes.len(), self.pods.len());
        Outcome { policy: choice, nodes, gpus, pods, seeds, at: at.collect() }
    }
}

fn sku(model: &str) -> Sku {
    Sku::new(if model.is_empty() { "any" } else { model })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "node_id,cpu_milli,memory_mib,gpu_count,gpu_model\n\
                         n1,1,1,8,A\nn2,1,1,8,B\nn3,1,1,0,\n";
    const PODS: &str = "pod_id,num_gpu,gpu_milli,gpu_spec\n\
                        p1,8,1000,\np2,4,1000,A|B\np3,1,460,\np4,0,0,\n";

    #[test]
    fn whole_gpu_pods_are_placed_on_the_models_that_they_name() {
        let trace = Trace::read(["nodes.csv", "pods.csv"], NODES, PODS).expect("a good trace");
        let outcome = trace.run(Choice::BestFit, 3);
        assert_eq!((outcome.nodes, outcome.gpus, outcome.pods), (2, 16, 2));
        let full = outcome.at.last().expect("the last demand");
        assert_eq!((full.demand_percent, full.most), (130, 100.0));
    }

    #[test]
    fn a_bad_trace_is_refused_with_file_line_and_field() {
        let cases = [
            (NODES.replace("gpu_count", "gpus"), PODS.to_owned(), "nodes.csv: line 1: there is no"),
            (NODES.replace(",8,A", ",eight,A"), PODS.to_owned(), "nodes.csv: line 2: gpu_count is"),
            (
                NODES.to_owned(),
                PODS.replace("8,1000,\n", "8,1001,\n"),
                "pods.csv: line 2: gpu_milli",
            ),
            (NODES.to_owned(), "pod_id,num_gpu,gpu_milli,gpu_spec\n".to_owned(), "no pod asks"),
            (String::new(), PODS.to_owned(), "nodes.csv: line 1"),
        ];
        for (nodes, pods, words) in cases {
            let error = Trace::read(["nodes.csv", "pods.csv"], &nodes, &pods).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
