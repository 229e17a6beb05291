//! The page, for people and for programs.

use std::fmt::{self, Write};

use serde::Serialize;

use super::{Finding, State};

/// Lines are filled up to here; a terminal shows them whole.
const WIDTH: usize = 100;

/// Where the sentence of a row begins.
const INDENT: usize = 22;

/// Everything that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The node's name.
    pub node: String,
    /// The user that looked: what others may do is not seen.
    pub user: u32,
    /// In the order of the page.
    pub findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Row<'a> {
    node: &'a str,
    agent_version: &'a str,
    uid: u32,
    broken: usize,
    limited: usize,
    findings: &'a [Finding],
}

impl Page {
    /// Things that are needed and not usable.
    pub fn broken(&self) -> usize {
        self.count(State::Broken)
    }

    /// The page as JSON.
    pub fn json(&self) -> String {
        let row = Row {
            node: &self.node,
            agent_version: env!("CARGO_PKG_VERSION"),
            uid: self.user,
            broken: self.broken(),
            limited: self.count(State::Limited),
            findings: &self.findings,
        };
        // Text and numbers: turning them into JSON cannot fail.
        serde_json::to_string_pretty(&row).unwrap_or_default()
    }

    fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broken, limited) = (self.broken(), self.count(State::Limited));
        let sum = match (broken, limited) {
            (0, 0) => "everything works".to_owned(),
            (0, limited) => format!("everything that is needed works, {limited} limited"),
            (broken, limited) => format!("{broken} broken, {limited} limited"),
        };
        let version = env!("CARGO_PKG_VERSION");
        writeln!(
            f,
            "wharfage-agent {version} on `{}`, seen by uid {}: {sum}\n",
            self.node, self.user
        )?;
        let mut before = "";
        for finding in &self.findings {
            let word = match finding.state {
                State::Works => "works",
                State::Limited => "limited",
                State::Broken => "BROKEN",
            };
            let subject = if finding.subject == before { "" } else { finding.subject };
            before = finding.subject;
            write!(f, "{subject:<12} {word:<8} ")?;
            f.write_str(&filled(&finding.detail))?;
            if let Some(fix) = &finding.fix {
                write!(f, "{:INDENT$}{}", "", filled(&format!("fix: {fix}")))?;
            }
        }
        Ok(())
    }
}

/// A sentence in lines of the page's width, every line after the first indented.
fn filled(text: &str) -> String {
    let mut lines = String::new();
    let mut length = INDENT;
    for (index, word) in text.split_whitespace().enumerate() {
        let letters = word.chars().count();
        if index > 0 && length + 1 + letters > WIDTH {
            // Writing into a string cannot fail.
            let _ = write!(lines, "\n{:INDENT$}", "");
            length = INDENT;
        } else if index > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += letters;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_each_subject_once_and_gives_the_fix_below_it() {
        let long = "word ".repeat(30);
        let page = Page {
            node: "node-1".to_owned(),
            user: 0,
            findings: vec![
                Finding::works("clock", "synchronised"),
                Finding::broken("disk", "`/var` is full", "make room"),
                Finding::limited("disk", long.trim(), long.trim()),
            ],
        };
        let text = page.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("on `node-1`, seen by uid 0: 1 broken, 1 limited"), "{text}");
        assert_eq!(lines[2], "clock        works    synchronised");
        assert_eq!(lines[3], "disk         BROKEN   `/var` is full");
        assert_eq!(lines[4], "                      fix: make room");
        assert!(lines[5].starts_with("             limited  word"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        let json: serde_json::Value = serde_json::from_str(&page.json()).expect("JSON");
        assert_eq!(json["broken"], 1);
        assert_eq!(json["findings"][1]["fix"], "make room");
    }
}
