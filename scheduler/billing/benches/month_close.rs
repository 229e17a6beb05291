//! The cost of closing a month.

fn main() {}
