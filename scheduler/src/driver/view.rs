//! The published view: what is durable, as one cheap copy of the controller.

use std::fmt;
use std::sync::Arc;

use wharfage_scheduler_core::words::command::Command;
use wharfage_scheduler_core::words::refusal::Refusal;
use wharfage_scheduler_core::{Controller, Fleet, WhatIf};
use wharfage_shared::ids::NodeId;
use wharfage_shared::order::Desired;
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Term;

/// What is true and durable at one position of the log. Cheap to clone.
#[derive(Clone)]
pub struct View {
    inner: Arc<Inner>,
}

struct Inner {
    position: u64,
    term: Term,
    controller: Controller,
}

impl View {
    pub(super) fn new(position: u64, term: Term, controller: Controller) -> Self {
        Self { inner: Arc::new(Inner { position, term, controller }) }
    }

    /// The last record that is in it.
    pub fn position(&self) -> u64 {
        self.inner.position
    }

    /// Who leads.
    pub fn term(&self) -> Term {
        self.inner.term
    }

    /// The fleet.
    pub fn fleet(&self) -> &Fleet {
        self.inner.controller.fleet()
    }

    /// What a node is to do.
    pub fn desired(&self, node: &NodeId) -> Option<Desired> {
        self.inner.controller.desired(node)
    }

    /// What a command would do now.
    pub fn what_if(&self, now: Timestamp, command: Command) -> Result<WhatIf, Refusal> {
        self.inner.controller.what_if(now, command)
    }

    pub(super) fn controller(&self) -> &Controller {
        &self.inner.controller
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("position", &self.inner.position).finish_non_exhaustive()
    }
}
