//! What an hour costs more, as dry runs and answers to creates say it.

use serde_json::{Map, Value, json};
use wharfage_billing::money::MicroRate;
use wharfage_scheduler_core::{Cost, Fleet};
use wharfage_shared::ids::OrganizationId;

/// The fields that say it; `whose` where no instance is added that would name who pays.
pub fn fields(fleet: &Fleet, whose: &OrganizationId, cost: Option<&Cost>) -> Map<String, Value> {
    let micros = cost.map(|cost| cost.micros);
    let rate = micros.and_then(MicroRate::from_micros).map(|rate| rate.to_string());
    let lines = cost.map(|cost| cost.lines.as_slice()).unwrap_or_default();
    // What belongs to several organizations is the provider's to add up.
    let payer = lines.first().map_or(whose, |line| &line.organization);
    let fields = json!({
        "costPerHour": rate,
        "costPerHourMicros": micros,
        "currency": fleet.organization(payer).map(|row| &row.currency),
        "costs": lines,
        "tenancy": "dedicated",
        "billing": "node-hours: a node serves one organization at a time and is billed whole \
                    while it is active",
    });
    match fields {
        Value::Object(fields) => fields,
        _other => Map::new(),
    }
}
