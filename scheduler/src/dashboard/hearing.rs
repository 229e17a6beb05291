//! How a node hears of its end: what its card says of its sources, and of what is merely likely.

use maud::{Markup, html};

use super::fragment::word;
use crate::http::rows::hearing::SourceRow;
use crate::http::rows::node::Row;

pub(super) fn of_node(node: &Row) -> Markup {
    let vital = node.hearing.sources.iter().filter(|source| source.vital);
    html! {
        @for source in vital {
            p.said title=(source.trouble.as_deref().unwrap_or("it answers")) {
                "hears " (word(&source.source)) " " (source.question) ": " (age(source))
            }
        }
        @for likely in &node.hearing.likely {
            p.because title=(likely.id) {
                "may leave by " (likely.gone_at) " (" (word(&likely.source)) ", likely)"
            }
        }
    }
}

fn age(source: &SourceRow) -> String {
    match source.last_heard_seconds {
        Some(seconds) => format!("{seconds} s ago"),
        None => "never".to_owned(),
    }
}
