//! `wharfage rate`: the billing core on files.

use std::path::Path;

use wharfage_billing::TABLE_HEADER;
use wharfage_billing::terms::{RawTerms, Terms};
use wharfage_billing::timestamp::parse_rfc3339;
use wharfage_billing::usage;
use wharfage_shared::time::Timestamp;

use crate::args::{RateArgs, RateFormat};
use crate::exit::Failure;
use crate::files;
use crate::output;

/// Who issues what is rated from files.
const ISSUER: &str = "Wharfage";

/// Reads both files, rates the period, prints the lines.
pub fn run(args: &RateArgs) -> Result<(), Failure> {
    let from = instant("--from", &args.from)?;
    let to = instant("--to", &args.to)?;
    if to <= from {
        return Err(Failure::usage("--to does not lie after --from"));
    }
    let terms = terms(&args.terms)?;
    let text = files::text(&args.usage)?;
    let usage = usage::parse_csv(&text)
        .map_err(|error| Failure::data(format!("{}: {error}", args.usage.display())))?;
    let bill = wharfage_billing::rate(&terms, &usage, from, to)
        .map_err(|error| Failure::data(format!("{}: {error}", args.terms.display())))?;
    match args.format {
        RateFormat::Json => println!("{}", bill.to_json()),
        RateFormat::Csv => print!("{}", bill.to_csv()),
        RateFormat::Focus => print!("{}", bill.to_focus(ISSUER)),
        RateFormat::Table => println!("{}", output::plain(TABLE_HEADER, &bill.to_table_rows())),
    }
    Ok(())
}

fn instant(flag: &str, text: &str) -> Result<Timestamp, Failure> {
    parse_rfc3339(text).map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

fn terms(path: &Path) -> Result<Terms, Failure> {
    let text = files::text(path)?;
    let bad = |error: String| Failure::data(format!("{}: {error}", path.display()));
    let raw: RawTerms = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
    raw.check().map_err(|error| bad(error.to_string()))
}
