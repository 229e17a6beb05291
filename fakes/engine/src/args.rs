//! What the engine is told: its command line and the environment that the agent gives a replica.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::run::Error;

/// Flags of `wharfage engine-stub`.
#[derive(Debug, Clone, clap::Args)]
pub struct EngineArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one and names it in the first line of output.
    #[arg(long)]
    pub port: u16,
    /// Folder with the model; every file in it is read.
    #[arg(long, value_name = "DIR")]
    pub model_dir: PathBuf,
    /// Name under which requests ask for the model [default: the name of its folder].
    #[arg(long, value_name = "NAME")]
    pub served_model_name: Option<String>,
    /// Loading takes at least this long, whatever the size of the files.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub load_seconds: f64,
    /// Speed of each generation.
    #[arg(long, value_name = "RATE", default_value = "50", value_parser = rate)]
    pub tokens_per_second: f64,
    /// Memory to claim on each GPU.
    #[arg(long, value_name = "MIB", default_value_t = 60_000)]
    pub gpu_memory_mib: u32,
    /// Generations that run at once; further ones wait.
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_num_seqs: u32,
    /// Answer every request with this text.
    #[arg(long, value_name = "TEXT")]
    pub answer: Option<String>,
    /// A flag of the imitated engine, recorded and shown on `/debug/flags`; may be repeated.
    #[arg(long = "flag", value_name = "KEY=VALUE")]
    pub flags: Vec<Flag>,
    /// Fail when half of the model is loaded.
    #[arg(long)]
    pub fail_load: bool,
    /// Load, but never listen.
    #[arg(long)]
    pub startup_refuse: bool,
    /// Go on when asked to end.
    #[arg(long)]
    pub ignore_sigterm: bool,
    /// Cut what is in flight when asked to end, as vLLM does unless told otherwise.
    #[arg(long, conflicts_with = "ignore_sigterm")]
    pub abort_on_sigterm: bool,
    /// Which member this is of an engine that runs on several hosts; 0 leads and serves.
    #[arg(long, value_name = "RANK", requires_all = ["world_size", "leader"])]
    pub rank: Option<u32>,
    /// How many members there are.
    #[arg(long, value_name = "COUNT", requires = "rank")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=64))]
    pub world_size: Option<u32>,
    /// Where the leader meets the others.
    #[arg(long, value_name = "HOST:PORT", requires = "rank")]
    pub leader: Option<String>,
    /// Die without cleaning up after this time.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub exit_after_seconds: Option<f64>,
}

/// One member of an engine that runs on several hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Which; 0 leads.
    pub rank: u32,
    /// How many there are.
    pub size: u32,
    /// Where the leader meets the others.
    pub leader: String,
}

impl EngineArgs {
    /// What it is of an engine on several hosts, if it is.
    pub fn membership(&self) -> Option<Membership> {
        let (rank, size, leader) = (self.rank?, self.world_size?, self.leader.clone()?);
        Some(Membership { rank, size, leader })
    }

    /// The name that requests use.
    pub fn model_name(&self) -> String {
        let folder = || self.model_dir.file_name().map(|name| name.to_string_lossy().into_owned());
        self.served_model_name.clone().or_else(folder).unwrap_or_else(|| "model".to_owned())
    }

    /// The recorded flags; the last of a repeated key counts.
    pub fn recorded_flags(&self) -> BTreeMap<String, String> {
        self.flags.iter().map(|flag| (flag.key.clone(), flag.value.clone())).collect()
    }
}

/// One `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Left of the first `=`; never empty.
    pub key: String,
    /// Right of it.
    pub value: String,
}

impl FromStr for Flag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            Some(_) | None => Err("expected key=value".to_owned()),
        }
    }
}

/// A day is more than any model takes to load.
const LONGEST_SECONDS: f64 = 86_400.0;

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=LONGEST_SECONDS).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err(format!("expected seconds from 0 to {LONGEST_SECONDS}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.001..=1_000_000.0).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err("expected tokens per second from 0.001 to 1000000".to_owned()),
    }
}

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `WHARFAGE_CUDA_LIBRARY`: the library through which to take memory, whatever else is there.
    pub cuda_library: Option<OsString>,
    /// `WHARFAGE_FAKE_GPUS`: the folder in which to claim memory; without it and with a CUDA driver
    /// on this host, real memory is taken.
    pub fake_gpus: Option<PathBuf>,
    /// `CUDA_VISIBLE_DEVICES`: the GPUs by uuid.
    pub gpus: Vec<String>,
    /// `WHARFAGE_REPLICA`: the name with which answers begin.
    pub replica: Option<String>,
}

impl Surroundings {
    /// Reads the environment of this process.
    pub fn from_environment() -> Result<Self, Error> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let devices = text("CUDA_VISIBLE_DEVICES").unwrap_or_default();
        let gpus = devices.split(',').map(str::trim).filter(|uuid| !uuid.is_empty());
        let gpus: Vec<String> = gpus.map(str::to_owned).collect();
        if let Some(wrong) = gpus.iter().find(|uuid| !is_uuid(uuid)) {
            return Err(Error::Device { got: wrong.clone() });
        }
        let path = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty());
        Ok(Self {
            cuda_library: path("WHARFAGE_CUDA_LIBRARY"),
            fake_gpus: path("WHARFAGE_FAKE_GPUS").map(PathBuf::from),
            gpus,
            replica: text("WHARFAGE_REPLICA"),
        })
    }
}

/// A uuid names a folder, so it must not lead anywhere else.
fn is_uuid(text: &str) -> bool {
    text.len() <= 80 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::{EngineArgs, Flag, is_uuid};
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        engine: EngineArgs,
    }

    fn parse(more: &[&str]) -> Result<EngineArgs, String> {
        let plain = ["engine", "--port", "0", "--model-dir", "/models/llama"];
        Program::try_parse_from(plain.iter().chain(more))
            .map(|program| program.engine)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_folder_names_the_model_unless_told() {
        assert_eq!(parse(&[]).expect("it is enough").model_name(), "llama");
        let named = parse(&["--served-model-name", "chat"]).expect("it is right");
        assert_eq!(named.model_name(), "chat");
    }

    #[test]
    fn engine_flags_are_key_and_value() {
        let flags = ["--flag", "max-model-len=8192", "--flag", "a=b=c", "--flag", "a="];
        let recorded = parse(&flags).expect("they are right").recorded_flags();
        let recorded: Vec<String> = recorded.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        assert_eq!(recorded, ["a:", "max-model-len:8192"]);
        assert_eq!("=x".parse::<Flag>(), Err("expected key=value".to_owned()));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_what_is_accepted() {
        for (flag, value, accepted) in [
            ("--load-seconds", "-1", "from 0 to 86400"),
            ("--load-seconds", "NaN", "from 0 to 86400"),
            ("--tokens-per-second", "0", "from 0.001 to 1000000"),
            ("--max-num-seqs", "0", "1..=65536"),
        ] {
            let refused = parse(&[&format!("{flag}={value}")]).expect_err("it is wrong");
            assert!(refused.contains(accepted), "{refused}");
        }
    }

    #[test]
    fn a_member_needs_to_be_told_of_the_others() {
        assert_eq!(parse(&[]).expect("it is alone").membership(), None);
        let all = ["--rank", "1", "--world-size", "2", "--leader", "127.0.0.1:12001"];
        let member = parse(&all).expect("it is right").membership().expect("a member");
        assert_eq!((member.rank, member.size, member.leader.as_str()), (1, 2, "127.0.0.1:12001"));
        assert!(parse(&all[..4]).expect_err("no leader").contains("--leader"));
    }

    #[test]
    fn a_device_is_a_uuid_and_no_path() {
        assert!(is_uuid("GPU-0a1b"));
        assert!(!is_uuid("../../etc"));
    }
}
