//! G5 and G6: nobody is on a GPU that nobody holds.

use wharfage_agent_core::health::Saw;

use super::{Look, One, known};

impl One<'_> {
    pub(super) fn processes(&self) -> Look {
        if let Some(holder) = self.holder {
            return (Saw::NotApplicable, format!("{holder} holds it"));
        }
        let fast = match self.fresh().map(|last| last.fast.as_ref()) {
            Ok(Some(fast)) => fast,
            Ok(None) => return (Saw::Unknown, "it was not read yet".to_owned()),
            Err(unknown) => return unknown,
        };
        match known(&fast.processes, "which processes are on it").map(|all| all.first()) {
            Err(look) => look,
            Ok(None) => (Saw::Pass, "no process is on it".to_owned()),
            Ok(Some(process)) => {
                let bytes =
                    process.bytes.map_or("memory".to_owned(), |bytes| format!("{bytes} bytes"));
                (Saw::Fail, format!("process {} holds {bytes} and no replica is here", process.pid))
            }
        }
    }

    pub(super) fn memory(&self) -> Look {
        if let Some(holder) = self.holder {
            return (Saw::NotApplicable, format!("{holder} holds it"));
        }
        let used = match self.fresh() {
            Ok(last) => last.reading.memory_used_mib,
            Err(unknown) => return unknown,
        };
        let most = self.settings.idle_memory_mib;
        match used {
            None => (Saw::NotApplicable, "it does not say how much memory is used".to_owned()),
            Some(used) if used > most => {
                let said = format!(
                    "{used} of {} MiB are in use and no replica is here; at most {most} may be",
                    self.identity.memory_mib
                );
                (Saw::Fail, said)
            }
            Some(_) => (Saw::Pass, format!("at most {most} MiB are in use")),
        }
    }
}
