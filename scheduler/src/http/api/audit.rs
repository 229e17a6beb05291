//! `/api/v1/audit`: who asked for what, from the log itself; and what was refused lately.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};
use wharfage_scheduler_core::words::principal::Role;

use super::facts;
use crate::driver::{Cause, Record};
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::instant;
use crate::http::{Shared, query};

/// Most rows of one answer.
const MOST_ROWS: u64 = 500;

/// Records looked at for one answer: a request must not read the whole log.
const MOST_LOOKED_AT: u64 = 5000;

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/audit", "Who asked for what; newest last.", list)
            .access(Access::Role(Role::Admin))
            .query(&["after", "limit"]),
    ]
}

async fn list(
    State(shared): State<Shared>,
    Who(caller): Who,
    uri: Uri,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let limit = query::whole(&uri, "limit", MOST_ROWS)?.unwrap_or(MOST_ROWS);
    let start = query::whole(&uri, "after", u64::MAX)?;
    let start = start.unwrap_or(view.position().saturating_sub(MOST_LOOKED_AT));
    let (mut after, mut rows) = (start, Vec::new());
    while rows.len() as u64 != limit && after < start.saturating_add(MOST_LOOKED_AT) {
        let page = shared.handle.log().after(after, 500).await;
        let page = page.map_err(|error| Fault::internal(&error))?;
        if page.is_empty() {
            break;
        }
        for stored in page {
            if rows.len() as u64 == limit {
                break;
            }
            after = stored.position;
            let record =
                Record::decode(&stored.payload).map_err(|error| Fault::internal(&error))?;
            let Cause::Command { organization, token, action } = &record.cause else { continue };
            if !caller.sees(organization) {
                continue;
            }
            let shown = facts::record(view.fleet(), &caller, stored.position, stored.at, &record);
            rows.push(json!({
                "position": stored.position,
                "at": instant(stored.at),
                "organization": organization,
                "token": token,
                "action": action,
                "facts": shown.map(|shown| shown["facts"].clone()).unwrap_or(json!([])),
            }));
        }
    }
    let refused = shared.refusals.of(&caller);
    Ok(Json(json!({"audit": rows, "next_after": after, "refused": refused})))
}
