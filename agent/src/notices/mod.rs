//! Where the node hears that it will be taken away. One source so far: a file.

pub mod file;
