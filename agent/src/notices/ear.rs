//! The kernel's word that something happened to one file: inotify on the folder that it lies in.
//!
//! A folder outlives the file, so that a file which appears by rename is told as well. Half-written
//! files are not told: only what was closed, moved or removed is.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Event, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for some dozens of events at a time; what does not fit is read in the next round.
const BUFFER: usize = 4096;

/// Listens for changes of one file.
pub struct Ear {
    inotify: AsyncFd<OwnedFd>,
    folder: PathBuf,
    name: OsString,
    watched: Option<i32>,
}

impl Ear {
    /// Of the file at `path`; does not listen yet. Fails where the kernel gives out no more.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor can change; an OwnedFd's cannot"
    )]
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Ok(Self {
            inotify: AsyncFd::with_interest(inotify, Interest::READABLE)?,
            folder: folder.unwrap_or(Path::new(".")).to_owned(),
            name: path.file_name().unwrap_or_default().to_owned(),
            watched: None,
        })
    }

    /// Listens at the folder that is now at the path. Cheap when it is the same as before; one
    /// that was put in the place of another is found here.
    pub fn listen(&mut self) -> io::Result<()> {
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let now = inotify::add_watch(&self.inotify, &self.folder, what);
        let before = std::mem::replace(&mut self.watched, now.ok());
        if let Some(before) = before.filter(|before| Some(*before) != self.watched) {
            // A folder that is gone took its watch along.
            let _ = inotify::remove_watch(&self.inotify, before);
        }
        now.map(|_| ()).map_err(io::Error::from)
    }

    /// Returns when something happened to the file, or to the folder itself.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut events = Reader::new(&self.inotify, &mut buffer);
            let mut is_ours = false;
            loop {
                match events.next() {
                    Ok(event) => is_ours |= self.is_ours(&event),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if is_ours {
                return Ok(());
            }
        }
    }

    fn is_ours(&self, event: &Event<'_>) -> bool {
        match event.file_name() {
            Some(name) => {
                Some(event.wd()) == self.watched && name.to_bytes() == self.name.as_bytes()
            }
            // The folder itself went, or the kernel lost events: worth a look in any case.
            None => true,
        }
    }
}
