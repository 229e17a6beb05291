//! What the guard executes: made from the owner's engine file and the typed parameters, never from
//! a command line that somebody handed over, and by no shell.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use wharfage_agent_sys::trusted::Owner;

use super::record::{Folder, Params};
use crate::engines::{Engines, Seat};
use crate::users::User;

/// The engine's program with everything that it is started with.
pub struct Launch {
    line: Vec<String>,
    env: BTreeMap<String, String>,
    user: Option<User>,
}

impl Launch {
    /// As the owner's definitions say now, or one sentence why they do not allow it.
    pub fn of(params: &Params) -> Result<Self, String> {
        let owner = if params.require_root_owned { Owner::Root } else { Owner::RootOrSelf };
        let engines = Engines::load(&params.engines_dir, owner);
        let engine = engines.select(&params.order)?;
        let (port, further) = (params.engine_port, &params.further_ports);
        let seat = Seat { port, further, model_dir: &params.model_dir };
        let user = engine.user.as_ref().or(params.user.as_ref());
        let user = user.map(|name| User::named(name)).transpose()?;
        let of_engine = engine.environment_for(&params.order, &seat);
        let env = environment(params, of_engine, user.as_ref());
        Ok(Self { line: engine.command_line(&params.order, &seat), env, user })
    }

    /// The program's path.
    pub fn program(&self) -> &str {
        self.line.first().map_or("", String::as_str)
    }

    /// Ready to be started in a group of its own.
    pub fn command(&self, folder: &Folder) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.program());
        command
            .args(self.line.iter().skip(1))
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        match &self.user {
            // Taking another user's number also gives up every further group of the guard's.
            Some(user) => {
                let home = if user.home.is_dir() { user.home.as_path() } else { "/".as_ref() };
                command.uid(user.id).gid(user.group).current_dir(home)
            }
            None => command.current_dir(folder.path()),
        };
        command
    }
}

/// The engine's whole environment. The order's own (allow-listed) names come before the node
/// owner's, and ours last: nothing of the network's can replace them.
fn environment(
    params: &Params,
    of_engine: BTreeMap<String, String>,
    user: Option<&User>,
) -> BTreeMap<String, String> {
    let order = &params.order;
    let mut env = BTreeMap::new();
    for name in ["PATH", "HOME", "LANG"] {
        if let Ok(value) = std::env::var(name) {
            env.insert(name.to_owned(), value);
        }
    }
    if let Some(user) = user {
        env.insert("HOME".to_owned(), user.home.display().to_string());
    }
    env.extend(order.engine_env.clone());
    env.extend(of_engine);
    env.extend(params.owners_env.clone());
    let gpus: Vec<_> = order.gpus.iter().map(|gpu| gpu.text()).collect();
    env.insert("CUDA_VISIBLE_DEVICES".to_owned(), gpus.join(","));
    env.insert("WHARFAGE_REPLICA".to_owned(), order.replica.to_string());
    if let Some((name, value)) = params.mark.split_once('=') {
        env.insert(name.to_owned(), value.to_owned());
    }
    env
}
