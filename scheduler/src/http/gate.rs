//! The gate in front of every route: who asks, may they, are they too many, and how a refusal reads.

use std::net::IpAddr;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use wharfage_link::peer::Peer;
use wharfage_scheduler_core::words::principal::{Caller, Role};

use super::body::check_connect;
use super::fault::{Fault, Reason, Style};
use super::limits::Lane;
use super::route::{Access, style_of};
use super::{Shared, baseten, coreweave, problem, query};
use crate::dashboard::session;
use crate::secrets::sha256_hex;

/// Who asks, found by the gate; every handler behind one can ask for it.
#[derive(Clone, Debug)]
pub struct Who(pub Caller);

impl FromRequestParts<Shared> for Who {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Fault> {
        parts
            .extensions
            .get::<Who>()
            .cloned()
            .ok_or_else(|| unauthenticated(style_of(parts.uri.path())))
    }
}

/// What stands at one route's gate.
#[derive(Clone)]
pub struct Post {
    /// The whole.
    pub shared: Shared,
    /// Who may pass.
    pub access: Access,
    /// How refusals read.
    pub style: Style,
    /// The query parameters that the route reads.
    pub query: &'static [&'static str],
}

/// Lets a request pass, or not, and puts what became of it into the route's words.
pub async fn pass(State(post): State<Post>, mut request: Request, next: Next) -> Response {
    let outcome = post.admit(&request).and_then(|caller| {
        post.check_query(&request)?;
        if post.style == Style::Connect {
            check_connect(request.headers())?;
        }
        Ok(caller)
    });
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (caller, response) = match outcome {
        Ok(caller) => {
            if let Some(caller) = caller.clone() {
                request.extensions_mut().insert(Who(caller));
            }
            (caller, next.run(request).await)
        }
        Err(fault) => {
            // Whoever has a token and may not is told of like everybody who was refused.
            let known = fault.reason != Reason::Unauthenticated && post.access != Access::Open;
            let caller = known.then(|| post.caller(&request).ok()).flatten();
            (caller, fault.into_response())
        }
    };
    if let (Some(caller), Some(fault)) = (caller, response.extensions().get::<Fault>())
        && is_write(&method, &path)
    {
        let now = post.shared.handle.now();
        post.shared.refusals.note(now, &caller, &method, &path, fault);
    }
    finish(post.style, response)
}

/// Over Connect reads are POST too, and say so in the method's name.
fn is_write(method: &Method, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let reads =
        style_of(path) == Style::Connect && (name.starts_with("Get") || name.starts_with("List"));
    !reads && !matches!(*method, Method::GET | Method::HEAD)
}

/// Paths that no route has: told only to those who have a token.
pub async fn no_such_path(State(shared): State<Shared>, request: Request) -> Response {
    let style = style_of(request.uri().path());
    let post = Post { shared, access: Access::Known, style, query: &[] };
    let fault = match post.admit(&request) {
        Ok(_) => {
            let detail = format!("there is no path {}", request.uri().path());
            Fault::new(Reason::NotFound { kind: "path", id: request.uri().path().into() }, detail)
        }
        Err(_) if style == Style::Page => Fault::not_found("page", request.uri().path()),
        Err(fault) => fault,
    };
    finish(style, fault.into_response())
}

/// Methods that a path does not have: told likewise.
pub async fn no_such_method(State(shared): State<Shared>, request: Request) -> Response {
    let style = style_of(request.uri().path());
    let post = Post { shared, access: Access::Known, style, query: &[] };
    let fault = match post.admit(&request) {
        Err(fault) if style != Style::Page => fault,
        Ok(_) | Err(_) => {
            let detail = format!("{} does not know {}", request.uri().path(), request.method());
            let accepted = "the methods in the `Allow` header".to_owned();
            Fault::new(Reason::WrongMethod { accepted }, detail)
        }
    };
    finish(style, fault.into_response())
}

impl Post {
    fn admit(&self, request: &Request) -> Result<Option<Caller>, Fault> {
        if self.access == Access::Open {
            return Ok(None);
        }
        let caller = self.caller(request)?;
        let lane = match *request.method() {
            Method::GET | Method::HEAD => Lane::Read,
            _ => Lane::Write,
        };
        let key = caller.token.as_ref().map_or("", |token| token.as_str());
        self.shared.limiter.count(lane, key, Instant::now()).map_err(too_many)?;
        self.check(&caller)?;
        Ok(Some(caller))
    }

    /// On all writes, and on reads of our own: other APIs' clients may ask more than we answer.
    fn check_query(&self, request: &Request) -> Result<(), Fault> {
        match (self.style, request.method()) {
            (Style::Page, _) => Ok(()),
            // Probes are asked by whatever stands in front.
            _ if self.access == Access::Open => Ok(()),
            (Style::Problem, &Method::GET | &Method::HEAD) => {
                query::only(request.uri(), self.query)
            }
            (_, &Method::GET | &Method::HEAD) => Ok(()),
            _ => {
                let own = self.query.iter().copied().filter(|name| *name != "dryRun");
                let known: Vec<&str> = ["dryRun"].into_iter().chain(own).collect();
                query::only(request.uri(), &known)
            }
        }
    }

    fn check(&self, caller: &Caller) -> Result<(), Fault> {
        let reads = || caller.may(Role::Viewer) || caller.may(Role::Operator);
        let (allowed, needed) = match self.access {
            Access::Open | Access::Known => (true, String::new()),
            Access::Read | Access::Page => (reads(), "viewer or operator".to_owned()),
            Access::Role(role) => (caller.may(role), name(role).to_owned()),
            Access::Provider(role) => (
                caller.is_provider() && caller.may(role),
                format!("{} of the provider", name(role)),
            ),
        };
        if allowed {
            return Ok(());
        }
        let detail = format!("this needs a token with the role {needed}");
        Err(Fault::new(Reason::Forbidden, detail))
    }

    /// Whose token it is. Refused tokens are counted by the address they come from, so that
    /// guessing is slow.
    fn caller(&self, request: &Request) -> Result<Caller, Fault> {
        let headers = request.headers();
        let sha256 = match secret(headers, self.style) {
            Some(secret) => Some(sha256_hex(secret)),
            None if self.access == Access::Page => session::token(&self.shared, headers),
            None => None,
        };
        let Some(sha256) = sha256 else { return Err(unauthenticated(self.style)) };
        let view = self.shared.handle.view();
        let token = view.fleet().token_by_sha256(&sha256);
        if let Some(caller) = token.and_then(|token| token.caller()) {
            return Ok(caller);
        }
        let from = request.extensions().get::<Peer>().map(|peer| peer.addr.ip());
        let from = from.as_ref().map_or_else(String::new, IpAddr::to_string);
        self.shared.limiter.count(Lane::Refused, &from, Instant::now()).map_err(too_many)?;
        Err(unauthenticated(self.style))
    }
}

/// The secret in the `Authorization` header; `Api-Key` counts where Baseten's clients call.
fn secret(headers: &HeaderMap, style: Style) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("bearer")
        || (style == Style::Baseten && scheme.eq_ignore_ascii_case("api-key"));
    let secret = secret.trim();
    (known && !secret.is_empty()).then_some(secret)
}

fn unauthenticated(style: Style) -> Fault {
    let or = if style == Style::Baseten { " or `Authorization: Api-Key <token>`" } else { "" };
    let header = "send the header `Authorization: Bearer <token>`";
    Fault::new(Reason::Unauthenticated, format!("a valid token is needed: {header}{or}"))
}

fn too_many(seconds: u32) -> Fault {
    let detail = format!("too many requests with this key: try again in {seconds} s");
    Fault::new(Reason::RateLimited, detail).retry_after(seconds)
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Billing => "billing",
        Role::Admin => "admin",
    }
}

/// Puts a fault into the style's words and adds what every answer carries.
fn finish(style: Style, mut response: Response) -> Response {
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        let allow = response.headers().get(header::ALLOW).cloned();
        response = render(style, &fault);
        let headers = response.headers_mut();
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, allow);
        }
        if let Some(seconds) = fault.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if fault.reason == Reason::Unauthenticated && style != Style::Page {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        headers.entry(name).or_insert(value);
    }
    response
}

/// On every answer: nothing is guessed, framed, cached or told to others.
const ALWAYS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("x-frame-options", "DENY"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
];

fn render(style: Style, fault: &Fault) -> Response<Body> {
    match style {
        Style::Problem => problem::render(fault),
        Style::Rest => coreweave::errors::rest(fault),
        Style::Connect => coreweave::errors::connect(fault),
        Style::Baseten => baseten::errors::render(fault),
        Style::Page => match &fault.reason {
            Reason::Unauthenticated => {
                (StatusCode::SEE_OTHER, [(header::LOCATION, "/signin")]).into_response()
            }
            _other => crate::dashboard::error(fault),
        },
    }
}
