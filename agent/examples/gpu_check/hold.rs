//! A process that holds memory of a GPU and belongs to no replica.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use wharfage_agent_sys::cuda::{Cuda, Error};

/// Holds the memory until standard input ends.
pub fn run(gpu: &str, library: &Path, mib: u32) -> ExitCode {
    let held = Cuda::open(Some(library.as_os_str())).and_then(|cuda| {
        let mut memory = cuda.memory_of(&gpu.into())?;
        memory.take(u64::from(mib) * 1024 * 1024)?;
        Ok::<_, Error>(memory)
    });
    match held {
        Ok(memory) => {
            println!("held");
            // Whatever comes, and the end too, says that it has been held for long enough.
            drop(std::io::stdin().read(&mut [0]));
            drop(memory);
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Such a process; it ends with this value.
pub struct Holder(Child);

impl Holder {
    /// Starts it and waits until it holds the memory.
    pub fn start(gpu: &str, library: &Path, mib: u32) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
        let mut command = Command::new(own);
        command.arg("--hold").arg(gpu).arg("--cuda").arg(library);
        command.arg("--take-mib").arg(mib.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("a holder: {error}"))?;
        let mut said = [0; 5];
        let read = child.stdout.as_mut().map(|output| output.read_exact(&mut said));
        let holder = Self(child);
        match read {
            Some(Ok(())) if said == *b"held\n" => Ok(holder),
            _ => Err("another process cannot hold memory of the GPU".to_owned()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The closed stream asks it to end, so that it gives its memory back itself.
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}
