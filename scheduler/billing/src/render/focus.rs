//! A bill as rows of FOCUS 1.4, dataset Cost and Usage.
//!
//! A flat line (Reserved, Flex holding) is a purchase whose cost is effective on two usage rows of
//! the same contract, what was used and what was not; so BilledCost and EffectiveCost both add up to
//! the bill. Wharfage publishes no prices beyond the terms: list and contracted cost are the rate's.

use crate::bill::Bill;
use crate::lines::{Line, LineKind};
use crate::money::{Currency, InstanceMs, Minor};
use crate::render::csv::quoted;
use crate::timestamp::to_rfc3339;

const COLUMNS: &str = "BilledCost,BillingAccountId,BillingAccountName,BillingCurrency,\
    BillingPeriodEnd,BillingPeriodStart,CapacityReservationId,CapacityReservationStatus,\
    ChargeCategory,ChargeClass,ChargeDescription,ChargeFrequency,ChargePeriodEnd,\
    ChargePeriodStart,ContractedCost,EffectiveCost,HostProviderName,InvoiceIssuerName,ListCost,\
    PricingCategory,PricingQuantity,PricingUnit,RegionId,RegionName,ServiceCategory,ServiceName,\
    ServiceProviderName";

/// What FOCUS wants to know of a line beyond the line.
struct Row {
    category: &'static str,
    frequency: &'static str,
    pricing: &'static str,
    /// Whether the contract's capacity was used; empty outside contracts.
    status: &'static str,
    quantity: InstanceMs,
    billed: Minor,
    effective: Minor,
    /// Quantity times rate.
    contracted: Minor,
}

impl Bill {
    /// The bill as FOCUS 1.4 Cost and Usage in CSV; `issuer` is who sends it.
    pub fn to_focus(&self, issuer: &str) -> String {
        let mut text = format!("{COLUMNS}\n");
        for line in &self.lines {
            for row in rows(line, self.total.currency()) {
                text.push_str(&self.focus_row(line, &row, issuer));
                text.push('\n');
            }
        }
        text
    }

    fn focus_row(&self, line: &Line, row: &Row, issuer: &str) -> String {
        let contract = line.contract.as_ref().map_or("", |contract| contract.as_str());
        let reservation = if row.status.is_empty() { "" } else { contract };
        let (rate_type, status) = (line.kind.rate_type(), row.status.to_lowercase());
        let under = if contract.is_empty() { String::new() } else { format!(", {contract}") };
        let mut description = format!("{} instance-hours, {rate_type}{under}", line.sku);
        if !status.is_empty() {
            description = format!("{description}, {status}");
        }
        let fields = [
            row.billed.to_string(),
            quoted(line.organization.as_str()),
            quoted(line.organization.as_str()),
            self.total.currency().to_string(),
            to_rfc3339(self.to),
            to_rfc3339(self.from),
            quoted(reservation),
            row.status.to_owned(),
            row.category.to_owned(),
            String::new(),
            quoted(&description),
            row.frequency.to_owned(),
            to_rfc3339(line.end),
            to_rfc3339(line.start),
            row.contracted.to_string(),
            row.effective.to_string(),
            quoted(issuer),
            quoted(issuer),
            row.contracted.to_string(),
            row.pricing.to_owned(),
            row.quantity.hours(),
            "Hours".to_owned(),
            quoted(line.region.as_str()),
            quoted(line.region.as_str()),
            "Compute".to_owned(),
            "GPU instances".to_owned(),
            quoted(issuer),
        ];
        fields.join(",")
    }
}

/// One row for a line of use, up to three for a flat one.
fn rows(line: &Line, currency: Currency) -> Vec<Row> {
    let zero = Minor::zero(currency);
    let amount = line.charge.amount().unwrap_or(zero);
    let usage = |pricing, status| Row {
        category: "Usage",
        frequency: "Usage-Based",
        pricing,
        status,
        quantity: line.quantity,
        billed: amount,
        effective: amount,
        contracted: amount,
    };
    match line.kind {
        LineKind::Claim | LineKind::OnDemand => vec![usage("Standard", "")],
        LineKind::Spot => vec![usage("Dynamic", "")],
        LineKind::FlexUsage => vec![usage("Committed", "Used")],
        LineKind::Credit => vec![Row { category: "Credit", ..usage("", "") }],
        LineKind::Correction => vec![Row { category: "Adjustment", ..usage("", "") }],
        LineKind::Reserved | LineKind::FlexHolding => {
            let rate = line.charge.rate();
            let of_used = rate.map_or(zero, |rate| rate.charge(line.used, currency));
            let idle = InstanceMs(line.quantity.0 - line.used.0);
            let purchase = Row {
                category: "Purchase",
                frequency: "Recurring",
                effective: zero,
                ..usage("Committed", "")
            };
            let amortised = |status, quantity, effective| Row {
                quantity,
                billed: zero,
                effective,
                contracted: effective,
                ..usage("Committed", status)
            };
            let mut rows = vec![
                purchase,
                amortised("Used", line.used, of_used),
                amortised("Unused", idle, amount - of_used),
            ];
            rows.retain(|row| row.quantity != InstanceMs::default());
            rows
        }
    }
}
