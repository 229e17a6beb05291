//! G19, G20 and G21: hook files that only their owner can write, a model cache that can be used,
//! ports for the guards.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_shared::health::GateId;
use wharfage_shared::ids::{HookId, ReplicaId};
use wharfage_shared::order::Order;

use super::{Context, seen};
use crate::hooks::builtin::Step;
use crate::hooks::definition;
use crate::journal::desired::DesiredFile;

pub(super) fn look(context: &Context) -> Vec<Evidence> {
    let looks = [
        (GateId::HOOKS, hooks(context)),
        (GateId::CACHE, cache(context)),
        (GateId::PORTS, ports(context)),
    ];
    looks.into_iter().map(|(gate, (saw, said))| seen(gate, None, saw, said)).collect()
}

fn hooks(context: &Context) -> (Saw, String) {
    let config = &context.config;
    let (known, refused) = definition::list(&config.hooks_dir, config.trusted_owner());
    // A hook that a replica here needs was removed, or its file was never brought.
    let named = named_hooks(context);
    let is_known = |hook: &HookId| known.iter().any(|(defined, _)| defined == hook);
    let missing = named.iter().find(|(hook, _)| Step::of(hook).is_none() && !is_known(hook));
    match (refused.first(), missing, known.len()) {
        (Some(refused), _, _) => (Saw::Fail, refused.clone()),
        (None, Some((hook, replica)), _) => {
            let folder = config.hooks_dir.display();
            (Saw::Fail, format!("{replica} names the hook `{hook}`, which `{folder}` has not"))
        }
        (None, None, 0) => (Saw::NotApplicable, "no hooks are defined here".to_owned()),
        (None, None, count) => {
            (Saw::Pass, format!("{count} hooks, none of them writable by others"))
        }
    }
}

/// The hooks that replicas ordered to run here name.
fn named_hooks(context: &Context) -> BTreeMap<HookId, ReplicaId> {
    let mut named = BTreeMap::new();
    // A file that is damaged is told where it is loaded.
    let (desired, _) = DesiredFile::of(&context.config.state_dir).load();
    for order in desired.map(|desired| desired.orders).unwrap_or_default() {
        if let Order::Run(run) = order {
            named.extend(run.hooks.values().map(|hook| (hook.clone(), run.replica)));
        }
    }
    named
}

fn cache(context: &Context) -> (Saw, String) {
    let (config, path) = (&context.config, &context.config.cache_dir);
    let named = |why: String| format!("cache_dir `{}`: {why}", path.display());
    // It is made when the first model is fetched; whether it can be is asked now.
    if let Err(error) = fs::create_dir_all(path) {
        return (Saw::Fail, named(error.to_string()));
    }
    if let Err(error) = rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        return (Saw::Fail, named(error.to_string()));
    }
    let Some(wanted) = &config.health.cache_filesystem else {
        return (Saw::Pass, "it is there and can be written".to_owned());
    };
    match filesystem(context, path) {
        Some(is) if is == *wanted => (Saw::Pass, format!("it is on {is}, as declared")),
        Some(is) => (Saw::Fail, named(format!("it is on {is}, {wanted} is declared"))),
        None => (Saw::Unknown, named("the kernel does not say what it is on".to_owned())),
    }
}

/// The type of the filesystem that holds the path: of the mounts above it the nearest, and of those
/// at one place the last.
fn filesystem(context: &Context, path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = fs::read(context.config.health.proc.join("self/mountinfo")).ok()?;
    kind_of_mount(&mounts, &path)
}

fn kind_of_mount(mountinfo: &[u8], path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let Some((point, kind)) = mount(line) else { continue };
        let depth = point.as_os_str().len();
        if path.starts_with(&point) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, kind));
        }
    }
    best.map(|(_, kind)| kind)
}

/// `36 35 98:0 /root /mount/point opts - type source opts`: where it is, and its type.
fn mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut words = line.split(|byte| *byte == b' ');
    let point = unescaped(words.nth(4)?);
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    Some((PathBuf::from(OsString::from_vec(point)), String::from_utf8(kind.to_vec()).ok()?))
}

/// The kernel writes spaces, line ends and backslashes of a path as `\040`.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

fn ports(context: &Context) -> (Saw, String) {
    let ip = context.config.guard_listen_ip;
    match TcpListener::bind(SocketAddr::from((ip, 0))) {
        Ok(_) => (Saw::Pass, format!("guards can listen on {ip}")),
        Err(error) => (Saw::Fail, format!("guard_listen_ip {ip}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::repeatable;

    /// As the kernel writes a path in its table of mounts.
    fn escaped(path: &str) -> String {
        let byte = |byte: u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
            _ => vec![byte],
        };
        String::from_utf8(path.bytes().flat_map(byte).collect()).expect("whole characters")
    }

    proptest! {
        #![proptest_config(repeatable())]

        #[test]
        fn a_mount_is_found_whatever_its_place_is_called(
            name in "[a-z #\\t\\n\\\\é0-7-]{1,12}", kind in "[a-z0-9.]{1,8}", strange: Vec<u8>,
        ) {
            let point = format!("/srv/{name}");
            let lines = format!(
                "21 1 8:1 / / rw - ext4 /dev/a rw\n{}\n36 35 98:0 /a {} rw shared:1 master:2 - {kind} b rw\n",
                String::from_utf8_lossy(&strange).replace('\n', " "), escaped(&point),
            );
            let inside = Path::new(&point).join("cache");
            prop_assert_eq!(kind_of_mount(lines.as_bytes(), &inside), Some(kind));
            prop_assert_eq!(kind_of_mount(lines.as_bytes(), Path::new("/srv")), Some("ext4".into()));
        }

        #[test]
        fn no_table_of_mounts_is_too_strange(any: Vec<u8>, almost in "([0-9:/a-z\\\\ -]{0,30}\n){0,4}") {
            for table in [any, almost.into_bytes()] {
                kind_of_mount(&table, Path::new("/a"));
                prop_assert_eq!(kind_of_mount(&table, Path::new("relative")), None);
            }
        }
    }
}
