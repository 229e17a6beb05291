//! The development engine as a process, seen by its clients and by who starts and stops it.

#![expect(clippy::expect_used, reason = "a test states what it relies on")]

mod api;
mod cuda;
mod life;
mod support;
