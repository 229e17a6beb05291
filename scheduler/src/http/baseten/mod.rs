//! Baseten's API: `PATCH .../autoscaling_settings` on development, production and id.

pub mod errors;
pub mod settings;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use wharfage_scheduler_core::fleet::environments;
use wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow;
use wharfage_scheduler_core::words::command::{Action, Answer, deployments};
use wharfage_scheduler_core::words::principal::{Caller, Role};

use super::body::Write;
use super::fault::Fault;
use super::route::{Access, Route};
use super::{Parted, Shared};
use crate::driver::View;

/// Every route of the API.
pub fn routes() -> Vec<Route> {
    let path = "/v1/models/{model}/deployments/{deployment}/autoscaling_settings";
    vec![
        Route::patch(path, "Change a deployment's autoscaling settings.", patch)
            .access(Access::Role(Role::Operator))
            .takes("AutoscalingSettings")
            .query(&["dryRun"]),
    ]
}

async fn patch(
    State(shared): State<Shared>,
    Parted((model, deployment)): Parted<(String, String)>,
    write: Write,
) -> Result<Response, Fault> {
    let patch = settings::read(&write.body)?;
    let view = shared.handle.view();
    let id = resolve(&view, &write.caller, &model, &deployment)?.id.clone();
    if shared.config.compat.strict
        && deployment == "development"
        && (patch.min.is_some() || patch.max.is_some())
    {
        return Err(Fault::field(
            if patch.min.is_some() { "min_replica" } else { "max_replica" },
            "a development deployment has 0 to 1 replicas",
            "the other settings",
        ));
    }
    let action = Action::Deployment(deployments::Action::Settings { id, patch });
    write.carry_out(&shared, action, |_, outcome| (StatusCode::OK, shown(&outcome.answer))).await
}

fn shown(answer: &Answer) -> serde_json::Value {
    match answer {
        Answer::Settings { status, message } => json!({"status": status, "message": message}),
        Answer::Done => json!({"status": "ACCEPTED", "message": "the settings are in force"}),
    }
}

/// The deployment that Baseten's words name: `model` is a model's name or a deployment's id;
/// `production` the one promoted last, else the oldest; `development` the one of that environment,
/// else the youngest never promoted, else the only one.
pub fn resolve<'v>(
    view: &'v View,
    caller: &Caller,
    model: &str,
    deployment: &str,
) -> Result<&'v DeploymentRow, Fault> {
    let named = |row: &&DeploymentRow| {
        row.deleting.is_none()
            && caller.sees(&row.organization)
            && (row.spec.model.name == model || row.id.is(model))
    };
    let rows: Vec<&DeploymentRow> = view.fleet().deployments().filter(named).collect();
    if rows.is_empty() {
        return Err(Fault::not_found("model", model));
    }
    let found = match deployment {
        "production" => environments::production(&rows),
        "development" => environments::development(&rows),
        id => rows.iter().find(|row| row.id.is(id)).copied(),
    };
    found.ok_or_else(|| Fault::not_found("deployment", deployment))
}
