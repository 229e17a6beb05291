//! What a rehearsal found, as JSON and as text.

use serde_json::{Value, json};

use crate::output::{cell, plain};

/// The report of a rehearsal.
pub struct Report(pub Value);

impl Report {
    /// Whether every request got its whole answer and every drill passed, and the sentence.
    pub fn verdict(&self) -> (bool, String) {
        let report = &self.0;
        let count = |key: &str| report["requests"][key].as_u64().unwrap_or_default();
        let mut missed = Vec::new();
        for (key, what) in
            [("failed", "failed"), ("cut", "were cut"), ("unfinished", "were not finished")]
        {
            if count(key) > 0 {
                missed.push(format!("{} of {} requests {what}", count(key), count("sent")));
            }
        }
        for drill in report["interruptions"].as_array().into_iter().flatten() {
            if drill["verdict"] != "passed" {
                let sentence = cell(drill.get("sentence"));
                missed.push(format!("drill {}: {sentence}", cell(drill.get("profile"))));
            }
        }
        if count("sent") == 0 {
            missed.push("no request was sent".to_owned());
        }
        let met = missed.is_empty();
        let sentence = if met {
            format!("{} requests, each answered to its end", count("sent"))
        } else {
            missed.join("; ")
        };
        (met, sentence)
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let report = &self.0;
        let at = |pointer: &str| cell(report.pointer(pointer));
        let mut lines = vec![format!(
            "{} of {} requests in {} s at {} times their pace{}",
            at("/requests/sent"),
            at("/load/requests"),
            at("/seconds"),
            at("/load/speed"),
            if report["interrupted"] == true { ", interrupted" } else { "" },
        )];
        lines.push(format!(
            "completed {}, failed {}, cut {}, unfinished {}, sent late {}",
            at("/requests/completed"),
            at("/requests/failed"),
            at("/requests/cut"),
            at("/requests/unfinished"),
            at("/requests/late"),
        ));
        for (kind, count) in report["requests"]["failures"].as_object().into_iter().flatten() {
            lines.push(format!("  {}: {count}", crate::output::printable(kind)));
        }
        let latency =
            [("first byte", "first_byte"), ("whole answer", "total")].map(|(name, key)| {
                let [p50, p90, p99, max] =
                    ["p50", "p90", "p99", "max"].map(|of| at(&format!("/latency_ms/{key}/{of}")));
                [name.to_owned(), p50, p90, p99, max]
            });
        lines.push(String::new());
        lines.push(plain(["LATENCY, MS", "P50", "P90", "P99", "MAX"], &latency));
        let changes = report.pointer("/scaling/changes").and_then(Value::as_array);
        let changes: Vec<[String; 4]> = changes
            .into_iter()
            .flatten()
            .map(|row| ["t_seconds", "desired", "placed", "ready"].map(|key| cell(row.get(key))))
            .collect();
        lines.push(String::new());
        lines.push(plain(["T, S", "DESIRED", "PLACED", "READY"], &changes));
        let drills = report["interruptions"].as_array().into_iter().flatten().map(|row| {
            ["at_seconds", "profile", "window_seconds", "verdict", "sentence"]
                .map(|key| cell(row.get(key)))
        });
        let drills: Vec<[String; 5]> = drills.collect();
        if !drills.is_empty() {
            lines.push(String::new());
            lines.push(plain(["T, S", "DRILL", "WINDOW, S", "VERDICT", "SENTENCE"], &drills));
        }
        let plans = report["cost"].as_array().into_iter().flatten().map(|row| {
            ["plan", "amount", "per_hour", "per_1000_requests", "currency", "because"]
                .map(|key| cell(row.get(key)))
        });
        let header = ["PLAN", "AMOUNT", "AN HOUR", "1000 REQUESTS", "CURRENCY", "BECAUSE"];
        lines.push(String::new());
        lines.push(plain(header, &plans.collect::<Vec<[String; 6]>>()));
        lines.push(String::new());
        lines.push(self.verdict().1);
        lines.join("\n")
    }

    /// Puts the verdict into it.
    pub fn judged(mut self) -> Self {
        let (met, sentence) = self.verdict();
        self.0["verdict"] = json!(if met { "passed" } else { "failed" });
        self.0["sentence"] = json!(sentence);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use serde_json::json;

    #[test]
    fn a_rehearsal_passes_when_every_answer_was_whole_and_every_drill_passed() {
        let report = |requests: [u64; 4], drill: &str| {
            let [sent, failed, cut, unfinished] = requests;
            let requests =
                json!({"sent": sent, "failed": failed, "cut": cut, "unfinished": unfinished});
            let drill = json!({"profile": "gcp-30", "verdict": drill, "sentence": "so it is"});
            Report(json!({"requests": requests, "interruptions": [drill]})).verdict()
        };
        assert!(report([5, 0, 0, 0], "passed").0);
        let cases = [
            ([0, 0, 0, 0], "passed", "no request was sent"),
            ([5, 1, 0, 0], "passed", "1 of 5 requests failed"),
            ([5, 0, 2, 0], "passed", "2 of 5 requests were cut"),
            ([5, 0, 0, 3], "passed", "3 of 5 requests were not finished"),
            ([5, 0, 0, 0], "aborted", "drill gcp-30: so it is"),
            ([5, 0, 0, 0], "not begun", "drill gcp-30: so it is"),
        ];
        for (requests, drill, sentence) in cases {
            assert_eq!(report(requests, drill), (false, sentence.to_owned()));
        }
    }
}
