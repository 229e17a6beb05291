//! A small machine with a systemd of its own: this host's programs in a container that boots, with
//! nothing of this host written to.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A boot takes seconds; a busy host may need more.
const BOOT: Duration = Duration::from_secs(90);

/// A machine that is told to power off is gone within this long, inhibitors included.
const POWER_OFF: Duration = Duration::from_secs(90);

static MACHINES: AtomicU32 = AtomicU32::new(0);

/// A booted machine. It ends with this value.
pub struct Machine {
    nspawn: Child,
    leader: u32,
    folder: PathBuf,
}

impl Machine {
    /// Why no machine can be booted here, as one sentence; nothing when one can.
    pub fn impossible() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("booting a container needs root".to_owned());
        }
        let tool = ["/usr/bin/systemd-nspawn", "/bin/systemd-nspawn"];
        if !tool.iter().any(|path| Path::new(path).exists()) {
            return Some("systemd-nspawn is missing: apt-get install systemd-container".to_owned());
        }
        None
    }

    /// Boots one. `shared` are folders of this host by the path that they have inside.
    pub fn boot(shared: &[(&Path, &str)]) -> io::Result<Self> {
        let number = MACHINES.fetch_add(1, Ordering::Relaxed);
        let name = format!("wharfage-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let console = fs::File::create(folder.join("console"))?;
        let mut command = Command::new("systemd-nspawn");
        command
            .args(["-q", "-D", "/", "--volatile=yes", "--private-network", "--register=no"])
            .args(["--keep-unit", "-b", "--console=read-only"])
            .arg(format!("--machine={name}"));
        for (here, inside) in shared {
            command.arg(format!("--bind={}:{inside}", here.display()));
        }
        // No more than this test needs: the host's own services stay off.
        command.args(["systemd.unit=basic.target", "systemd.firstboot=no"]);
        // It has no network to wait for.
        command.arg("systemd.mask=systemd-networkd-wait-online.service");
        let nspawn =
            command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console).spawn()?;
        let mut machine = Self { nspawn, leader: 0, folder };
        machine.wait_until_up()?;
        Ok(machine)
    }

    fn wait_until_up(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + BOOT;
        loop {
            if self.nspawn.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(io::Error::other(format!("it did not boot:\n{}", self.console())));
            }
            // Asked anew each time: its first children only prepare the one that stays.
            self.leader = child_of(self.nspawn.id()).unwrap_or(0);
            if self.leader != 0 {
                let up = self.run(&["systemctl", "is-system-running"])?;
                let said = String::from_utf8_lossy(&up.stdout);
                if matches!(said.trim(), "running" | "degraded") {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a program inside to its end.
    pub fn run(&self, line: &[&str]) -> io::Result<Output> {
        self.command(line).output()
    }

    /// A program inside, ready to be started.
    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg("-t")
            .arg(self.leader.to_string())
            .args(["-m", "-p", "-u", "-i", "-n", "-r", "-w", "--"])
            .args(line)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// What a shell line inside printed; fails with everything that it said.
    pub fn sh(&self, script: &str) -> io::Result<String> {
        let done = self.run(&["/bin/sh", "-ec", script])?;
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        if done.status.success() {
            return Ok(printed);
        }
        let errors = String::from_utf8_lossy(&done.stderr);
        Err(io::Error::other(format!("{script}\n{}\n{printed}{errors}", done.status)))
    }

    /// What its console shows.
    pub fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    /// Waits until it has powered itself off.
    pub fn wait_until_off(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + POWER_OFF;
        while self.nspawn.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("it stays on:\n{}", self.console())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Ending the container's first process ends everything inside it.
        self.leader = child_of(self.nspawn.id()).unwrap_or(0);
        if let Some(leader) =
            i32::try_from(self.leader).ok().and_then(rustix::process::Pid::from_raw)
            && matches!(self.nspawn.try_wait(), Ok(None))
        {
            let _ = rustix::process::kill_process(leader, rustix::process::Signal::KILL);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.nspawn.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                drop(self.nspawn.kill());
                drop(self.nspawn.wait());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // A leftover in the temporary folder harms nobody.
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn child_of(parent: u32) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, tail) = stat.rsplit_once(')')?;
        let of: u32 = tail.split_whitespace().nth(1)?.parse().ok()?;
        (of == parent).then_some(pid)
    })
}
