//! The public list prices that an installation of `dev` starts with (USD per instance-hour,
//! North America, as published on 22 August 2026).

/// SKU, on-demand, spot, GPUs, inference price per GPU-hour.
pub type ListPrice = (&'static str, &'static str, Option<&'static str>, u32, &'static str);

/// Instance types that have a public on-demand price.
pub const LIST: [ListPrice; 10] = [
    ("gb200-4x", "42.00", None, 4, "10.50"),
    ("b200-8x", "68.80", Some("34.11"), 8, "8.60"),
    ("gd-8xh200ib-i128", "50.44", Some("20.93"), 8, "6.31"),
    ("gd-8xh100ib-i128", "49.24", Some("19.71"), 8, "6.16"),
    ("rtxp6000-8x", "20.00", Some("11.09"), 8, "2.50"),
    ("gd-8xl40s-i128", "18.00", Some("7.88"), 8, "2.25"),
    ("gd-8xl40-i128", "10.00", Some("6.27"), 8, "1.25"),
    ("gd-8xa100-i128", "21.60", Some("9.65"), 8, "2.70"),
    ("gd-1xgh200", "6.50", None, 1, "6.50"),
    ("gd-8xb200ib-i128", "68.80", Some("34.11"), 8, "8.60"),
];
