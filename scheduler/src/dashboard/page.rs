//! The frame of every page.

use maud::{DOCTYPE, Markup, html};
use wharfage_scheduler_core::words::principal::Caller;

fn frame(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="/assets/dashboard.css";
                link rel="icon" type="image/svg+xml" href="/assets/mark.svg";
            }
            body { (body) }
        }
    }
}

fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" aria-hidden="true" {
            rect x="2" y="13" width="20" height="3" rx="1" {}
            rect x="4" y="16" width="2" height="6" {}
            rect x="11" y="16" width="2" height="6" {}
            rect x="18" y="16" width="2" height="6" {}
            rect.cargo x="5" y="7" width="6" height="5" rx="0.8" {}
            rect.cargo x="12.5" y="4" width="6" height="8" rx="0.8" {}
        }
    }
}

/// A live page around its first state, which is fetched anew from `fragment`.
pub fn whole(caller: &Caller, live: &Markup, fragment: &str) -> Markup {
    let body = html! {
        header.top {
            a.brand href="/" { (mark()) span { "Wharfage" } }
            div.who {
                @if caller.is_provider() { a href="/drills" { "Drills" } }
                span.pulse id="pulse" title="Whether the page is told of changes" {}
                span.org { (caller.organization) }
                form method="post" action="/signout" { button.quiet type="submit" { "Sign out" } }
            }
        }
        main id="live" data-fragment=(fragment) { (live) }
        noscript {
            p.note { "Without script this page shows the state of its loading: reload it for news." }
        }
        script src="/assets/dashboard.js" defer {}
    };
    frame("Wharfage", &body)
}

/// The sign-in page.
pub fn sign_in(refused: Option<&str>) -> Markup {
    let body = html! {
        main.door {
            div.brand { (mark()) span { "Wharfage" } }
            form method="post" action="/signin" {
                label for="token" { "Token" }
                input id="token" name="token" type="password" autocomplete="current-password"
                    required autofocus;
                @if let Some(refused) = refused { p.refused role="alert" { (refused) } }
                button type="submit" { "Sign in" }
            }
            p.note { "A token with the role viewer or operator." }
        }
    };
    frame("Wharfage: sign in", &body)
}

/// A page that says what went wrong.
pub fn error(detail: &str) -> Markup {
    let body = html! {
        main.door {
            div.brand { (mark()) span { "Wharfage" } }
            p { (detail) }
            p { a href="/" { "To the live page" } }
        }
    };
    frame("Wharfage", &body)
}
