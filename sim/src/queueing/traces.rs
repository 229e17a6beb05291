//! Recorded requests: when each came and how long it was served.

use wharfage_shared::time::Millis;

use crate::table::{BadTrace, Row, Table};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it came, since the first.
    pub at: Millis,
    /// How long it takes in a slot.
    pub service: Millis,
}

/// The longest series that is read, in seconds: a year.
const LONGEST: f64 = 366.0 * 86_400.0;

/// The most tokens of a request.
const MOST_TOKENS: u64 = 100_000_000;

/// The longest request that is read, in seconds: a day.
const LONGEST_SERVICE: u64 = 86_400;

/// Conversations (`t_seconds`, `prompt_tokens`, `output_tokens`): 8,000 tokens of a prompt a second,
/// 40 of the output.
pub fn conversations(file: &str, text: &str) -> Result<Vec<Request>, BadTrace> {
    let mut requests = Vec::new();
    for row in Table::new(file, text, &["t_seconds", "prompt_tokens", "output_tokens"])? {
        let (prompt, output) = (row.number(1, MOST_TOKENS)?, row.number(2, MOST_TOKENS)?);
        requests.push(Request { at: at(&row)?, service: Millis(prompt / 8 + output * 25) });
    }
    in_order(file, requests)
}

/// Images (`t_seconds`, `exec_seconds`); those without a measured time are left out.
pub fn images(file: &str, text: &str) -> Result<Vec<Request>, BadTrace> {
    let mut requests = Vec::new();
    for row in Table::new(file, text, &["t_seconds", "exec_seconds"])? {
        let at = at(&row)?;
        let seconds = if row.text(1).is_empty() { 0 } else { row.number(1, LONGEST_SERVICE)? };
        if seconds > 0 {
            requests.push(Request { at, service: Millis::from_seconds(seconds) });
        }
    }
    in_order(file, requests)
}

fn at(row: &Row<'_>) -> Result<Millis, BadTrace> {
    let seconds = row.text(0).parse().ok().filter(|at: &f64| (0.0..=LONGEST).contains(at));
    let seconds = seconds.ok_or_else(|| row.wrong(0, format!("seconds from 0 to {LONGEST}")))?;
    Ok(Millis((seconds * 1000.0).round() as u64))
}

fn in_order(file: &str, mut requests: Vec<Request>) -> Result<Vec<Request>, BadTrace> {
    requests.sort_by_key(|request| request.at);
    let Some(first) = requests.first().map(|request| request.at) else {
        let what = "there is no request in it".to_owned();
        return Err(BadTrace::Empty { file: file.to_owned(), what });
    };
    for request in &mut requests {
        request.at = request.at - first;
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_the_order_of_their_arrival_from_the_first_on() {
        let text = "t_seconds,prompt_tokens,output_tokens\n9.5,800,40\n4.314579,80,4\n";
        let second = Request { at: Millis(5185), service: Millis(1100) };
        let first = Request { at: Millis(0), service: Millis(110) };
        assert_eq!(conversations("c.csv", text), Ok(vec![first, second]));
        let text = "t_seconds,exec_seconds,status\n7,3,SUCCEED\n8,,FAILED\n9,0,PENDING\n";
        let one = Request { at: Millis(0), service: Millis(3000) };
        assert_eq!(images("i.csv", text), Ok(vec![one]));
    }

    #[test]
    fn a_bad_line_is_refused_with_its_number_and_column() {
        let head = "t_seconds,exec_seconds\n";
        for (row, words) in [
            ("x,1\n", "i.csv: line 2: t_seconds is `x`"),
            ("1,-1\n", "i.csv: line 2: exec_seconds is `-1`"),
            ("", "there is no request in it"),
        ] {
            let error = images("i.csv", &format!("{head}{row}")).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
