//! `hooks.d/<id>.toml`: what a hook's id means on this host, read anew each time it is used and
//! only from files that nobody else could have written.

use std::path::Path;

use serde::Deserialize;
use wharfage_agent_sys::trusted::{self, Owner};
use wharfage_shared::causes::with_causes;
use wharfage_shared::ids::HookId;

use super::builtin;
use crate::bad_key::{self, BadKey};
use crate::engines::definition_files;

/// No hook runs longer than a day.
const LONGEST_SECONDS: u32 = 86_400;

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// It is cut off with its whole process group after this long.
    pub timeout_seconds: u32,
    /// What it usually takes, for planning (default: learned, until then the node's estimate).
    pub expected_seconds: Option<u32>,
    /// The user that it runs as (default: the agent's own).
    pub user: Option<String>,
    /// Of a checkpoint: the engine's GPU memory lies in the host's memory while the command runs.
    #[serde(default)]
    pub gpu_checkpoint: bool,
}

impl Definition {
    /// The hook of this id, or why it is refused.
    pub fn load(folder: &Path, id: &HookId, owner: Owner) -> Result<Self, String> {
        if HookId::parse(id.as_str()).is_none() {
            return Err(format!("`{id}` is no hook id: accepted is [a-z0-9-]{{1,32}}"));
        }
        let path = folder.join(format!("{id}.toml"));
        if builtin::is_reserved(id) {
            let at = path.display();
            return Err(format!("`{at}` is refused: ids that begin with `builtin-` are no files"));
        }
        let text = trusted::read(&path, owner).map_err(|error| with_causes(&error))?;
        let definition: Self = toml::from_str(&text)
            .map_err(|error| format!("`{}`: {}", path.display(), bad_key::said(&error)))?;
        let strange = bad_key::zero_byte(&text).map_or(Ok(()), Err);
        let checked = strange.and_then(|()| definition.check(owner));
        checked.map_err(|bad| format!("`{}`: {bad}", path.display()))?;
        Ok(definition)
    }

    fn check(&self, owner: Owner) -> Result<(), BadKey> {
        let Some(program) = self.command.first().filter(|program| program.starts_with('/')) else {
            return Err(BadKey::new("command", "must begin with an absolute path".to_owned()));
        };
        trusted::check_program(Path::new(program), owner)
            .map_err(|error| BadKey::new("command", with_causes(&error)))?;
        if self.user.as_ref().is_some_and(|user| user.trim().is_empty()) {
            return Err(BadKey::new("user", "it is empty; leave the key out"));
        }
        if !(1..=LONGEST_SECONDS).contains(&self.timeout_seconds) {
            let message = format!("must be 1 to {LONGEST_SECONDS}, got {}", self.timeout_seconds);
            return Err(BadKey::new("timeout_seconds", message));
        }
        Ok(())
    }
}

/// Every hook that can be used here with its definition, and one sentence for each that is
/// refused.
pub fn list(folder: &Path, owner: Owner) -> (Vec<(HookId, Definition)>, Vec<String>) {
    let files = match definition_files(folder) {
        Ok(files) => files,
        Err(why) => return (Vec::new(), vec![why]),
    };
    let (mut known, mut refused) = (Vec::new(), Vec::new());
    for path in files {
        let id = HookId::from(path.file_stem().unwrap_or_default().to_string_lossy().as_ref());
        match Definition::load(folder, &id, owner) {
            Ok(definition) => known.push((id, definition)),
            Err(why) => refused.push(why),
        }
    }
    (known, refused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Folder;

    fn write(folder: &Folder, name: &str, text: &str, mode: u32) {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }

    #[test]
    fn the_hooks_of_the_package_are_good_and_named_as_their_heads_say() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/hooks.d");
        let folder = Folder::new("hooks-shipped");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(shipped).expect("the package's folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(entry.path()).expect("text");
            assert!(text.starts_with(&format!("# /etc/wharfage/hooks.d/{name}: ")), "{text}");
            // The program is the reader's own.
            let text = text.replace("/opt/models/bin/checkpoint", "/bin/true");
            write(&folder, &name, &text, 0o644);
            names.push(name.trim_end_matches(".toml").to_owned());
        }
        names.sort();
        let (known, refused) = list(folder.path(), Owner::RootOrSelf);
        assert_eq!(refused, Vec::<String>::new());
        let ids: Vec<String> = known.iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(ids, names);
        assert!(!ids.is_empty());
    }

    #[test]
    fn a_hook_that_its_group_may_write_is_refused_and_said_so() {
        let folder = Folder::new("hooks-definition");
        let good = "command = [\"/bin/sh\", \"-c\", \"true\"]\ntimeout_seconds = 5\n";
        write(&folder, "save.toml", good, 0o644);
        write(&folder, "open.toml", good, 0o664);
        write(&folder, "long.toml", &good.replace("= 5", "= 0"), 0o644);
        write(&folder, "odd.toml", &format!("{good}shell = true\n"), 0o644);
        write(&folder, "nobody.toml", &format!("{good}user = \"\"\n"), 0o644);
        write(&folder, "zero.toml", &good.replace("\"-c\"", "\"\\u0000\""), 0o644);
        write(&folder, "Bad_Name.toml", good, 0o644);
        write(&folder, "builtin-sigterm.toml", good, 0o644);
        let (known, refused) = list(folder.path(), Owner::RootOrSelf);
        let ids: Vec<&str> = known.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["save"]);
        for expected in [
            "is refused: its group may write it (mode 0664)",
            "timeout_seconds: must be 1 to 86400, got 0",
            "unknown field `shell`",
            "user: it is empty",
            "zero.toml`: command: a zero byte is accepted nowhere",
            "is no hook id",
            "ids that begin with `builtin-` are no files",
        ] {
            assert!(refused.iter().any(|said| said.contains(expected)), "{expected}: {refused:?}");
        }
    }
}
