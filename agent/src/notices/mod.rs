//! Where the node hears that it will be taken away. One source so far: a file.

mod ear;
pub mod file;
pub mod watch;
