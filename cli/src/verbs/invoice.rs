//! `wharfage invoice`: drafts, and their proof.

use serde_json::{Map, Value};

use super::escaped;
use crate::args::{Invoice, Output};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Column};

const LINES: &[Column] = &[
    ("SKU", "/sku"),
    ("REGION", "/region"),
    ("LINE", "/line"),
    ("CONTRACT", "/contract"),
    ("HOURS", "/quantity_hours"),
    ("RATE TYPE", "/rate_type"),
    ("RATE", "/rate"),
    ("AMOUNT", "/amount"),
];

/// Does what was asked for.
pub async fn run(client: &Client, invoice: Invoice) -> Result<(), Failure> {
    match invoice {
        Invoice::Draft { organization, from, to, output } => {
            let given = [("organization", organization), ("from", from), ("to", to)];
            let body: Map<String, Value> = given
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?))))
                .collect();
            let answer = client.post("/api/v1/invoices", &Value::Object(body)).await?;
            print(&answer, output)
        }
        Invoice::Get { id, output } => {
            print(&client.get(&format!("/api/v1/invoices/{}", escaped(&id))).await?, output)
        }
        Invoice::Verify { id, output } => {
            let path = format!("/api/v1/invoices/{}/verify", escaped(&id));
            verified(&client.get(&path).await?, &id, output)
        }
    }
}

fn print(invoice: &Value, how: Output) -> Result<(), Failure> {
    if how == Output::Json {
        return output::json(invoice);
    }
    let text = |key: &str| output::cell(invoice.get(key));
    println!(
        "{} ({}) for {}, {} to {}",
        text("id"),
        text("status"),
        text("organization"),
        text("from"),
        text("to")
    );
    let none = Vec::new();
    let lines = invoice.get("lines").and_then(Value::as_array).unwrap_or(&none);
    println!("{}", output::table(lines, LINES));
    println!("total {} {}", text("total"), text("currency"));
    Ok(())
}

fn verified(answer: &Value, id: &str, how: Output) -> Result<(), Failure> {
    if how == Output::Json {
        output::json(answer)?;
    }
    let same = answer.get("verified").and_then(Value::as_bool) == Some(true);
    if same {
        if how == Output::Table {
            println!(
                "{id}: recomputed from the log to the same bytes ({})",
                output::cell(answer.get("sha256"))
            );
        }
        return Ok(());
    }
    let difference = output::cell(answer.get("first_difference"));
    Err(Failure::check(format!("{id} does not match the log: {difference}")))
}
