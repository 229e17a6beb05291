//! How the program ends: one sentence on standard error and one of the stated codes.

use std::process::ExitCode;

/// A check or an expectation failed.
const CHECK: u8 = 1;
/// The command line cannot be understood.
const USAGE: u8 = 64;
/// Input data cannot be read.
const DATA: u8 = 65;
/// A needed service is not there.
const UNAVAILABLE: u8 = 69;
/// The configuration is bad.
const CONFIGURATION: u8 = 78;

/// Why the program ends otherwise than well.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    /// A check or an expectation failed (1).
    pub fn check(sentence: impl Into<String>) -> Self {
        Self { code: CHECK, sentence: sentence.into() }
    }

    /// The command line asks for something that does not fit together (64).
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self { code: USAGE, sentence: sentence.into() }
    }

    /// Input data is bad: file, line and field are in the sentence (65).
    pub fn data(sentence: impl Into<String>) -> Self {
        Self { code: DATA, sentence: sentence.into() }
    }

    /// A needed service or program is not there (69).
    pub fn unavailable(sentence: impl Into<String>) -> Self {
        Self { code: UNAVAILABLE, sentence: sentence.into() }
    }

    /// The configuration is bad: file or variable, and key, are in the sentence (78).
    pub fn configuration(sentence: impl Into<String>) -> Self {
        Self { code: CONFIGURATION, sentence: sentence.into() }
    }

    /// An end that was already explained, by its code; zero is none.
    pub fn quietly(code: i32) -> Option<Self> {
        let code = u8::try_from(code).unwrap_or(CHECK);
        (code != 0).then(|| Self { code, sentence: String::new() })
    }

    /// The same with more to read below it.
    pub fn with(mut self, more: &str) -> Self {
        self.sentence.push_str(more);
        self
    }

    /// Says it and gives the code.
    pub fn report(&self) -> ExitCode {
        if !self.sentence.is_empty() {
            eprintln!("wharfage: {}", self.sentence);
        }
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// clap's own message; help and version are no error, the rest is 64 instead of clap's 2.
pub fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe leaves nobody to tell.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}
