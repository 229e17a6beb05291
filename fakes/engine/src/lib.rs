//! The development engine: it loads a model folder, takes GPU memory (real, or fake) and speaks
//! OpenAI's API.
//!
//! It behaves as vLLM does where the rest of the product can notice: connections are refused while
//! the model loads, `/health` and `/metrics` have vLLM's names, a client that goes away cancels its
//! generation. Its answers are words that it was told, not thought; everything around them (bytes
//! read, time, memory, tokens counted) really happens.

mod answer;
mod api;
mod args;
mod claims;
mod gang;
mod load;
mod meter;
mod model;
mod report;
mod run;
mod server;

pub use args::{EngineArgs, Flag, Surroundings};
pub use model::generate_model;
pub use run::{Error, run, run_until};
