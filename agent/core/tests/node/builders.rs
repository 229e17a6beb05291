//! Words that stories are told in: orders, holders, versions, and how a journal is compared.

use std::collections::BTreeMap;

use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{GpuUuid, HookId, ReplicaId};
use wharfage_shared::order::{HeldFor, RunOrder};
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::Millis;
use wharfage_shared::version::{DesiredVersion, Generation, Term};

/// Compares a journal with what a story expects, line by line without the indentation.
pub fn tells(journal: &str, expected: &str) {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    let (journal, expected) = (lines(journal), lines(expected));
    assert!(journal == expected, "the journal reads:\n{}\n", journal.join("\n"));
}

pub fn version(term: u64, generation: u64) -> DesiredVersion {
    DesiredVersion { term: Term(term), generation: Generation(generation) }
}

pub fn acme() -> HeldFor {
    HeldFor { organization: "acme".into(), claim: None, compute_class: ComputeClass::Standard }
}

/// An order for replica `id` on GPU `GPU-<id>`, without hooks.
pub fn order(id: u32) -> RunOrder {
    RunOrder {
        replica: ReplicaId(id),
        deployment: "d-1".into(),
        deployment_name: "chat".to_owned(),
        organization: "acme".into(),
        engine: "vllm".to_owned(),
        engine_version: "0.9".to_owned(),
        engine_flags: BTreeMap::new(),
        engine_env: BTreeMap::new(),
        model_name: "chat".to_owned(),
        model_bucket: "models".to_owned(),
        model_path: "chat".to_owned(),
        gpus: vec![GpuUuid::new(format!("GPU-{id}"))],
        hooks: BTreeMap::new(),
        single_copy: false,
        grace: Millis::from_seconds(30),
        start_deadline: Millis::from_seconds(600),
        gang: None,
    }
}

/// The same with a checkpoint and a drain hook.
pub fn hooked(id: u32) -> RunOrder {
    let hooks = [(HookKind::Checkpoint, "save"), (HookKind::Drain, "flush")];
    let hooks = hooks.into_iter().map(|(kind, id)| (kind, HookId::from(id)));
    RunOrder { hooks: hooks.collect(), ..order(id) }
}
