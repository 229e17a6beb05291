//! Bills as people and programs read them.

mod csv;
mod focus;
mod json;
mod table;

pub use self::table::TABLE_HEADER;
