//! What the host shows of its health: the kernel's log, looks at the gates, and an operator's words
//! over the agent's own socket. What follows from it is decided in the core.

pub mod evidence;
pub mod kmsg;
pub mod line;
pub mod policy;
pub mod settings;
mod smoke;
pub mod socket;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_shared::time::Millis;

use self::kmsg::Said;
use self::socket::Keeper;
use crate::config::Config;
use crate::drivers::Driver;
use crate::gpu::Gpus;
use crate::notices::hearing::Hearing;

/// What watching the host's health needs.
pub struct Told {
    /// Names this start of the agent.
    pub nonce: String,
    /// The GPUs.
    pub gpus: watch::Receiver<Arc<Gpus>>,
    /// How long a shutdown of this host waits for its replicas.
    pub delay: watch::Receiver<Option<Millis>>,
    /// When sources of notices were last heard.
    pub hearing: Arc<Hearing>,
    /// Where looks and words go.
    pub inputs: mpsc::Sender<Input>,
}

/// Starts the looks, the socket and the kernel's log; answers what the log says, and why operators
/// cannot be heard where there is no socket: the node does without.
pub fn start(
    driver: &Arc<Driver>,
    told: Told,
    stop: &CancellationToken,
) -> (mpsc::Receiver<Said>, Option<String>) {
    let Told { nonce, gpus, delay, hearing, inputs } = told;
    let config = driver.config();
    let ears = evidence::Ears { delay, hearing };
    tokio::spawn(evidence::watch(Arc::clone(driver), ears, inputs.clone(), stop.clone()));
    tokio::spawn(smoke::watch(Arc::clone(driver), gpus.clone(), inputs.clone(), stop.clone()));
    let deaf = match socket::bind(&config.state_dir) {
        Ok(socket) => {
            let keeper = Keeper { driver: Arc::clone(driver), nonce, gpus, inputs };
            tokio::spawn(socket::serve(socket, keeper, stop.clone()));
            None
        }
        Err(error) => {
            let path = socket::path(&config.state_dir);
            Some(format!(
                "`inject` and `repaired` are not heard: the socket `{}` cannot be made: {error}",
                path.display()
            ))
        }
    };
    (read_kernel_log(&config, stop), deaf)
}

/// The kernel's log, or why there is none. Without it XIDs are known only as far as NVML tells.
fn read_kernel_log(config: &Config, stop: &CancellationToken) -> mpsc::Receiver<Said> {
    let said = if config.health.read_kmsg {
        match kmsg::start(&config.health.kmsg, stop.clone()) {
            Ok(records) => return records,
            Err(error) => format!("`{}`: {error}", config.health.kmsg.display()),
        }
    } else {
        "switched off (health.read_kmsg = false)".to_owned()
    };
    let (sender, receiver) = mpsc::channel(1);
    // There is room for one word.
    drop(sender.try_send(Said::Ended(said)));
    receiver
}
