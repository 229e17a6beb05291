//! Answers that wait until what they say is durable.

use tokio::sync::oneshot;
use wharfage_scheduler_core::Reply;

use super::{Outcome, Rendered, SubmitError, Submitted, View};

/// One answer, decided and not told yet.
pub(super) enum Waiting {
    /// To a command: the answer with the position that holds it.
    Submit(oneshot::Sender<Result<Submitted, SubmitError>>, Result<(Outcome, u64), SubmitError>),
    /// To a command with an idempotency key.
    Once(oneshot::Sender<Result<Rendered, SubmitError>>, Result<Rendered, SubmitError>),
    /// To a report.
    Report(oneshot::Sender<Result<Reply, SubmitError>>, Reply),
}

impl Waiting {
    /// Everything it says is durable and in `view`. Who has gone away is not waited for.
    pub(super) fn tell(self, view: &View) {
        match self {
            Waiting::Submit(reply, decided) => {
                let view = view.clone();
                let told = decided.map(|(outcome, position)| Submitted { outcome, view, position });
                let _ = reply.send(told);
            }
            Waiting::Once(reply, decided) => {
                let _ = reply.send(decided);
            }
            Waiting::Report(reply, decided) => {
                let _ = reply.send(Ok(decided));
            }
        }
    }

    /// What it says was taken back: the disk is full.
    pub(super) fn take_back(self) {
        match self {
            Waiting::Submit(reply, _) => {
                let _ = reply.send(Err(SubmitError::DiskFull));
            }
            Waiting::Once(reply, _) => {
                let _ = reply.send(Err(SubmitError::DiskFull));
            }
            Waiting::Report(reply, _) => {
                let _ = reply.send(Err(SubmitError::DiskFull));
            }
        }
    }
}
