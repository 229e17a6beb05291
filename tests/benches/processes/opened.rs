//! When a program was opened to be executed, as the kernel tells it.

use std::mem::MaybeUninit;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::inotify;
use tokio::sync::mpsc;

/// The longest that one opening is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Moments at which one file was opened.
pub struct Opened {
    moments: mpsc::UnboundedReceiver<Instant>,
    path: String,
}

impl Opened {
    /// Watches from now on.
    pub fn watch(path: &Path) -> Self {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).expect("inotify");
        inotify::add_watch(&watch, path, inotify::WatchFlags::OPEN).expect("the file exists");
        let (sender, moments) = mpsc::unbounded_channel();
        // It ends with this process, or when nobody asks any more.
        std::thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(watch, &mut buffer);
            while events.next().is_ok() && sender.send(Instant::now()).is_ok() {}
        });
        Self { moments, path: path.display().to_string() }
    }

    /// The first opening since `begun`.
    pub async fn first_since(&mut self, begun: Instant) -> Instant {
        let wait = async {
            while let Some(moment) = self.moments.recv().await {
                if moment >= begun {
                    return moment;
                }
            }
            panic!("the watch has ended")
        };
        let first = tokio::time::timeout(PATIENCE, wait).await;
        first.unwrap_or_else(|_| panic!("{} was not opened in time", self.path))
    }
}
