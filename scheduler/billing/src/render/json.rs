//! A bill as JSON: decimals are strings, quantities integers, fields in a fixed order.

use serde::{Serialize, Serializer};
use serde_json::ser::PrettyFormatter;
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::{ClaimId, ContractId, OrganizationId};

use crate::bill::Bill;
use crate::lines::{Line, LineKind};
use crate::money::{InstanceMs, MicroRate, Minor};
use crate::timestamp::to_rfc3339;

#[derive(Serialize)]
struct BillJson<'a> {
    lines: &'a [Line],
    total: Minor,
}

#[derive(Serialize)]
struct LineJson<'a> {
    organization: &'a OrganizationId,
    region: &'a Region,
    sku: &'a Sku,
    contract: Option<&'a ContractId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a ClaimId>,
    line: LineKind,
    quantity_ms: InstanceMs,
    quantity_hours: String,
    rate: Option<MicroRate>,
    amount: Option<Minor>,
    start: String,
    end: String,
}

impl<'a> From<&'a Line> for LineJson<'a> {
    fn from(line: &'a Line) -> Self {
        Self {
            organization: &line.organization,
            region: &line.region,
            sku: &line.sku,
            contract: line.contract.as_ref(),
            claim: line.claim.as_ref(),
            line: line.kind,
            quantity_ms: line.quantity,
            quantity_hours: line.quantity.hours(),
            rate: line.charge.rate(),
            amount: line.charge.amount(),
            start: to_rfc3339(line.start),
            end: to_rfc3339(line.end),
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        LineJson::from(self).serialize(serializer)
    }
}

impl Bill {
    /// The bill as JSON, without a last line break.
    pub fn to_json(&self) -> String {
        let bill = BillJson { lines: &self.lines, total: self.total };
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(b" ");
        bill.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
            .expect("text and integers always have JSON");
        String::from_utf8(bytes).expect("JSON is UTF-8")
    }
}
