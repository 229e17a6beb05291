//! The first start: the provider's organization and one token, which its owner finds in a file.
//!
//! The file is written before the fact: a crash in between costs a token that never was, not an
//! installation that nobody can enter.

use std::path::{Path, PathBuf};

use wharfage_billing::money::Currency;
use wharfage_link::files::write_atomically;
use wharfage_scheduler_core::Caller;
use wharfage_scheduler_core::words::command::{Action, Command, access};
use wharfage_scheduler_core::words::principal::{PROVIDER, Role};
use wharfage_shared::ids::{OrganizationId, TokenId};

use crate::driver::{Handle, SubmitError};
use crate::secrets::{self, Opens};

/// The file in the state folder that holds the first administrator's token.
pub const TOKEN_FILE: &str = "admin.token";

/// Why the first start did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel gave no randomness.
    #[error("cannot make a token")]
    Random(#[source] std::io::Error),
    /// The file.
    #[error("cannot write `{path}`")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The facts.
    #[error("cannot record the provider's organization")]
    Submit(#[from] SubmitError),
}

/// Makes what is missing of the provider's organization and its first token.
pub async fn provide(handle: &Handle, state_dir: &Path, currency: Currency) -> Result<(), Error> {
    let provider = OrganizationId::from(PROVIDER);
    if handle.view().fleet().organization(&provider).is_none() {
        let currency = currency.code().to_owned();
        let action = access::Action::CreateOrganization { id: provider.clone(), currency };
        submit(handle, action).await?;
    }
    if handle.view().fleet().tokens().any(|token| token.organization == provider) {
        return Ok(());
    }
    let secret = secrets::fresh(Opens::Api).map_err(Error::Random)?;
    let path = state_dir.join(TOKEN_FILE);
    write_atomically(&path, format!("{secret}\n").as_bytes(), 0o600)
        .map_err(|source| Error::Write { path: path.clone(), source })?;
    let action = access::Action::CreateToken {
        id: TokenId::from("admin"),
        organization: provider,
        roles: [Role::Admin].into(),
        name: "first administrator".to_owned(),
        sha256: secrets::sha256_hex(&secret),
    };
    submit(handle, action).await?;
    tracing::info!(path = %path.display(), "the first administrator's token is in this file");
    Ok(())
}

async fn submit(handle: &Handle, action: access::Action) -> Result<(), Error> {
    let action = Action::Access(action);
    handle.submit(Command { caller: Caller::provider(), action }).await?;
    Ok(())
}
