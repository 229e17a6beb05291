//! What `nvidia-smi` says of one GPU.

use std::ffi::OsString;
use std::process::Command;

/// What holds the clocks down, as drivers name it today.
pub const REASONS: &str = "clocks_event_reasons.";

/// The program.
pub struct Smi {
    pub program: OsString,
}

/// A process as it lists it: its pid, and its MiB where they are told.
pub type Listed = (u32, Option<u64>);

impl Smi {
    /// The values of these names, in their order; none for a name that this version does not know.
    pub fn ask(
        &self,
        query: &str,
        names: &[&str],
        index: u32,
    ) -> Result<Vec<Option<String>>, String> {
        let all = self.run(query, &names.join(","), index)?;
        if let Ok(values) = all
            && values.len() == names.len()
        {
            return Ok(values.into_iter().map(Some).collect());
        }
        // It refuses a whole question for one name: each is asked alone.
        let one = |name: &&str| {
            let mut answer = self.run(query, name, index)?;
            // Drivers before 535 call them so.
            if answer.is_err() && name.starts_with(REASONS) {
                let old = name.replace(REASONS, "clocks_throttle_reasons.");
                answer = self.run(query, &old, index)?;
            }
            Ok(answer.ok().and_then(|values| values.into_iter().next()))
        };
        names.iter().map(one).collect()
    }

    /// One line of values, or what it said when it refused the question.
    fn run(
        &self,
        query: &str,
        names: &str,
        index: u32,
    ) -> Result<Result<Vec<String>, String>, String> {
        let mut command = Command::new(&self.program);
        command.arg(format!("{query}={names}"));
        command.args(["--format=csv,noheader,nounits", "-i", &index.to_string()]);
        let said =
            command.output().map_err(|error| format!("cannot run {:?}: {error}", self.program))?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        if !said.status.success() {
            return Ok(Err(text));
        }
        let line = text.lines().next().unwrap_or_default();
        Ok(Ok(line.split(',').map(|value| value.trim().to_owned()).collect()))
    }

    /// Processes that compute on a GPU, with the MiB that they hold where it says so.
    pub fn processes(&self, index: u32) -> Result<Option<Vec<Listed>>, String> {
        let ask = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"];
        let Some(text) = self.said(&ask, index)? else { return Ok(None) };
        let process = |line: &str| {
            let (pid, mib) = line.split_once(',')?;
            Some((pid.trim().parse().ok()?, mib.trim().parse().ok()))
        };
        Ok(Some(text.lines().filter_map(process).collect()))
    }

    /// The lines `key : value` of its whole page about a GPU.
    pub fn page(&self, index: u32) -> Result<Vec<(String, String)>, String> {
        Ok(pairs(&self.said(&["-q"], index)?.unwrap_or_default(), " : "))
    }

    /// The lines `Link 0: what` about the NVLinks of a GPU: their speeds, or their errors.
    pub fn nvlinks(&self, what: &str, index: u32) -> Result<Vec<(String, String)>, String> {
        Ok(pairs(&self.said(&["nvlink", what], index)?.unwrap_or_default(), ": "))
    }

    /// What it prints, if it knows the question.
    fn said(&self, arguments: &[&str], index: u32) -> Result<Option<String>, String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["-i", &index.to_string()]);
        let said =
            command.output().map_err(|error| format!("cannot run {:?}: {error}", self.program))?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok(said.status.success().then_some(text))
    }
}

/// Lines with a last `between`: what stands before it and what behind.
fn pairs(text: &str, between: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (key, value) = line.rsplit_once(between)?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(pair).collect()
}
