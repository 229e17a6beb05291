//! `CapacityClaimService`: REST under `/v1alpha1/inference/capacityclaims`, and Connect.

use serde_json::Value;
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::rows::claim::ClaimRow;
use wharfage_scheduler_core::words::command::{Action, claims};
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{ClaimId, OrganizationId};

use super::claim::{self, Claimable, Context};
use super::resource::organization;
use super::service::{Head, Service, Words};
use crate::driver::View;
use crate::http::Shared;
use crate::http::body::Write;
use crate::http::fault::Fault;

/// Capacity claims.
pub struct Claims;

impl Service for Claims {
    type Row = ClaimRow;

    const COSTS: bool = true;

    const WORDS: Words = Words {
        one: "capacityClaim",
        all: "capacityClaims",
        schema: "CapacityClaim",
        rest: [
            "/v1alpha1/inference/capacityclaims",
            "/v1alpha1/inference/capacityclaims/{id}",
            "/v1alpha1/inference/capacityclaims/parameters",
        ],
        connect: [
            "/coreweave.inference.v1alpha1.CapacityClaimService/ListCapacityClaims",
            "/coreweave.inference.v1alpha1.CapacityClaimService/CreateCapacityClaim",
            "/coreweave.inference.v1alpha1.CapacityClaimService/GetCapacityClaimParameters",
            "/coreweave.inference.v1alpha1.CapacityClaimService/GetCapacityClaim",
            "/coreweave.inference.v1alpha1.CapacityClaimService/UpdateCapacityClaim",
            "/coreweave.inference.v1alpha1.CapacityClaimService/DeleteCapacityClaim",
        ],
        summaries: [
            "List capacity claims.",
            "Create a capacity claim.",
            "What can be claimed, by zone.",
            "One capacity claim.",
            "Resize a capacity claim.",
            "Give all instances of a claim back.",
        ],
    };

    fn rows(fleet: &Fleet) -> impl Iterator<Item = &ClaimRow> {
        fleet.claims()
    }

    fn row<'f>(fleet: &'f Fleet, id: &str) -> Option<&'f ClaimRow> {
        fleet.claim(&ClaimId::from(id))
    }

    fn head(row: &ClaimRow) -> Head<'_> {
        Head {
            id: row.id.as_str().into(),
            organization: &row.organization,
            updated_at: row.updated_at,
            leaves: row.deleted_at.is_some(),
        }
    }

    fn show(shared: &Shared, fleet: &Fleet, _: &Caller, row: &ClaimRow, _: bool) -> Value {
        claim::show(fleet, shared.handle.policy(), shared.handle.now(), row)
    }

    fn parameters(_: &Shared, view: &View, caller: &Caller) -> Value {
        claim::parameters(&claimable(view.fleet(), &caller.organization))
    }

    fn creation(shared: &Shared, view: &View, write: &Write) -> Result<(String, Action), Fault> {
        let organization = organization(&write.caller, &write.body)?;
        let claimable = claimable(view.fleet(), &organization);
        let strict = shared.config.compat.strict;
        let context = Context { claimable: &claimable, strict, current: None };
        let draft = claim::read(&write.body, &context)?;
        let id = draft.chosen_id();
        let claim = ClaimId::from(id.as_str());
        let create = claims::Action::Create { id: claim, organization, spec: draft.spec };
        Ok((id, Action::Claim(create)))
    }

    fn replacement(
        shared: &Shared,
        view: &View,
        write: &Write,
        row: &ClaimRow,
    ) -> Result<Action, Fault> {
        let mut claimable = claimable(view.fleet(), &row.organization);
        // What a claim has stays good for it, whatever became of its pool.
        claimable.entry(row.spec.zone.clone()).or_default().insert(row.spec.sku.clone());
        let strict = shared.config.compat.strict;
        let context = Context { claimable: &claimable, strict, current: Some(&row.spec) };
        let draft = claim::read(&write.body, &context)?;
        draft.is_still("claim", row.id.as_str(), &row.organization)?;
        Ok(Action::Claim(claims::Action::Replace { id: row.id.clone(), spec: draft.spec }))
    }

    fn deletion(row: &ClaimRow) -> Action {
        Action::Claim(claims::Action::Delete { id: row.id.clone() })
    }
}

/// What an organization may claim: the standard instance types of the provider's pools and of its
/// own, by zone.
fn claimable(fleet: &Fleet, organization: &OrganizationId) -> Claimable {
    let mut claimable = Claimable::new();
    for pool in fleet.pools() {
        let open = pool.owner.as_ref().is_none_or(|owner| owner == organization);
        if open && pool.compute_class == ComputeClass::Standard {
            claimable.entry(pool.zone.clone()).or_default().insert(pool.sku.clone());
        }
    }
    claimable
}
