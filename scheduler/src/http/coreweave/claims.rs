//! Capacity claims: this release places on demand and on spot only, and says so.

use serde_json::{Value, json};
use wharfage_scheduler_core::words::principal::Role;

use crate::http::fault::{Fault, Reason};
use crate::http::route::{Access, Route};

const SAME: &str = "The same as Connect JSON.";

const CONNECT: [&str; 6] = [
    "/coreweave.inference.v1alpha1.CapacityClaimService/ListCapacityClaims",
    "/coreweave.inference.v1alpha1.CapacityClaimService/CreateCapacityClaim",
    "/coreweave.inference.v1alpha1.CapacityClaimService/GetCapacityClaimParameters",
    "/coreweave.inference.v1alpha1.CapacityClaimService/GetCapacityClaim",
    "/coreweave.inference.v1alpha1.CapacityClaimService/UpdateCapacityClaim",
    "/coreweave.inference.v1alpha1.CapacityClaimService/DeleteCapacityClaim",
];

/// The routes of the claims' service.
pub fn routes() -> Vec<Route> {
    let read = Access::Read;
    let write = Access::Role(Role::Operator);
    let none = || async { refuse() };
    let list = || async { axum::Json(list()) };
    vec![
        Route::get("/v1alpha1/inference/capacityclaims", "List capacity claims.", list)
            .access(read),
        Route::post("/v1alpha1/inference/capacityclaims", "Create a capacity claim.", none)
            .access(write),
        Route::get("/v1alpha1/inference/capacityclaims/parameters", "What can be claimed.", none)
            .access(read),
        Route::get("/v1alpha1/inference/capacityclaims/{id}", "One capacity claim.", none)
            .access(read),
        Route::patch("/v1alpha1/inference/capacityclaims/{id}", "Resize a capacity claim.", none)
            .access(write),
        Route::delete("/v1alpha1/inference/capacityclaims/{id}", "Delete a capacity claim.", none)
            .access(write),
        Route::post(CONNECT[0], SAME, list).access(read),
        Route::post(CONNECT[1], SAME, none).access(write),
        Route::post(CONNECT[2], SAME, none).access(read),
        Route::post(CONNECT[3], SAME, none).access(read),
        Route::post(CONNECT[4], SAME, none).access(write),
        Route::post(CONNECT[5], SAME, none).access(write),
    ]
}

fn list() -> Value {
    json!({"capacityClaims": []})
}

fn refuse() -> Fault {
    Fault::new(
        Reason::Unimplemented,
        "capacity claims are not offered by this release: deployments run on demand and on spot \
         (`autoscaling.capacityClasses`); the list of claims is empty",
    )
}
