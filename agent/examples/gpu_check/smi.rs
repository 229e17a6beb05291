//! What `nvidia-smi` says of one GPU.

use std::ffi::OsString;
use std::process::Command;

/// The program.
pub struct Smi {
    pub program: OsString,
}

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
            let answer = self.run(query, name, index)?;
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
}
