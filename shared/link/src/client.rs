//! HTTP/1.1 over mTLS from a machine to the scheduler.
//!
//! One client serves a whole process: connections are kept alive, and a renewed certificate is used
//! from the next request on.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wharfage_shared::causes::with_causes;
use wharfage_shared::enroll::MachineProblem;

use crate::decode::{Decoder, answer_kind};
use crate::identity::IdentityDir;
use crate::reload::Reloaded;
use crate::tls::{self, machine_config};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shorter than the server's patience with an idle connection (10 s), so that no request is sent
/// into a closing one.
const IDLE_CONNECTION: Duration = Duration::from_secs(8);

/// The largest answer that is read; a route table of 10,000 replicas has about 2 MiB.
const LARGEST_ANSWER: usize = 64 << 20;

/// A client of the scheduler's listener for machines.
pub struct MachineClient {
    address: String,
    http: Reloaded<reqwest::Client, ClientError>,
    decoder: Decoder,
}

/// Why a request to the scheduler brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer: the network, TLS or the time ran out.
    #[error("no answer from {address}: {reason}")]
    Unreachable {
        /// Who was dialled.
        address: String,
        /// The whole chain of causes.
        reason: String,
    },
    /// An answer that is not 2xx.
    #[error("the scheduler answered {status}: {}", .problem.detail)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code and what to do.
        problem: MachineProblem,
    },
    /// A 2xx answer that could not be read.
    #[error("the answer of {path} is unusable: {reason}")]
    BadAnswer {
        /// What was asked.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Our own certificate is unusable.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl MachineClient {
    /// A client with the identity in `identity` for the scheduler at `host:port`.
    pub fn new(identity: IdentityDir, address: impl Into<String>) -> Result<Self, ClientError> {
        let address = address.into();
        let files = identity.watched();
        let dialled = address.clone();
        let http =
            Reloaded::open(files, move || http_client(machine_config(&identity)?, &dialled))?;
        Ok(Self { address, http, decoder: Decoder::default() })
    }

    /// Answers are read with this decoder, which counts for the whole process.
    pub fn reading_with(self, decoder: Decoder) -> Self {
        Self { decoder, ..self }
    }

    /// Whom it dials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Posts `body` and reads the answer. `timeout` is for the whole exchange.
    pub async fn post_json<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let url = url(&self.address, path);
        let request = self.http.current().post(url).json(body).timeout(timeout);
        let answer = exchange(request, &self.address, path, &self.decoder).await?;
        let answer = answer.unwrap_or_else(|| "null".into());
        parse(path, &answer, &self.decoder)
    }

    /// Gets `path`; `None` when there is nothing new (204).
    pub async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<Option<T>, ClientError> {
        let url = url(&self.address, path);
        let request = self.http.current().get(url).timeout(timeout);
        let answer = exchange(request, &self.address, path, &self.decoder).await?;
        answer.map(|answer| parse(path, &answer, &self.decoder)).transpose()
    }
}

/// A client over one TLS configuration; shared with enrolment.
pub(crate) fn http_client(
    config: rustls::ClientConfig,
    address: &str,
) -> Result<reqwest::Client, ClientError> {
    tls::install();
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_CONNECTION)
        .build()
        .map_err(|error| unreachable_because(address, &error))
}

/// The address of a path on the scheduler.
pub(crate) fn url(address: &str, path: &str) -> String {
    format!("https://{address}{path}")
}

/// Sends, and reads a bounded answer; `None` for 204.
pub(crate) async fn exchange(
    request: reqwest::RequestBuilder,
    address: &str,
    path: &str,
    decoder: &Decoder,
) -> Result<Option<Vec<u8>>, ClientError> {
    let no_answer = |error: reqwest::Error| unreachable_because(address, &error);
    let mut answer = request.send().await.map_err(no_answer)?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            let reason = format!("it is longer than {LARGEST_ANSWER} bytes");
            return Err(ClientError::BadAnswer { path: path.to_owned(), reason });
        }
        body.extend_from_slice(&chunk);
    }
    if status == reqwest::StatusCode::NO_CONTENT {
        return Ok(None);
    }
    if status.is_success() {
        return Ok(Some(body));
    }
    let problem = decoder.read("problem", &body).unwrap_or_else(|_| MachineProblem {
        code: "unknown".to_owned(),
        detail: format!("{path} answered without saying why"),
    });
    Err(ClientError::Refused { status: status.as_u16(), problem })
}

/// Reads a JSON answer.
pub(crate) fn parse<T: DeserializeOwned>(
    path: &str,
    answer: &[u8],
    decoder: &Decoder,
) -> Result<T, ClientError> {
    decoder.read(&answer_kind(path), answer).map_err(|error| ClientError::BadAnswer {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// reqwest says "error sending request" and hides the reason in its sources.
fn unreachable_because(address: &str, error: &reqwest::Error) -> ClientError {
    let mut reason = with_causes(error);
    // Rustls says it in its words only: whoever reads it must know that waiting does not help.
    if reason.contains("invalid peer certificate") {
        reason.push_str(
            "; whoever answers there is not the scheduler that the join string or the identity \
             names: compare the addresses, or ask an operator for a new join string",
        );
    }
    ClientError::Unreachable { address: address.to_owned(), reason }
}
