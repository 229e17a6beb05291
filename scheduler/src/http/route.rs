//! A route: one row that says where it is, who may use it, how its errors read and what it does.
//!
//! The router, the OpenAPI document and the table test of roles are all made from these rows, so
//! none of them can forget a path. Deny is the default: a path that has no row has no handler.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use wharfage_scheduler_core::words::principal::Role;

use super::Shared;
use super::fault::Style;
use super::gate;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody: probes, the sign-in page and the page's own assets.
    Open,
    /// Any valid token.
    Known,
    /// A token that reads the fleet: viewer or operator.
    Read,
    /// A token with the role (admin has all).
    Role(Role),
    /// The provider's token with the role.
    Provider(Role),
    /// A person who has signed in with a reading token; others are sent to the sign-in page.
    Page,
}

/// One row.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path as axum takes it.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// How its errors read.
    pub style: Style,
    /// What it does, as one line.
    pub summary: &'static str,
    /// The schema of its body in the OpenAPI document.
    pub takes: Option<&'static str>,
    /// Query parameters.
    pub query: &'static [&'static str],
    handler: MethodRouter<Shared>,
}

impl Route {
    fn new<H, T>(method: Method, path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone());
        let handler = on(filter.expect("the table names plain methods only"), handler);
        let style = style_of(path);
        let access = Access::Provider(Role::Admin);
        Self { method, path, access, style, summary, takes: None, query: &[], handler }
    }

    /// Reads.
    pub fn get<H, T>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        Self::new(Method::GET, path, summary, handler)
    }

    /// Makes, or does.
    pub fn post<H, T>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        Self::new(Method::POST, path, summary, handler)
    }

    /// Changes.
    pub fn patch<H, T>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        Self::new(Method::PATCH, path, summary, handler)
    }

    /// Removes.
    pub fn delete<H, T>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        Self::new(Method::DELETE, path, summary, handler)
    }

    /// Who may use it; without this the provider's administrators only.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The schema of its body.
    pub fn takes(mut self, schema: &'static str) -> Self {
        self.takes = Some(schema);
        self
    }

    /// Its query parameters.
    pub fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    /// Adds it, behind its gate, to a router.
    pub fn mount(self, router: Router<Shared>, shared: &Shared) -> Router<Shared> {
        let post = gate::Post {
            shared: shared.clone(),
            access: self.access,
            style: self.style,
            query: self.query,
        };
        let layer = axum::middleware::from_fn_with_state(post, gate::pass);
        router.route(self.path, self.handler.route_layer(layer))
    }
}

/// How errors read below a path.
pub fn style_of(path: &str) -> Style {
    if path.starts_with("/v1alpha1/") {
        Style::Rest
    } else if path.starts_with("/coreweave.") {
        Style::Connect
    } else if path.starts_with("/v1/") {
        Style::Baseten
    } else if path.starts_with("/api/")
        || path.starts_with("/metrics")
        || matches!(path, "/openapi.json" | "/healthz" | "/readyz")
    {
        Style::Problem
    } else {
        Style::Page
    }
}
