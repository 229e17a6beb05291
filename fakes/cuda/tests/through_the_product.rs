//! The stand-in seen through `agent/sys`, as the engine and the agent's checks see libcuda.
//!
//! The folder and the visible devices are named by environment variables of the process, and
//! `cuInit` is once in a process: so one story tells all, and the one of a refused start comes first.

#![expect(clippy::expect_used, reason = "a test states what it relies on")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use wharfage_agent_sys::cuda::{Cuda, Error, Library};

const FIRST: &str = "GPU-00000000-0000-0000-0000-00000000000a";
const SECOND: &str = "GPU-00000000-0000-0000-0000-00000000000B";
const PART: &str = "MIG-00000000-0000-0000-0000-00000000000c";
const MIB: u64 = 1024 * 1024;

/// Long enough for a loaded machine; a story that works never waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

fn library() -> PathBuf {
    let name = "libwharfage_fake_cuda.so";
    let program = std::env::current_exe().expect("a test knows its own path");
    let found = program.ancestors().skip(1).map(|folder| folder.join(name)).find(|so| so.exists());
    found.expect("cargo builds the shared object before the crate's own tests")
}

/// Replaces `gpus.json` as a drill does: by a rename.
fn write(folder: &Path, more: &str) {
    let text = format!(
        r#"{{"cuda_version":"12.8","gpus":[
            {{"uuid":"{FIRST}","memory_mib":1000,"reserved_mib":100,"baseline_mib":0}},
            {{"uuid":"{SECOND}"}},
            {{"uuid":"GPU-split","mig":[{{"uuid":"{PART}","memory_mib":64}}]}}]{more}}}"#
    );
    let next = folder.join("next.json");
    fs::write(&next, text).expect("the folder can be written");
    fs::rename(next, folder.join("gpus.json")).expect("the file can be replaced");
}

fn open() -> Result<Cuda, Error> {
    Cuda::open(Some(library().as_os_str()))
}

fn said<T>(answer: Result<T, Error>) -> String {
    answer.map_or_else(|error| error.to_string(), |_| "well".to_owned())
}

#[test]
fn memory_that_a_process_takes_is_its_claim_until_it_gives_it_back() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fake-cuda-gpus");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder can be made");
    // SAFETY: this test is alone in its process and has started no thread yet.
    unsafe {
        std::env::set_var("WHARFAGE_FAKE_GPUS", &folder);
        std::env::set_var("CUDA_VISIBLE_DEVICES", format!("{SECOND},0,{PART},GPU-gone,1"));
    }
    assert_eq!(said(open()), "cuInit failed: CUDA_ERROR_NO_DEVICE (100)", "no folder, no driver");
    write(&folder, r#","faults":{"cuInit":802}"#);
    assert_eq!(said(open()), "cuInit failed: CUDA_ERROR_SYSTEM_NOT_READY (802)");
    write(&folder, "");
    let loaded = Library::load(Some(library().as_os_str())).expect("it is there");
    assert_eq!(loaded.version().expect("it asks no GPU"), "12.8");
    assert!(loaded.can_checkpoint());

    // In the order of the variable, up to its first entry that names nothing.
    let cuda = loaded.start().expect("it starts");
    let seen = cuda.devices().expect("they have uuids");
    let ends: Vec<&str> = seen.iter().map(|uuid| &uuid[uuid.len() - 1..]).collect();
    assert_eq!(ends, ["b", "a", "c"]);
    let other = said(cuda.memory_of(&"GPU-other".into()));
    assert!(other.starts_with("CUDA shows no GPU GPU-other to this process; it shows "), "{other}");

    let claim = |uuid: &str| {
        let file = folder.join("claims").join(uuid).join(std::process::id().to_string());
        let text = fs::read_to_string(file).ok()?;
        text.trim().parse::<u64>().ok().map(|bytes| bytes / MIB)
    };
    let mut memory = cuda.memory_of(&FIRST.into()).expect("it is visible");
    assert_eq!(memory.free_and_total().expect("it is told"), (900 * MIB, 1000 * MIB));
    memory.take(300 * MIB).expect("there is room");
    memory.take(200 * MIB).expect("there is room");
    assert_eq!(claim(FIRST), Some(500));
    assert_eq!(memory.free_and_total().expect("it is told").0, 400 * MIB);
    let full = memory.take(401 * MIB).expect_err("there is no room");
    assert!(full.is_out_of_memory(), "{full}");
    assert_eq!(full.to_string(), "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (2)");

    // Any thread may go on with it, and another GPU's memory is its own.
    let mut part = cuda.memory_of(&PART.into()).expect("it is visible");
    part.take(64 * MIB).expect("there is room");
    std::thread::spawn(move || memory.take(100 * MIB).map(|()| drop(memory)))
        .join()
        .expect("it does not panic")
        .expect("there is room");
    assert_eq!((claim(FIRST), claim(PART)), (None, Some(64)));
    part.give_back().expect("it is its own");
    assert_eq!(claim(PART), None);

    // A call that hangs hangs alone.
    write(&folder, r#","blocks":["cuMemAlloc"]"#);
    let (tell, told) = mpsc::channel();
    let hanging = std::thread::spawn(move || {
        tell.send("asks").expect("somebody listens");
        said(part.take(MIB))
    });
    assert_eq!(told.recv_timeout(PATIENCE), Ok("asks"));
    assert_eq!(cuda.devices().expect("they have uuids").len(), 3);
    assert!(!hanging.is_finished());
    write(&folder, "");
    assert_eq!(hanging.join().expect("it does not panic"), "well");
}
