//! `wharfage claim`: instances that are set aside.

use serde_json::{Value, json};

use super::get::CLAIMS;
use super::{escaped, one_of};
use crate::args::{CapacityType, Claim, Output};
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

const PATH: &str = "/v1alpha1/inference/capacityclaims";

/// Does what was asked for.
pub async fn run(client: &Client, claim: Claim) -> Result<(), Failure> {
    match claim {
        Claim::Create { name, sku, zone, count, capacity_type, organization, dry_run, output } => {
            let kind = match capacity_type {
                CapacityType::Serverless => "CAPACITY_TYPE_SERVERLESS",
                CapacityType::Customer => "CAPACITY_TYPE_CUSTOMER",
            };
            let body = json!({
                "name": name,
                "organizationId": organization.unwrap_or_default(),
                "resources": {
                    "instanceId": sku,
                    "instanceCount": count,
                    "capacityType": kind,
                    "zones": [zone],
                },
            });
            if dry_run {
                let answer = client.post(&format!("{PATH}?dryRun=true"), &body).await?;
                return output::described(&answer, output);
            }
            let answer = client.post(PATH, &body).await?;
            shown(&answer, output)
        }
        Claim::List { output } => {
            output::rows(&client.get(PATH).await?, "capacityClaims", CLAIMS, output)
        }
        Claim::Get { id, output } => {
            let path = path_of(client, &id).await?;
            output::described(&client.get(&path).await?["capacityClaim"], output)
        }
        Claim::Resize { id, count, output } => {
            let path = path_of(client, &id).await?;
            let mut body = client.get(&path).await?["capacityClaim"]["spec"].clone();
            body["resources"]["instanceCount"] = json!(count);
            shown(&client.patch(&path, &body).await?, output)
        }
        Claim::Delete { id, output } => {
            let path = path_of(client, &id).await?;
            shown(&client.delete(&path).await?, output)
        }
    }
}

/// One claim as a table's row, and what its conditions say.
fn shown(answer: &Value, how: Output) -> Result<(), Failure> {
    if how == Output::Json {
        return output::json(answer);
    }
    let claim = &answer["capacityClaim"];
    println!("{}", output::table(std::slice::from_ref(claim), CLAIMS));
    for condition in claim["status"]["conditions"].as_array().into_iter().flatten() {
        println!("{}", output::cell(condition.get("message")));
    }
    if let Some(price) = claim.pointer("/status/wharfage") {
        println!("{}", an_hour(price));
    }
    Ok(())
}

/// What a create adds to the bill of an hour.
fn an_hour(price: &Value) -> String {
    let text = |value: &Value, name| output::cell(value.get(name));
    let Some(sum) = price.get("costPerHour").filter(|sum| !sum.is_null()) else {
        return "what an hour costs is not known: there is no price for this type".to_owned();
    };
    let sum = format!("an hour costs {} {} more", output::cell(Some(sum)), text(price, "currency"));
    let line = |line: &Value| {
        let (instances, rate) = (text(line, "instances"), text(line, "rate"));
        format!("{instances} x {rate} ({})", text(line, "line"))
    };
    let lines = price["costs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<String> = lines.iter().map(line).collect();
    if lines.is_empty() { sum } else { format!("{sum}: {}", lines.join(", ")) }
}

/// The path of a claim, from its id or its name.
async fn path_of(client: &Client, id_or_name: &str) -> Result<String, Failure> {
    let answer = client.get(PATH).await?;
    let id = one_of(&answer["capacityClaims"], "/spec", "claim", id_or_name)?;
    Ok(format!("{PATH}/{}", escaped(&id)))
}
