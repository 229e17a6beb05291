//! Step 6: the invoice of the elapsed time, and its proof.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Stage, text};
use crate::dev::ready;
use crate::exit::Failure;
use crate::output::{self, Column};

const LINES: &[Column] = &[
    ("SKU", "/sku"),
    ("LINE", "/line"),
    ("HOURS", "/quantity_hours"),
    ("RATE TYPE", "/rate_type"),
    ("RATE", "/rate"),
    ("AMOUNT", "/amount"),
];

/// A tick comes every 30 s; evidence counts from then on.
const TICK_WITHIN: Duration = Duration::from_secs(60);

/// Drafts, prints, verifies.
pub async fn run(stage: &mut Stage) -> Result<(), Failure> {
    stage.say.step(6, "An invoice draft for the elapsed time, recomputed from the log");
    let waits = Cell::new(false);
    let invoice = ready::until("on-demand and spot lines on the draft", TICK_WITHIN, || async {
        let draft = stage
            .admin
            .post("/api/v1/invoices", &json!({ "organization": stage.up().organization }))
            .await?;
        let none = Vec::new();
        let lines = draft.get("lines").and_then(Value::as_array).unwrap_or(&none);
        let has = |kind: &str| lines.iter().any(|line| text(line, "line") == kind);
        let is_whole = has("on_demand") && has("spot");
        if !is_whole {
            if !waits.replace(true) {
                stage
                    .say
                    .seen("not all of it is in the log yet: what is proven is recorded every 30 s");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(is_whole.then_some(draft))
    })
    .await?;
    let none = Vec::new();
    let lines = invoice.get("lines").and_then(Value::as_array).unwrap_or(&none);
    let id = text(&invoice, "id");
    stage.say.seen(format!("draft {id}, as of {}", text(&invoice, "as_of")));
    stage.say.below(&output::table(lines, LINES));
    stage.say.below(&format!("total {} {}", text(&invoice, "total"), text(&invoice, "currency")));
    let proof = stage.tenant.get(&format!("/api/v1/invoices/{id}/verify")).await?;
    if proof.get("verified").and_then(Value::as_bool) != Some(true) {
        return Err(Failure::check(format!("the draft does not match the log: {proof}")));
    }
    stage.say.seen(format!(
        "verify: the log, replayed, gives the same bytes (sha256 {})",
        text(&proof, "sha256")
    ));
    Ok(())
}
