//! P12's likeness: from an accepted deployment to the execution of its engine.

use std::time::Instant;

use serde_json::json;
use wharfage_tests::{Dev, program, until};

use crate::opened::Opened;
use crate::report;

const ROUNDS: usize = 25;

/// One deployment after the other, its weights in the node's cache.
pub async fn measure(dev: &Dev) {
    // The engine of `dev` is a verb of the command line's program.
    let mut engine = Opened::watch(&program("wharfage"));
    let (mut from_asking, mut from_answer) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let model = json!({ "model": { "name": "round", "bucket": "models", "path": "round" } });
        let asked = Instant::now();
        let id = dev.deploy(&format!("round-{round}"), 1, &[], model).await;
        let accepted = Instant::now();
        let executed = engine.first_since(asked).await;
        // The first one fetches the weights.
        if round > 0 {
            from_asking.push(executed.duration_since(asked));
            from_answer.push(executed.saturating_duration_since(accepted));
        }
        dev.ready(&id, 1).await;
        let path = format!("/v1alpha1/inference/deployments/{id}");
        let (status, answer) = dev.call("DELETE", &path, None).await;
        assert_eq!(status, 200, "{answer}");
        until("its slot is free", async || dev.replicas(&id).await.is_empty().then_some(())).await;
    }
    println!("a deployment of one GPU, weights cached, over HTTP, scheduler, agent and guard:");
    report("create accepted -> engine executed", &mut from_answer);
    report("create asked for -> engine executed", &mut from_asking);
}
