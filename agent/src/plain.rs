//! Files that people write and that are read whole: settings, join strings, tokens, notices.
//!
//! Only a plain file is read, and no more of it than such a file holds: a pipe or a device under its
//! name must neither hold the agent nor fill its memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// More than any file of settings holds.
pub const LARGEST: u64 = 1024 * 1024;

/// The file's text; one that is longer than this is refused.
pub fn read(path: &Path, largest: u64) -> io::Result<String> {
    // Asked before it is opened: to open a device may already do something.
    check(&std::fs::metadata(path)?, largest)?;
    // A pipe that took its place meanwhile does not block.
    let never_blocks = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(never_blocks).open(path)?;
    check(&file.metadata()?, largest)?;
    let mut bytes = Vec::new();
    file.take(largest).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

fn check(meta: &std::fs::Metadata, largest: u64) -> io::Result<()> {
    if !meta.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    if meta.len() > largest {
        let said = format!("it has {} bytes, accepted are at most {largest}", meta.len());
        return Err(io::Error::other(said));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::{Folder, fifo};

    #[test]
    fn a_plain_file_is_read_and_anything_else_is_refused_at_once() {
        let folder = Folder::new("plain");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("good"), "text\n").expect("written");
        assert_eq!(read(&at("good"), 5).expect("read"), "text\n");
        fs::write(at("bytes"), b"\xff\xfe").expect("written");
        fs::create_dir(at("folder")).expect("made");
        fifo(&at("pipe"));
        for (path, expected) in [
            (at("good"), "it has 5 bytes, accepted are at most 4"),
            (at("bytes"), "it is not UTF-8"),
            (at("folder"), "it is no plain file"),
            (at("pipe"), "it is no plain file"),
            ("/dev/zero".into(), "it is no plain file"),
        ] {
            let said = read(&path, 4).expect_err("refused").to_string();
            assert_eq!(said, expected, "{}", path.display());
        }
        let gone = read(&at("gone"), 4).expect_err("refused");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
