//! One node with real processes: the agent, its guards, the development engine and the fake GPUs,
//! ordered about by a scheduler in the test.

mod codes;
mod common;
mod disk;
mod doctor;
mod engines;
mod gates;
mod gpu_check;
mod gpu_checkpoint;
mod gpus;
mod health;
mod hooks;
mod journeys;
mod kills;
mod notices;
mod refusals;
mod release;
mod settings;
mod store;
