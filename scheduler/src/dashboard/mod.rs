//! The dashboard: one live page, rendered here, readable without script.
//!
//! Everything is escaped by maud, nothing is inline and nothing comes from elsewhere, so that a
//! name in the fleet can never become code in an operator's browser.

pub mod session;

mod drills;
mod facts;
mod fragment;
mod gpus;
mod health;
mod hearing;
mod page;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use maud::Markup;
use serde::Deserialize;
use wharfage_scheduler_core::words::principal::{Caller, Role};

use crate::http::Shared;
use crate::http::fault::{Fault, Reason};
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::secrets::sha256_hex;

/// What a page may load: its own style and script, and its own stream.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A page is told of readings, which are no facts, at least this often.
const READINGS: Duration = Duration::from_secs(2);

/// And of facts at most this often.
const CALM: Duration = Duration::from_millis(300);

/// The page's routes.
pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/", "The live page.", whole).access(Access::Page),
        Route::get("/fragment", "The live part of the page.", part).access(Access::Page),
        Route::get("/drills", "The live page of drills.", all_drills).access(Access::Page),
        Route::get("/drills/fragment", "The live part of it.", drills_part).access(Access::Page),
        Route::get("/live", "Tells the page when to fetch it.", live).access(Access::Page),
        Route::get("/signin", "The sign-in page.", ask).access(Access::Open),
        Route::post("/signin", "Signs in with a token.", sign_in).access(Access::Open),
        Route::post("/signout", "Signs out.", sign_out).access(Access::Open),
        Route::get("/assets/dashboard.css", "The page's style.", style).access(Access::Open),
        Route::get("/assets/mark.svg", "The page's icon.", icon).access(Access::Open),
        Route::get("/assets/dashboard.js", "The page's script.", script).access(Access::Open),
    ]
}

async fn whole(State(shared): State<Shared>, Who(caller): Who) -> Response {
    let live = fragment::render(&shared, &caller).await;
    html(StatusCode::OK, page::whole(&caller, &live, "/fragment"))
}

async fn all_drills(State(shared): State<Shared>, Who(caller): Who) -> Response {
    let live = drills::render(&shared, &caller);
    html(StatusCode::OK, page::whole(&caller, &live, "/drills/fragment"))
}

async fn drills_part(State(shared): State<Shared>, Who(caller): Who) -> Response {
    html(StatusCode::OK, drills::render(&shared, &caller))
}

async fn part(State(shared): State<Shared>, Who(caller): Who) -> Response {
    html(StatusCode::OK, fragment::render(&shared, &caller).await)
}

async fn live(
    State(shared): State<Shared>,
    Who(caller): Who,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let views = shared.handle.views();
    let events = stream::unfold((shared, caller, views), |(shared, caller, mut views)| async {
        tokio::select! {
            () = shared.shutdown.cancelled() => return None,
            changed = views.changed() => changed.ok()?,
            () = tokio::time::sleep(READINGS) => {}
        }
        tokio::time::sleep(CALM).await;
        let view = views.borrow_and_update().clone();
        let token = caller.token.as_ref().and_then(|token| view.fleet().token(token));
        token.filter(|token| token.revoked_at.is_none())?;
        let event = Event::default().event("changed").data(view.position().to_string());
        Some((Ok(event), (shared, caller, views)))
    });
    Sse::new(events).keep_alive(KeepAlive::new())
}

async fn ask() -> Response {
    html(StatusCode::OK, page::sign_in(None))
}

/// The form of the sign-in page.
#[derive(Deserialize)]
struct SignIn {
    token: String,
}

async fn sign_in(
    State(shared): State<Shared>,
    headers: HeaderMap,
    form: Result<Form<SignIn>, axum::extract::rejection::FormRejection>,
) -> Result<Response, Fault> {
    refuse_other_sites(&headers)?;
    let Ok(Form(SignIn { token })) = form else {
        return Ok(html(StatusCode::BAD_REQUEST, page::sign_in(Some("Enter a token."))));
    };
    let sha256 = sha256_hex(token.trim());
    let view = shared.handle.view();
    let known = view.fleet().token_by_sha256(&sha256).and_then(|token| token.caller());
    let reads = |caller: &Caller| caller.may(Role::Viewer) || caller.may(Role::Operator);
    let refused = match &known {
        None => Some("Nobody has this token."),
        Some(caller) if !reads(caller) => Some("This token may not read the fleet."),
        Some(_) => None,
    };
    if let Some(refused) = refused {
        return Ok(html(StatusCode::UNAUTHORIZED, page::sign_in(Some(refused))));
    }
    let secret = shared.sessions.begin(sha256, Instant::now());
    let secret = secret.map_err(|error| Fault::internal(&error))?;
    Ok(go_to("/", session::cookie(&shared, Some(&secret))))
}

async fn sign_out(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Fault> {
    refuse_other_sites(&headers)?;
    if let Some(secret) = session::secret(&shared, &headers) {
        shared.sessions.end(&secret);
    }
    Ok(go_to("/signin", session::cookie(&shared, None)))
}

/// Browsers say where a request comes from; forms of other sites are refused. Older ones say only
/// the site's origin, programs say nothing.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Fault> {
    let is_ours = match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(site) => matches!(site, b"same-origin" | b"none"),
        None => headers.get(header::ORIGIN).is_none_or(|origin| is_here(origin, headers)),
    };
    if is_ours {
        return Ok(());
    }
    Err(Fault::new(Reason::Forbidden, "this form was sent by another site"))
}

/// Whether an origin (`https://host:port`) is the host that the request was sent to.
fn is_here(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((host, origin), (Some(host), Some((_, from))) if host.eq_ignore_ascii_case(from))
}

fn go_to(path: &'static str, cookie: HeaderValue) -> Response {
    let location = HeaderValue::from_static(path);
    let headers = [(header::LOCATION, location), (header::SET_COOKIE, cookie)];
    (StatusCode::SEE_OTHER, headers).into_response()
}

async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("assets/dashboard.css"))
}

async fn icon() -> Response {
    asset("image/svg+xml", include_str!("assets/mark.svg"))
}

async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("assets/dashboard.js"))
}

fn asset(kind: &'static str, content: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")];
    (headers, content).into_response()
}

/// A page for what went wrong.
pub fn error(fault: &Fault) -> Response {
    html(fault.status(), page::error(&fault.detail))
}

fn html(status: StatusCode, markup: Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (status, headers, markup.into_string()).into_response()
}
