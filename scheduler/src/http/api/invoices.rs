//! Invoices: stated as facts, opened line by line, recomputed from the log by `verify`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_billing::invoice::Draft;
use wharfage_scheduler_core::words::command::{Action, money};
use wharfage_scheduler_core::words::event::money::Invoice;
use wharfage_scheduler_core::words::event::{Event, money as facts};
use wharfage_scheduler_core::words::principal::{Caller, Role};
use wharfage_scheduler_core::{Fleet, meter};
use wharfage_shared::ids::OrganizationId;
use wharfage_shared::time::Timestamp;

use super::bodies;
use crate::driver::{Record, View};
use crate::http::body::Write;
use crate::http::fault::{Fault, Reason};
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::instant;
use crate::http::{Parted, Shared, query};

pub fn routes() -> Vec<Route> {
    let billing = Access::Role(Role::Billing);
    vec![
        Route::get("/api/v1/invoices", "Invoices.", list).access(billing),
        Route::post("/api/v1/invoices", "Draft an invoice for a period.", create)
            .access(billing)
            .takes("Period"),
        Route::get("/api/v1/invoices/{id}", "One invoice with its lines.", get).access(billing),
        Route::get("/api/v1/invoices/{id}/verify", "Recompute it from the log.", verify)
            .access(billing),
        Route::post(
            "/api/v1/invoices/{id}/verify",
            "The same, for those who call it work.",
            verify,
        )
        .access(billing),
    ]
}

/// Whose use is asked for: the provider may name anybody, others only themselves.
pub fn asked_organization(caller: &Caller, uri: &Uri) -> Result<OrganizationId, Fault> {
    let Some(name) = query::value(uri, "organization").filter(|name| !name.is_empty()) else {
        return Ok(caller.organization.clone());
    };
    let organization = OrganizationId::from(name.as_str());
    if caller.sees(&organization) {
        return Ok(organization);
    }
    Err(Fault::not_found("organization", &name))
}

/// An organization's draft, from the fleet's proven time.
pub fn draft(
    fleet: &Fleet,
    organization: &OrganizationId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Draft, Fault> {
    if fleet.organization(organization).is_none() {
        return Err(Fault::not_found("organization", organization.as_str()));
    }
    meter::draft(fleet, organization, from, to).map_err(|error| Fault::internal(&error))
}

async fn list(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let visible = view.fleet().invoices().filter(|invoice| caller.sees(&invoice.organization));
    let rows: Vec<Value> = visible.map(|invoice| row(invoice, false)).collect();
    Json(json!({"invoices": rows}))
}

async fn get(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    Ok(Json(row(find(&view, &caller, &id)?, true)))
}

async fn create(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let now = shared.handle.now();
    let period = bodies::read(&write.body, |fields| bodies::period(fields, now))?;
    let organization = period.organization.unwrap_or_else(|| write.caller.organization.clone());
    if !write.caller.sees(&organization) {
        return Err(Fault::not_found("organization", organization.as_str()));
    }
    let id = format!("inv-{}", uuid::Uuid::new_v4().simple());
    let made = id.clone();
    let render = move |fleet: &Fleet, _: &_| {
        (StatusCode::CREATED, json!(fleet.invoice(&made).map(|invoice| row(invoice, true))))
    };
    let action = money::Action::DraftInvoice { id, organization, from: period.from, to: period.to };
    write.carry_out(&shared, Action::Money(action), render).await
}

/// The invoice; its lines are the very bytes that were stated, read as JSON.
fn row(invoice: &Invoice, with_lines: bool) -> Value {
    let body: Value = serde_json::from_str(&invoice.body).unwrap_or_default();
    let mut row = json!({
        "id": invoice.id,
        "organization": invoice.organization,
        "from": instant(invoice.from),
        "to": instant(invoice.to),
        "as_of": instant(invoice.as_of),
        "drafted_at": instant(invoice.drafted_at),
        "status": "draft",
        "rules": invoice.rules,
        "sha256": invoice.sha256,
        "currency": body["currency"],
        "total": body["total"],
    });
    if with_lines {
        for key in ["lines", "accounts", "blocked"] {
            row[key] = body[key].clone();
        }
    }
    row
}

/// Replays the log from its first record up to the one that states the invoice, drafts anew and
/// compares the bytes.
async fn verify(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let invoice = find(&view, &caller, &id)?;
    let Ok(_permit) = shared.replays.try_acquire() else {
        let detail = "others are being verified at this moment: try again in a few seconds";
        return Err(Fault::new(Reason::Busy, detail).retry_after(5));
    };
    let Some(position) = position_of(&shared, &view, &id).await? else {
        return Err(Fault::new(Reason::Internal, format!("no record states invoice `{id}`")));
    };
    // The record that states it was decided on the fleet before it.
    let fleet = shared.handle.fleet_at(position.saturating_sub(1)).await;
    let fleet = fleet.map_err(|error| Fault::internal(&error))?;
    let again = draft(&fleet, &invoice.organization, invoice.from, invoice.to)?;
    let (bytes, sha256) = (again.canonical_json(), again.sha256().to_string());
    let same = bytes == invoice.body && sha256 == invoice.sha256;
    Ok(Json(json!({
        "invoice": id,
        "verified": same,
        "position": position,
        "records_replayed": position.saturating_sub(1),
        "sha256": invoice.sha256,
        "recomputed_sha256": sha256,
        "first_difference": if same { Value::Null } else { difference(&invoice.body, &bytes) },
    })))
}

/// Where the two texts part, with what stands there.
fn difference(stated: &str, recomputed: &str) -> Value {
    let same = stated.bytes().zip(recomputed.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| {
        let bytes = text.as_bytes();
        let (start, end) = (same.saturating_sub(40), (same + 40).min(bytes.len()));
        String::from_utf8_lossy(bytes.get(start..end).unwrap_or_default()).into_owned()
    };
    json!({"byte": same, "stated": around(stated), "recomputed": around(recomputed)})
}

/// The record that states an invoice.
async fn position_of(shared: &Shared, view: &View, id: &str) -> Result<Option<u64>, Fault> {
    let mut after = 0;
    while after < view.position() {
        let page = shared.handle.log().after(after, 1000).await;
        let page = page.map_err(|error| Fault::internal(&error))?;
        let Some(last) = page.last().map(|stored| stored.position) else { break };
        for stored in page.iter().filter(|stored| stored.payload.contains(id)) {
            let record =
                Record::decode(&stored.payload).map_err(|error| Fault::internal(&error))?;
            let states = record.events.iter().any(|event| match event {
                Event::Money(facts::Event::InvoiceDrafted { invoice }) => invoice.id == id,
                _other => false,
            });
            if states {
                return Ok(Some(stored.position));
            }
        }
        after = last;
    }
    Ok(None)
}

fn find<'v>(view: &'v View, caller: &Caller, id: &str) -> Result<&'v Invoice, Fault> {
    let invoice = view.fleet().invoice(id);
    invoice
        .filter(|invoice| caller.sees(&invoice.organization))
        .ok_or_else(|| Fault::not_found("invoice", id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_where_the_texts_part_and_what_stands_there() {
        let stated = r#"{"lines":[{"quantity_ms":3600000}],"total":"49.24"}"#;
        let recomputed = stated.replace("3600000", "3500000");
        let found = difference(stated, &recomputed);
        assert_eq!(found["byte"], 26);
        assert!(found["stated"].as_str().is_some_and(|text| text.contains("3600000")));
        assert!(found["recomputed"].as_str().is_some_and(|text| text.contains("3500000")));
        assert_eq!(difference(stated, &stated[..10])["byte"], 10);
    }
}
