//! The shipped definitions against servers that speak as the real engines do on the wire.

mod launcher;
mod server;
mod stories;
