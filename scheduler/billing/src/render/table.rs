//! A bill as rows for a table that people read.

use crate::bill::Bill;

/// The heads of [`Bill::to_table_rows`]' columns.
pub const TABLE_HEADER: [&str; 8] =
    ["ORGANIZATION", "REGION", "SKU", "CONTRACT", "RATE TYPE", "HOURS", "RATE", "AMOUNT"];

impl Bill {
    /// One row per line, then the total.
    pub fn to_table_rows(&self) -> Vec<[String; 8]> {
        let text = |field: &dyn std::fmt::Display| field.to_string();
        let mut rows: Vec<[String; 8]> = Vec::with_capacity(self.lines.len() + 1);
        for line in &self.lines {
            rows.push([
                text(&line.organization),
                text(&line.region),
                text(&line.sku),
                line.contract.as_ref().map_or("-".to_owned(), |contract| text(contract)),
                line.kind.rate_type().to_owned(),
                line.quantity.hours(),
                line.charge.rate().map_or("-".to_owned(), |rate| text(&rate)),
                line.charge.amount().map_or("no price".to_owned(), |amount| text(&amount)),
            ]);
        }
        let mut total = [const { String::new() }; 8];
        total[0] = format!("TOTAL {}", self.total.currency());
        total[7] = text(&self.total);
        rows.push(total);
        rows
    }
}
