//! Rows of the API as tables for people.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::args::Output;
use crate::exit::Failure;

/// A column: its title and where in a row its value is (a JSON pointer; `#` before it = how many
/// there are; after `|` where else it may be).
pub type Column = (&'static str, &'static str);

/// Prints an API answer as it came, or as a table of the rows under `plural`.
pub fn rows(answer: &Value, plural: &str, columns: &[Column], how: Output) -> Result<(), Failure> {
    match how {
        Output::Json => json(answer),
        Output::Table => {
            let none = Vec::new();
            let rows = answer.get(plural).and_then(Value::as_array).unwrap_or(&none);
            println!("{}", table(rows, columns));
            Ok(())
        }
    }
}

/// A table of JSON rows.
pub fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|(title, _)| *title));
    for row in rows {
        table.add_row(columns.iter().map(|(_, at)| match at.strip_prefix('#') {
            Some(list) => {
                row.pointer(list).and_then(Value::as_array).map_or(0, Vec::len).to_string()
            }
            None => cell(at.split('|').find_map(|at| row.pointer(at))),
        }));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A table of plain text.
pub fn plain<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table.add_rows(rows.iter().map(|row| row.iter()));
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A value as a person reads it.
pub fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(Value::Array(values)) if values.is_empty() => "-".to_owned(),
        Some(Value::Array(values)) => {
            values.iter().map(|value| cell(Some(value))).collect::<Vec<_>>().join(", ")
        }
        Some(Value::Object(map)) => {
            map.iter().map(|(k, v)| format!("{k}={}", cell(Some(v)))).collect::<Vec<_>>().join(" ")
        }
        Some(plain @ (Value::Bool(_) | Value::Number(_))) => plain.to_string(),
    }
}

/// Text from elsewhere without what could steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One thing as `key: value` lines, nested things indented below their key.
pub fn described(value: &Value, how: Output) -> Result<(), Failure> {
    match how {
        Output::Json => json(value),
        Output::Table => {
            print_under(value, 0);
            Ok(())
        }
    }
}

fn print_under(value: &Value, depth: usize) {
    let Value::Object(map) = value else {
        println!("{:indent$}{}", "", cell(Some(value)), indent = depth * 2);
        return;
    };
    for (key, inner) in map {
        let nested = match inner {
            Value::Object(map) => !map.is_empty(),
            Value::Array(values) => values.iter().any(Value::is_object),
            _ => false,
        };
        if !nested {
            println!("{:indent$}{key}: {}", "", cell(Some(inner)), indent = depth * 2);
            continue;
        }
        println!("{:indent$}{key}:", "", indent = depth * 2);
        match inner {
            Value::Array(values) => {
                for value in values {
                    println!("{:indent$}- {}", "", cell(Some(value)), indent = depth * 2 + 2);
                }
            }
            other => print_under(other, depth + 1),
        }
    }
}

/// The answer as JSON.
pub fn json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::check(format!("cannot print the answer: {error}")))?;
    println!("{text}");
    Ok(())
}
