//! `wharfage brake`: health rules that stopped themselves.

use serde_json::{Value, json};

use super::escaped;
use crate::args::{Brake, Output};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Column};

const PATH: &str = "/api/v1/brakes";

const BRAKES: &[Column] =
    &[("RULE", "/rule"), ("SINCE", "/since"), ("NODES HIT", "/nodes"), ("OF", "/of")];

/// Does what was asked for.
pub async fn run(client: &Client, brake: Brake) -> Result<(), Failure> {
    match brake {
        Brake::List { output } => shown(&client.get(PATH).await?, output),
        Brake::Release { rule, reason, output } => {
            let path = format!("{PATH}/{}/release", escaped(&rule));
            let answer = client.post(&path, &json!({ "reason": reason })).await?;
            if output == Output::Table {
                println!("the brake of {} is released", output::printable(&rule));
            }
            shown(&answer, output)
        }
    }
}

/// The brakes that are on, or that none is.
fn shown(answer: &Value, how: Output) -> Result<(), Failure> {
    let none = answer["brakes"].as_array().is_none_or(Vec::is_empty);
    if none && how == Output::Table {
        println!("no brake is on");
        return Ok(());
    }
    output::rows(answer, "brakes", BRAKES, how)
}
