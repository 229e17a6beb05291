//! `wharfage usage`.

use super::escaped;
use crate::args::Output;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Column};

const LINES: &[Column] = &[
    ("ORGANIZATION", "/organization"),
    ("REGION", "/region"),
    ("SKU", "/sku"),
    ("LINE", "/line"),
    ("HOURS", "/quantity_hours"),
    ("RATE", "/rate"),
    ("AMOUNT", "/amount"),
];

/// Asks and prints.
pub async fn run(
    client: &Client,
    from: Option<String>,
    to: Option<String>,
    organization: Option<String>,
    how: Output,
) -> Result<(), Failure> {
    let given = [("from", from), ("to", to), ("organization", organization)];
    let query: Vec<String> = given
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", escaped(&value?))))
        .collect();
    let answer = client.get(&format!("/api/v1/usage?{}", query.join("&"))).await?;
    output::rows(&answer, "usage", LINES, how)
}
