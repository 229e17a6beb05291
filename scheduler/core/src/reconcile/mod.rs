//! What follows from what is known: one file a step over a [`Plan`], in rounds to a fixpoint.
//!
//! Each decision is applied before the next is asked, so that no step works on old views, and a
//! second pass at the same instant changes nothing (L2).

pub mod agenda;
pub mod loads;
pub mod plan;

mod brake;
pub(crate) mod claims;
pub(crate) mod drills;
mod hints;
mod leaving;
mod level;
mod moves;
mod place;
mod pools;
mod promise;
mod quiet;
pub(crate) mod reclaim;
mod repair;
mod returns;
mod scale;
mod settle;
mod terms;

pub use self::leaving::back_off;
pub(crate) use self::leaving::leave;

use self::plan::Plan;

/// More rounds than any chain of causes needs; each further round works only on what the one
/// before it changed.
const MOST_ROUNDS: usize = 64;

/// Carries everything out that follows from what changed.
pub fn reconcile(plan: &mut Plan<'_>) {
    for _ in 0..MOST_ROUNDS {
        let due = plan.agenda.take();
        if due.is_empty() {
            break;
        }
        for contract in &due.contracts {
            terms::contract(plan, contract);
        }
        if due.brakes {
            brake::fleet(plan);
            repair::fleet(plan);
        }
        hints::fleet(plan);
        drills::all(plan);
        for node in &due.nodes {
            leaving::node(plan, node);
            reclaim::node(plan, node);
        }
        for pool in &due.pools {
            pools::pool(plan, pool);
        }
        claims::all(plan, &due.claims, due.freed.iter().chain(&due.shrunk));
        // What became of nodes and claims counts for deployments before anything is placed.
        let mut deployments = due.deployments;
        deployments.append(&mut plan.agenda.take_deployments());
        for deployment in &deployments {
            scale::deployment(plan, deployment);
            moves::deployment(plan, deployment);
            leaving::deployment(plan, deployment);
            level::deployment(plan, deployment);
        }
        for node in &due.nodes {
            promise::keep(plan, node);
        }
        place::pending(plan, &deployments, &due.freed);
        if due.moves {
            moves::look(plan);
            returns::look(plan);
        }
        for node in &due.nodes {
            settle::node(plan, node);
        }
        for deployment in &deployments {
            settle::deployment(plan, deployment);
        }
    }
    quiet::replicas(plan);
    drills::measure(plan);
}
