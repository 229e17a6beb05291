//! Recorded traffic: read line by line, so that a long recording costs no memory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// What the first line says.
const HEADER: &str = "t_seconds,prompt_tokens,output_tokens";

/// A longer line is none of a recording: it is not read to its end.
const LONGEST_LINE: u64 = 1_024;

/// A later request is none of a recording: ten years.
const LATEST: f64 = 3.2e8;

/// More tokens than any engine takes.
const MOST_TOKENS: u32 = 1_000_000;

/// One recorded request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Seconds from the beginning of the recording.
    pub at: f64,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Tokens of its answer.
    pub output_tokens: u32,
}

/// A recording, from its first request on.
pub struct Recording {
    path: PathBuf,
    lines: BufReader<File>,
    number: u64,
    last: f64,
}

/// What is in a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extent {
    /// How many requests.
    pub requests: u64,
    /// When the last one comes.
    pub seconds: f64,
}

/// Reads the whole recording once, so that nothing is sent of one with a bad line.
pub fn check(path: &Path) -> Result<Extent, Failure> {
    let mut recording = Recording::open(path)?;
    let mut extent = Extent::default();
    while let Some(arrival) = recording.next()? {
        extent = Extent { requests: extent.requests + 1, seconds: arrival.at };
    }
    if extent.requests == 0 {
        return Err(recording.bad("the file ends where a request was expected"));
    }
    Ok(extent)
}

impl Recording {
    /// Opens it and reads its header.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path)
            .map_err(|error| Failure::data(format!("cannot read `{}`: {error}", path.display())))?;
        let lines = BufReader::new(file);
        let mut recording = Self { path: path.to_owned(), lines, number: 0, last: 0.0 };
        match recording.line()? {
            Some(line) if line == HEADER => Ok(recording),
            Some(line) => {
                Err(recording.bad(&format!("`{}` where `{HEADER}` was expected", shown(&line))))
            }
            None => Err(recording.bad(&format!("the file ends where `{HEADER}` was expected"))),
        }
    }

    /// The next request; nothing at the end.
    pub fn next(&mut self) -> Result<Option<Arrival>, Failure> {
        let Some(line) = self.line()? else { return Ok(None) };
        let arrival = read(&line).map_err(|problem| self.bad(&problem))?;
        if arrival.at < self.last {
            let text = format!(
                "t_seconds: {} after {}; accepted: not before the line above",
                arrival.at, self.last
            );
            return Err(self.bad(&text));
        }
        self.last = arrival.at;
        Ok(Some(arrival))
    }

    /// The next line without its end.
    fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut bytes = Vec::new();
        self.number += 1;
        let mut limited = std::io::Read::take(&mut self.lines, LONGEST_LINE);
        let read = limited.read_until(b'\n', &mut bytes);
        read.map_err(|error| self.bad(&format!("it cannot be read: {error}")))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if bytes.len() as u64 == LONGEST_LINE {
            return Err(self.bad("the line is longer than 1024 bytes"));
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        String::from_utf8(bytes).map(Some).map_err(|_| self.bad("it is no UTF-8"))
    }

    fn bad(&self, problem: &str) -> Failure {
        Failure::data(format!("{}:{}: {problem}", self.path.display(), self.number))
    }
}

fn read(line: &str) -> Result<Arrival, String> {
    let fields: Vec<&str> = line.split(',').collect();
    let [at, prompt, output] = fields[..] else {
        return Err(format!("{} fields where {HEADER} were expected", fields.len()));
    };
    let plain = at.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let seconds = at.parse::<f64>().ok().filter(|at| plain && *at <= LATEST);
    let seconds = seconds.ok_or_else(|| {
        format!("t_seconds: `{}`; accepted: seconds such as 12.5, from 0 on", shown(at))
    })?;
    Ok(Arrival {
        at: seconds,
        prompt_tokens: tokens("prompt_tokens", prompt)?,
        output_tokens: tokens("output_tokens", output)?,
    })
}

fn tokens(field: &str, text: &str) -> Result<u32, String> {
    let plain = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let count = text.parse().ok().filter(|count| plain && *count <= MOST_TOKENS);
    count.ok_or_else(|| {
        format!("{field}: `{}`; accepted: a whole number from 0 to {MOST_TOKENS}", shown(text))
    })
}

/// The beginning of what was found, without what could steer a terminal.
fn shown(text: &str) -> String {
    crate::output::printable(&text.chars().take(60).collect::<String>())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test states what it relies on")]
mod tests {
    use super::{Extent, check};

    /// What is said of a recording with these lines below its header.
    fn said(name: &str, text: &str) -> Result<Extent, String> {
        let file = format!("wharfage-recording-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(file);
        std::fs::write(&path, text).unwrap();
        let said = check(&path).map_err(|failure| failure.to_string());
        std::fs::remove_file(&path).unwrap();
        said.map_err(|text| text.replace(&path.display().to_string(), ""))
    }

    #[test]
    fn a_recording_is_measured_and_a_bad_line_is_named_with_its_number() {
        let head = "t_seconds,prompt_tokens,output_tokens\n";
        let good = format!("{head}0,374,44\r\n4.314579,396,109\n4.5,0,1");
        assert_eq!(said("good", &good), Ok(Extent { requests: 3, seconds: 4.5 }));
        let cases = [
            ("", ":1: the file ends where `t_seconds"),
            ("t,p,o\n", ":1: `t,p,o` where `t_seconds,prompt_tokens,output_tokens` was expected"),
            ("+", ":2: the file ends where a request was expected"),
            ("+0,1,1\n\n", ":3: 1 fields where"),
            ("+0,1,1\n1,2,3,4\n", ":3: 4 fields where"),
            ("+-1,1,1\n", ":2: t_seconds: `-1`; accepted: seconds"),
            ("+NaN,1,1\n", ":2: t_seconds: `NaN`"),
            ("+1e400,1,1\n", ":2: t_seconds: `1e400`"),
            ("+1,1,1\n0.5,1,1\n", ":3: t_seconds: 0.5 after 1; accepted"),
            ("+0,+5,1\n", ":2: prompt_tokens: `+5`"),
            ("+0,5,1000001\n", ":2: output_tokens: `1000001`; accepted: a whole number"),
        ];
        for (number, (text, expected)) in cases.into_iter().enumerate() {
            let text =
                text.strip_prefix('+').map_or(text.to_owned(), |rest| format!("{head}{rest}"));
            let error = said(&format!("bad{number}"), &text).unwrap_err();
            assert!(error.contains(expected), "{text:?} gave {error:?}, not {expected:?}");
        }
        let long = format!("{head}0,1,{}\n", "1".repeat(5_000));
        assert!(said("long", &long).unwrap_err().contains(":2: the line is longer than 1024"));
    }
}
