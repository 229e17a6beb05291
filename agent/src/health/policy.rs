//! The policy of XIDs: what ships with the program, with the owner's rows in place of its own.

use std::path::Path;

use wharfage_agent_core::health::policy::{PolicyFile, SHIPPED, XidPolicy};

use crate::{bad_key, plain};

/// The policy with the rows of this file, or what is wrong with the file.
pub fn load(overriding: Option<&Path>) -> Result<XidPolicy, String> {
    let shipped = parse(SHIPPED).map_err(|why| format!("the shipped policy of XIDs: {why}"))?;
    let policy = XidPolicy::default();
    let policy = policy.overridden_by(shipped).map_err(|why| why.to_string())?;
    let Some(path) = overriding else { return Ok(policy) };
    let named = |why: String| format!("health.xid_policy `{}`: {why}", path.display());
    let text = plain::read(path, plain::LARGEST).map_err(|error| named(error.to_string()))?;
    let own = parse(&text).map_err(named)?;
    policy.overridden_by(own).map_err(|why| named(why.to_string()))
}

fn parse(text: &str) -> Result<PolicyFile, String> {
    toml::from_str(text).map_err(|error| bad_key::said(&error))
}

#[cfg(test)]
mod tests {
    use wharfage_shared::health::Action;

    use super::*;
    use crate::testing::{Folder, fifo};

    #[test]
    fn the_shipped_policy_is_read_and_an_owners_rows_take_the_place_of_its_own() {
        let folder = Folder::new("policy-rows");
        let path = folder.path().join("xid.toml");
        let row = "[[rule]]\nxids = [79]\nwhat = \"ours\"\naction = \"record\"\n";
        std::fs::write(&path, row).expect("written");
        assert_eq!(load(None).expect("read").rule(79).action, Action::Reboot);
        let own = load(Some(&path)).expect("read");
        assert_eq!((own.rule(79).action, own.rule(48).action), (Action::Record, Action::Reset));
    }

    #[test]
    fn a_bad_file_is_refused_with_its_name_and_line() {
        let folder = Folder::new("policy-bad");
        let path = folder.path().join("xid.toml");
        for (text, expected) in [
            ("[[rule]]\nxids = [79]\nwhat = \"x\"\naction = \"burn\"\n", "line 4"),
            ("[[rule]]\nxids = \"79\"\n", "line 2"),
            ("unlisted = 5\n", "line 1"),
            ("[[rule]]\nxids = [0]\nwhat = \"x\"\naction = \"record\"\n", "0 is no XID"),
            ("[[rule]]\nxids = [79]\nwhat = \" \"\naction = \"record\"\n", "what is empty"),
            ("[[rule]]\nxids = []\nwhat = \"x\"\naction = \"record\"\n", "at least one XID"),
        ] {
            std::fs::write(&path, text).expect("written");
            let said = load(Some(&path)).expect_err("refused");
            assert!(said.contains("xid.toml") && said.contains(expected), "{text}: {said}");
        }
        std::fs::remove_file(&path).expect("removed");
        fifo(&path);
        assert!(load(Some(&path)).expect_err("refused").contains("it is no plain file"));
        assert!(load(Some(Path::new("/nowhere/x.toml"))).expect_err("refused").contains("nowhere"));
    }
}
