//! Usage files: CSV rows of proven node time, checked one by one.
//!
//! Every refusal names the line and the field. Rows of one organization, region, SKU, class and
//! node are united later, so that a row given twice bills once.

use wharfage_shared::capacity::{ComputeClass, Region, Sku};
use wharfage_shared::ids::{NodeId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::terms::check_name;
use crate::timestamp::{parse_rfc3339, to_rfc3339};

const FIELDS: [&str; 7] =
    ["organization", "region", "sku", "compute_class", "node", "start", "end"];

/// One node's time for one organization, half-open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// For whom.
    pub organization: OrganizationId,
    /// Where.
    pub region: Region,
    /// Which instance type.
    pub sku: Sku,
    /// How the node was sold.
    pub compute_class: ComputeClass,
    /// Which node.
    pub node: NodeId,
    /// First instant.
    pub start: Timestamp,
    /// End, not part of it; equal to `start` bills nothing.
    pub end: Timestamp,
}

/// A usage file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The first line is not the header.
    #[error(
        "line 1: the header is `{0}`; accepted: `organization,region,sku,compute_class,node,start,end`"
    )]
    Header(String),
    /// A row that is no row.
    #[error("line {line}: {problem}; accepted: seven fields separated by commas")]
    Row {
        /// Counted from 1, the header included.
        line: usize,
        /// What was wrong.
        problem: String,
    },
    /// A field that is not what it should be.
    #[error("line {line}, field `{field}`: {problem}")]
    Field {
        /// Counted from 1, the header included.
        line: usize,
        /// The column.
        field: &'static str,
        /// What was wrong and what is accepted.
        problem: String,
    },
}

/// The rows of a usage file: LF or CR LF, fields may be quoted, empty lines are skipped.
pub fn parse_csv(text: &str) -> Result<Vec<Usage>, UsageError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = (1..).zip(text.lines());
    let header = lines.next().map_or("", |(_, header)| header);
    if split(header).as_deref() != Ok(FIELDS.map(str::to_owned).as_slice()) {
        return Err(UsageError::Header(header.chars().take(200).collect()));
    }
    lines.filter(|(_, row)| !row.is_empty()).map(|(line, row)| parse_row(line, row)).collect()
}

fn parse_row(line: usize, row: &str) -> Result<Usage, UsageError> {
    let fields = split(row).map_err(|problem| UsageError::Row { line, problem })?;
    let fields: [String; 7] = fields.try_into().map_err(|fields: Vec<String>| UsageError::Row {
        line,
        problem: format!("it has {} fields", fields.len()),
    })?;
    let wrong = |field, problem: String| UsageError::Field { line, field, problem };
    for (field, value) in FIELDS.into_iter().zip(&fields) {
        check_name(value).map_err(|problem| wrong(field, problem))?;
    }
    let [organization, region, sku, compute_class, node, start, end] = fields;
    let compute_class = match compute_class.as_str() {
        "standard" => ComputeClass::Standard,
        "spot" => ComputeClass::Spot,
        other => {
            let problem = format!("`{other}`; accepted: standard, spot");
            return Err(wrong("compute_class", problem));
        }
    };
    let instant =
        |field, text: &str| parse_rfc3339(text).map_err(|error| wrong(field, error.to_string()));
    let (start, end) = (instant("start", &start)?, instant("end", &end)?);
    if end < start {
        let (start, end) = (to_rfc3339(start), to_rfc3339(end));
        let problem = format!("{end}; accepted: an instant not before the start, {start}");
        return Err(wrong("end", problem));
    }
    Ok(Usage {
        organization: OrganizationId::new(organization),
        region: Region::new(&region),
        sku: Sku::new(&sku),
        compute_class,
        node: NodeId::new(node),
        start,
        end,
    })
}

/// The fields of one line; a field in double quotes may hold commas, and quotes written twice.
fn split(row: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = row;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("something follows a closing quote".to_owned()),
        }
    }
}

/// What stands before the closing quote, and what comes after it.
fn unquote(quoted: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').ok_or("a quote is not closed on its line")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = "organization,region,sku,compute_class,node,start,end";
    const ROW: &str = "acme,US,gpu,standard,a,2026-06-01T00:00:00Z,2026-06-01T01:00:00Z";

    fn parse(row: &str) -> Result<Vec<Usage>, String> {
        parse_csv(&format!("{HEADER}\n{ROW}\n{row}\n")).map_err(|error| error.to_string())
    }

    #[test]
    fn quotes_line_ends_and_empty_lines_do_not_matter() {
        let plain = parse_csv(&format!("{HEADER}\n{ROW}\n")).expect("a good file");
        assert_eq!(plain.len(), 1);
        let quoted = ROW.replace("acme", "\"acme\"").replace(",US,", ",\"US\",");
        let other = format!("\u{feff}{HEADER}\r\n\r\n{quoted}\r\n\r\n");
        assert_eq!(parse_csv(&other).expect("the same file"), plain);
        let comma = parse(&ROW.replace("acme", "\"a \"\"b\"\", c\"")).expect("a good file");
        assert_eq!(comma[1].organization.as_str(), "a \"b\", c");
    }

    #[test]
    fn a_bad_row_names_its_line_and_field() {
        let cases = [
            (
                ROW.replace("standard", "Spot"),
                "line 3, field `compute_class`: `Spot`; accepted: standard, spot",
            ),
            (
                ROW.replace("acme", ""),
                "line 3, field `organization`: \"\"; accepted: 1 to 256 printable",
            ),
            (
                ROW.replace(",a,", ", a,"),
                "line 3, field `node`: \" a\"; accepted: 1 to 256 printable",
            ),
            (ROW.replace("T00:00:00Z", ""), "line 3, field `start`: `2026-06-01` is no instant"),
            (
                ROW.replace("01:00", "25:00"),
                "line 3, field `end`: `2026-06-01T25:00:00Z` is no instant",
            ),
            (
                ROW.replace("T01", "T00").replace("01T00:00:00Z,", "01T00:00:01Z,"),
                "line 3, field `end`: 2026-06-01T00:00:00Z; accepted: an instant not before the start, 2026-06-01T00:00:01Z",
            ),
            (ROW.replace(",US,", ","), "line 3: it has 6 fields; accepted: seven fields"),
            (format!("{ROW},"), "line 3: it has 8 fields"),
            (ROW.replace("acme", "\"acme"), "line 3: a quote is not closed on its line"),
            (ROW.replace("acme", "\"acme\"s"), "line 3: something follows a closing quote"),
        ];
        for (row, expected) in cases {
            let refusal = parse(&row).expect_err(&row);
            assert!(refusal.starts_with(expected), "{row}\n{refusal}\nexpected: {expected}");
        }
    }

    #[test]
    fn a_file_without_its_header_is_refused() {
        for text in ["", "\n", ROW, "organization,region", "Organization,region,sku"] {
            let refused = parse_csv(text);
            assert!(matches!(refused, Err(UsageError::Header(_))), "{text}: {refused:?}");
        }
        assert_eq!(parse_csv(HEADER), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\PC,\"\n\r]{0,60}") {
            let _ = parse_csv(&text);
            let _ = parse(&text);
        }
    }
}
