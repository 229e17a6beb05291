//! What terms accept, and what they say when they refuse.

use super::*;

const GOOD: &str = r#"
    currency = "USD"
    [[price]]
    sku = "GD-8xB200"
    region = "US-EAST-04"
    on_demand = "68.80"
    spot = "34.11"
    gpus = 8
    gpu_hour = "9.00"
    [[price]]
    sku = "gd-8xb200"
    region = "US-EAST-04"
    on_demand = "70.00"
    from = "2026-07-01T00:00:00Z"
    [[contract]]
    id = "flex-dear"
    organization = "acme"
    plan = "flex"
    sku = "gd-8xb200"
    region = "US-EAST-04"
    gpus = 16
    start = "2026-06-01T00:00:00Z"
    end = "2027-06-01T00:00:00Z"
    holding_rate = "24.00"
    usage_rate = "30.00"
    [[contract]]
    id = "flex-cheap"
    organization = "acme"
    plan = "flex"
    sku = "gd-8xb200"
    region = "US-EAST-04"
    instances = 1
    start = "2026-06-02T00:00:00Z"
    end = "2027-06-01T00:00:00Z"
    holding_rate = "24.00"
    usage_rate = "29.99"
    [[contract]]
    id = "floor"
    organization = "acme"
    plan = "reserved"
    sku = "gd-8xb200"
    region = "US-EAST-04"
    instances = 3
    start = "2026-06-03T00:00:00Z"
    end = "2027-06-01T00:00:00Z"
    rate = "40"
"#;

fn check(text: &str) -> Result<Terms, String> {
    let raw: RawTerms = toml::from_str(text).map_err(|error| error.to_string())?;
    raw.check().map_err(|error| error.to_string())
}

#[test]
fn contracts_stand_in_the_order_of_the_fill() {
    let terms = check(GOOD).expect("good terms");
    let (sku, region) = (Sku::new("gd-8xb200"), Region::new("US-EAST-04"));
    let contracts = terms.contracts_of(&OrganizationId::from("acme"), &region, &sku);
    let order: Vec<_> = contracts.iter().map(|c| (c.id.as_str(), c.instances)).collect();
    assert_eq!(order, [("floor", 3), ("flex-cheap", 1), ("flex-dear", 2)]);
}

#[test]
fn a_price_holds_until_the_next_one() {
    let terms = check(GOOD).expect("good terms");
    let (sku, region) = (Sku::new("GD-8XB200"), Region::new("US-EAST-04"));
    let july = Timestamp(1_782_864_000_000);
    let at = |ms| terms.price_at(&sku, &region, Timestamp(ms)).map(|p| p.on_demand.to_string());
    assert_eq!(at(july.0 - 1), Some("68.80".to_owned()));
    assert_eq!(at(july.0), Some("70.00".to_owned()));
    let before = terms.price_at(&sku, &region, Timestamp(0)).map(|p| p.claim().to_string());
    assert_eq!(before, Some("72.00".to_owned()), "eight GPUs at the GPU-hour price");
    let after = terms.price_at(&sku, &region, july).map(|p| p.claim().to_string());
    assert_eq!(after, Some("70.00".to_owned()), "on_demand where no GPU-hour price is set");
    assert!(terms.prices_of(&sku, &Region::new("EU")).is_empty());
}

#[test]
fn a_refusal_names_the_entry_the_field_and_what_is_accepted() {
    let cases = [
        (r#""USD""#, r#""DOLLAR""#, "terms, field `currency`: `DOLLAR` is no known currency"),
        (r#""68.80""#, r#""68.8.0""#, "[[price]] number 1, field `on_demand`: `68.8.0` is no rate"),
        (r#""34.11""#, r#""-1""#, "[[price]] number 1, field `spot`: `-1` is no rate; accepted:"),
        (r#""68.80""#, "68.80", "expected a string"),
        ("gpus = 8", "gpus = 0", "field `gpus`: no price of `gd-8xb200` says how many GPUs"),
        ("gpus = 8", "", "field `gpus`: no price of `gd-8xb200` says how many GPUs"),
        ("gpus = 16", "gpus = 12", "accepted: whole instances of `gd-8xb200`, a multiple of 8"),
        ("gpus = 16", "", "accepted: exactly one of `instances` and `gpus`"),
        (
            r#"from = "2026-07-01T00:00:00Z""#,
            "",
            "number 1 is a price of `gd-8xb200` in `US-EAST-04`",
        ),
        (r#""2026-07-01T00:00:00Z""#, r#""July""#, "number 2, field `from`: `July` is no instant"),
        ("2026-06-02", "2028-06-02", "(`flex-cheap`), field `end`: 2027-06-01T00:00:00Z; accepted"),
        (r#""flex-cheap""#, r#""floor""#, "[[contract]] number 3 (`floor`), field `id`: number 2"),
        (r#""flex-cheap""#, r#"" ""#, "field `id`: \" \"; accepted: 1 to 256 printable"),
        ("instances = 3", "instances = 0", "field `instances`: 0; accepted: 1 to 1000000"),
        ("instances = 3", "instances = -3", "invalid value: integer `-3`, expected u32"),
        (r#""reserved""#, r#""saving""#, "field `plan`: `saving`; accepted: reserved, flex"),
        (r#"rate = "40""#, "", "field `rate`: missing; a reserved contract needs it"),
        (
            r#"rate = "40""#,
            "rate = \"40\"\nusage_rate = \"1\"",
            "a reserved contract has no such rate",
        ),
        (r#"rate = "40""#, "rate = \"40\"\ncolour = \"red\"", "unknown field `colour`"),
        (r#"usage_rate = "29.99""#, "", "(`flex-cheap`), field `usage_rate`: missing"),
    ];
    for (from, to, expected) in cases {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "`{from}` stands in the sample");
        let refusal = check(&text).expect_err(to);
        assert!(refusal.contains(expected), "`{from}` -> `{to}`:\n{refusal}\nexpected: {expected}");
    }
}
