//! The driver and the listener for machines, on real files, sockets and processes.

mod failing;
mod full;
mod kills;
mod logs;
mod machine;
mod machines;
mod node;
mod order;
mod process;
mod replay;
mod support;
