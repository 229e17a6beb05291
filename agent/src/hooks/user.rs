//! Who a hook runs as: its definition's user, else the node owner's choice, else a system user that
//! may nothing, where this host has one.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use wharfage_agent_sys::process;

use super::Definition;
use crate::config::Config;
use crate::users::User;

/// The system user that the package makes for hooks.
const USUAL: &str = "wharfage-hook";

/// The user of a hook that works in `folder`; absent where it is the agent's own. One that was
/// named and cannot be is a refusal, in one sentence.
pub fn of(
    definition: &Definition,
    config: &Config,
    folder: Option<&Path>,
) -> Result<Option<User>, String> {
    let named = definition.user.as_ref().or(config.hooks.user.as_ref());
    let Some(name) = named else {
        let usual = User::named(USUAL).ok().filter(|_| process::effective_user() == 0);
        // Nobody chose it: where it cannot reach the checkpoints, saving them is worth more.
        return Ok(usual.filter(|user| folder.is_none_or(|folder| can_enter(user, folder))));
    };
    let user = User::named(name)?;
    if user.id == process::effective_user() {
        return Ok(None);
    }
    match folder.filter(|folder| !can_enter(&user, folder)) {
        None => Ok(Some(user)),
        Some(folder) => Err(format!(
            "its user `{name}` cannot enter `{}`: set `dir` of [checkpoints] to a folder that it \
             can",
            folder.display()
        )),
    }
}

/// Whether a user may pass through every folder above this one.
fn can_enter(user: &User, folder: &Path) -> bool {
    const PASS: u32 = 0o1;
    folder.ancestors().skip(1).all(|above| {
        let Ok(meta) = std::fs::metadata(above) else { return false };
        let shift = match (meta.uid() == user.id, meta.gid() == user.group) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        user.id == 0 || (meta.mode() >> shift) & PASS != 0
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_user_reaches_what_every_folder_above_lets_it_pass_to() {
        let folder = Folder::new("hook-user");
        let nobody = User { id: 4_000_123, group: 4_000_123, home: PathBuf::from("/") };
        let (closed, inside) = (folder.path().join("state"), folder.path().join("state/x"));
        std::fs::create_dir_all(&inside).expect("made");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).expect("chmod");
        assert!(can_enter(&nobody, &inside));
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        assert!(!can_enter(&nobody, &inside));
        assert!(can_enter(&User { id: 0, ..nobody.clone() }, &inside));
        assert!(!can_enter(&nobody, &folder.path().join("none/x")));
    }
}
