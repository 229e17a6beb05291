//! What several unit tests need: a folder that goes away with its test.

use std::path::{Path, PathBuf};

/// A private folder below the system's temporary one.
pub struct Folder(PathBuf);

impl Folder {
    /// A new empty folder; `name` tells tests apart.
    pub fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("wharfage-agent-{name}-{}", std::process::id()));
        // A leftover of an earlier process with this pid would be in the way.
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("temporary folder");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nobody.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// An order for replica `number` with one GPU of the same number.
pub fn order(number: u32) -> wharfage_shared::order::RunOrder {
    use wharfage_shared::time::Millis;
    wharfage_shared::order::RunOrder {
        replica: wharfage_shared::ids::ReplicaId(number),
        deployment: "d-1".into(),
        deployment_name: "chat".into(),
        organization: "acme".into(),
        engine: "vllm".into(),
        engine_version: "1".into(),
        engine_flags: std::collections::BTreeMap::new(),
        engine_env: std::collections::BTreeMap::new(),
        model_name: "small".into(),
        model_bucket: "models".into(),
        model_path: "small/1".into(),
        gpus: vec![format!("GPU-{number}").as_str().into()],
        hooks: std::collections::BTreeMap::new(),
        single_copy: false,
        grace: Millis::from_seconds(30),
        start_deadline: Millis::from_seconds(600),
        gang: None,
    }
}

/// A pipe with a name: whoever opens it as a file waits for ever.
pub fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo runs").success(), "{}", path.display());
}

/// The same cases in every run, so that a change of the code is the only change; other cases with
/// `PROPTEST_RNG_SEED`, more of them with `PROPTEST_CASES`.
pub fn repeatable() -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let asked = Config::default();
    let rng_seed = match asked.rng_seed {
        RngSeed::Random => RngSeed::Fixed(4),
        RngSeed::Fixed(seed) => RngSeed::Fixed(seed),
    };
    Config { rng_seed, failure_persistence: None, ..asked }
}

/// What an agent finds on an empty host that is called `node-1`.
pub fn found() -> wharfage_agent_core::Found {
    wharfage_agent_core::Found {
        node: "node-1".into(),
        boot: "boot-1".into(),
        nonce: "nonce-1".to_owned(),
        desired: None,
        replicas: Vec::new(),
        log: "log-1".into(),
        last_segment: 0,
        open_segment: None,
        unacknowledged: Vec::new(),
        inventory: wharfage_shared::telemetry::Inventory::default(),
        health: wharfage_agent_core::health::Memory::default(),
    }
}
