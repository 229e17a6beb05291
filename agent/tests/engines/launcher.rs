//! The launcher that runs Dynamo's two programs as one engine.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

type Output = Lines<BufReader<ChildStdout>>;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A program in Python's place that says what it was asked for, then behaves as told.
fn start(name: &str, worker: &str) -> (Folder, Child, Output) {
    let folder =
        std::env::temp_dir().join(format!("wharfage-launcher-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let python = folder.join("python");
    let script = format!(
        "#!/bin/bash\ntrap 'echo ended $2; exit 0' TERM\n\
         echo \"$* system=${{DYN_SYSTEM_PORT:-none}} kv=$DYN_FILE_KV\"\n\
         case $2 in dynamo.frontend) ;; *) {worker} ;; esac\n\
         while :; do sleep 0.05; done\n"
    );
    std::fs::write(&python, script).expect("written");
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let launcher = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../systemd/libexec/dynamo");
    let mut child = Command::new(launcher)
        .arg("vllm")
        .arg(&python)
        .args(["8000", "8081", "chat", "/models/chat", "--tensor-parallel-size", "2"])
        .current_dir(&folder)
        .env("TMPDIR", &folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    (Folder(folder), child, lines)
}

fn rest(output: Output) -> String {
    let mut lines: Vec<String> = output.map_while(Result::ok).collect();
    lines.sort();
    lines.join(", ")
}

#[test]
fn both_programs_are_started_and_both_end_with_it() {
    let (folder, mut child, mut output) = start("both", ":");
    let mut said: Vec<String> =
        (0..2).map(|_| output.next().expect("two programs").expect("a line")).collect();
    said.sort();
    let (_, kv) = said[0].rsplit_once("kv=").expect("a folder of their own");
    let kv = kv.to_owned();
    assert!(std::path::Path::new(&kv).starts_with(&folder.0), "{kv}");
    let frontend = "-m dynamo.frontend --http-host 127.0.0.1 --http-port 8000 --store-kv file";
    assert_eq!(said[0], format!("{frontend} system=none kv={kv}"));
    let worker = "-m dynamo.vllm --model /models/chat --served-model-name chat --store-kv file \
                  --tensor-parallel-size 2";
    assert_eq!(said[1], format!("{worker} system=8081 kv={kv}"));
    let id = wharfage_agent_sys::process::identify(child.id()).expect("it runs");
    wharfage_agent_sys::process::signal(id, rustix::process::Signal::TERM).expect("sent");
    assert_eq!(rest(output), "ended dynamo.frontend, ended dynamo.vllm");
    child.wait().expect("collected");
    assert!(!std::path::Path::new(&kv).exists(), "nothing is left behind");
}

#[test]
fn a_worker_that_dies_takes_the_frontend_with_it_and_its_exit_is_the_engines() {
    let (_folder, mut child, output) = start("dies", "exit 7");
    let said = rest(output);
    assert!(said.contains("-m dynamo.vllm"), "both have closed it: {said}");
    assert_eq!(child.wait().expect("collected").code(), Some(7));
}
