//! A bill as CSV: one row per line, the columns of the JSON.

use crate::bill::Bill;
use crate::timestamp::to_rfc3339;

const HEADER: &str = "organization,region,sku,contract,line,quantity_ms,quantity_hours,rate,amount,\
                      start,end\n";

impl Bill {
    /// The bill as CSV, a header first, LF, without the total: the amounts' column adds up to it.
    pub fn to_csv(&self) -> String {
        let mut text = HEADER.to_owned();
        for line in &self.lines {
            let amount = line.charge.amount().map(|amount| amount.to_string());
            let rate = line.charge.rate().map(|rate| rate.to_string());
            let fields = [
                quoted(line.organization.as_str()),
                quoted(line.region.as_str()),
                quoted(line.sku.as_str()),
                quoted(line.contract.as_ref().map_or("", |contract| contract.as_str())),
                line.kind.to_string(),
                line.quantity.0.to_string(),
                line.quantity.hours(),
                rate.unwrap_or_default(),
                amount.unwrap_or_default(),
                to_rfc3339(line.start),
                to_rfc3339(line.end),
            ];
            text.push_str(&fields.join(","));
            text.push('\n');
        }
        text
    }
}

/// A field in quotes where it needs them.
pub fn quoted(field: &str) -> String {
    if field.contains(['"', ',']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
