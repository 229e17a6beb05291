//! What facts about organizations, tokens and joins do to the fleet.

use std::sync::Arc;

use crate::fleet::Fleet;
use crate::fleet::rows::access::{JoinRow, OrganizationRow, TokenRow};
use crate::words::event::access::Event;

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::OrganizationCreated { organization, currency, at } => {
            let id = organization.clone();
            let row =
                OrganizationRow { id: id.clone(), currency: currency.clone(), created_at: *at };
            fleet.organizations.insert(id, Arc::new(row));
        }
        Event::TokenCreated { token, organization, roles, name, sha256, at } => {
            let row = TokenRow {
                id: token.clone(),
                organization: organization.clone(),
                roles: roles.clone(),
                name: name.clone(),
                sha256: sha256.clone(),
                created_at: *at,
                revoked_at: None,
            };
            fleet.tokens.insert(token.clone(), Arc::new(row));
            fleet.index.tokens.insert(sha256.clone(), token.clone());
            fleet.routes_number += 1;
        }
        Event::TokenRevoked { token, at } => {
            if let Some(row) = fleet.tokens.get_mut(token) {
                Arc::make_mut(row).revoked_at = Some(*at);
            }
            fleet.routes_number += 1;
        }
        Event::JoinCreated { join, admits, uses, expires, sha256, at } => {
            let row = JoinRow {
                id: join.clone(),
                admits: admits.clone(),
                uses: *uses,
                used: 0,
                expires: *expires,
                sha256: sha256.clone(),
                created_at: *at,
            };
            fleet.joins.insert(join.clone(), Arc::new(row));
            fleet.index.joins.insert(sha256.clone(), join.clone());
        }
        Event::JoinUsed { join } => {
            if let Some(row) = fleet.joins.get_mut(join) {
                Arc::make_mut(row).used += 1;
            }
        }
    }
}
