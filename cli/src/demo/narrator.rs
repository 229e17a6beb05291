//! The voice of the demo: a heading per step, a line per observation, with the time since start.

use std::time::Instant;

/// Prints what was observed.
pub struct Narrator {
    started: Instant,
}

impl Narrator {
    /// Starts the clock.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// A new step.
    pub fn step(&mut self, number: u32, title: &str) {
        println!("\n{number}. {title}");
    }

    /// One thing that was seen.
    pub fn seen(&self, what: impl AsRef<str>) {
        println!("   {:6.1} s  {}", self.started.elapsed().as_secs_f64(), what.as_ref());
    }

    /// Lines that belong to the one before.
    pub fn below(&self, lines: &str) {
        for line in lines.lines() {
            println!("             {line}");
        }
    }
}
