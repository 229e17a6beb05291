//! Writes that were refused, the newest of each organization: the part of the audit that is no
//! fact, because nothing changed. It is as old as the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::http::Method;
use serde::Serialize;
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::ids::{OrganizationId, TokenId};
use wharfage_shared::time::Timestamp;

use super::fault::Fault;
use super::rows::instant;

/// Refusals that are kept of one organization: a flood of one must not push out what others see.
const KEPT: usize = 200;

/// The longest sentence that is kept, in characters: a body full of mistakes has a long one.
const LONGEST: usize = 500;

/// One refused write.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// When.
    pub at: String,
    /// Whose token.
    pub organization: OrganizationId,
    /// Which token.
    pub token: Option<TokenId>,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: &'static str,
    /// What was wrong.
    pub detail: String,
}

/// What was refused since the scheduler started.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<OrganizationId, VecDeque<Refused>>>);

impl Refusals {
    /// Keeps one.
    pub fn note(&self, at: Timestamp, caller: &Caller, method: &Method, path: &str, why: &Fault) {
        let refused = Refused {
            at: instant(at),
            organization: caller.organization.clone(),
            token: caller.token.clone(),
            method: method.to_string(),
            path: path.to_owned(),
            status: why.status().as_u16(),
            code: why.code(),
            detail: why.detail.chars().take(LONGEST).collect(),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = kept.entry(caller.organization.clone()).or_default();
        if of.len() == KEPT {
            of.pop_front();
        }
        of.push_back(refused);
    }

    /// Those that a caller may see, oldest first in each organization.
    pub fn of(&self, caller: &Caller) -> Vec<Refused> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let visible = kept.iter().filter(|(organization, _)| caller.sees(organization));
        visible.flat_map(|(_, of)| of.iter().cloned()).collect()
    }
}
