//! The rules of billing as examples and properties, each named as the sentence it holds.

mod data;
mod examples;
mod invoices;
mod oracle;
mod properties;
mod worlds;
