//! Files that decide what runs on this host: read only when nobody but their owner could have
//! written them.
//!
//! The check is made on the opened file, not on its name, so that it cannot be exchanged between
//! the look and the reading.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The most that such a file may hold: it is a page of settings.
pub const LARGEST: u64 = 64 * 1024;

/// Whose files are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Only root's.
    Root,
    /// Root's and those of this process's own user.
    RootOrSelf,
}

/// Why a file is not trusted or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened or read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a link, a folder, a device.
    #[error("`{path}` is refused: it is not a plain file (links are not followed)")]
    NotAPlainFile {
        /// The file.
        path: PathBuf,
    },
    /// Others may write it.
    #[error("`{path}` is refused: {who} may write it (mode {mode:04o}); use chmod go-w")]
    OthersMayWrite {
        /// The file or its folder.
        path: PathBuf,
        /// `its group` or `everybody`.
        who: &'static str,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("`{path}` is refused: its owner is uid {owner}, accepted: {accepted}")]
    WrongOwner {
        /// The file or its folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose would be accepted.
        accepted: String,
    },
    /// It is too large.
    #[error("`{path}` is refused: {bytes} bytes, accepted are at most {LARGEST}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is not text.
    #[error("`{path}` is refused: it is not UTF-8")]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

/// The text of a file that nobody but a trusted owner can have written.
pub fn read(path: &Path, owner: Owner) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        check_folder(folder, owner)?;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let fd = opened.map_err(|errno| match errno {
        rustix::io::Errno::LOOP => Error::NotAPlainFile { path: path.to_owned() },
        other => failed(other.into()),
    })?;
    let mut file = File::from(fd);
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(Error::NotAPlainFile { path: path.to_owned() });
    }
    check_owner_and_mode(path, &meta, owner)?;
    if meta.len() > LARGEST {
        return Err(Error::TooLarge { path: path.to_owned(), bytes: meta.len() });
    }
    let mut bytes = Vec::new();
    file.by_ref().take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| Error::NotText { path: path.to_owned() })
}

/// Whether nobody but a trusted owner can put files into a folder.
pub fn check_folder(folder: &Path, owner: Owner) -> Result<(), Error> {
    let meta = std::fs::metadata(folder)
        .map_err(|source| Error::Read { path: folder.to_owned(), source })?;
    check_owner_and_mode(folder, &meta, owner)
}

/// Whether a program that a trusted file names can be exchanged by others.
pub fn check_program(path: &Path, owner: Owner) -> Result<(), Error> {
    let meta =
        std::fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if !meta.is_file() {
        return Err(Error::NotAPlainFile { path: path.to_owned() });
    }
    check_owner_and_mode(path, &meta, owner)
}

fn check_owner_and_mode(path: &Path, meta: &std::fs::Metadata, owner: Owner) -> Result<(), Error> {
    let own = crate::process::effective_user();
    let (is_accepted, accepted) = match owner {
        Owner::Root => (meta.uid() == 0, "root".to_owned()),
        Owner::RootOrSelf => (meta.uid() == 0 || meta.uid() == own, format!("root, uid {own}")),
    };
    if !is_accepted {
        return Err(Error::WrongOwner { path: path.to_owned(), owner: meta.uid(), accepted });
    }
    let mode = meta.mode() & 0o7777;
    let who = match (mode & 0o020 != 0, mode & 0o002 != 0) {
        (_, true) => "everybody",
        (true, false) => "its group",
        (false, false) => return Ok(()),
    };
    Err(Error::OthersMayWrite { path: path.to_owned(), who, mode })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("wharfage-trusted-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("temporary folder");
            Self(path)
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, "x = 1\n").expect("write");
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("chmod");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            // A leftover in the temporary folder harms nobody.
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_file_that_others_may_write_is_refused_with_the_reason() {
        let folder = Folder::new("modes");
        assert_eq!(
            read(&folder.file("good", 0o644), Owner::RootOrSelf).expect("trusted"),
            "x = 1\n"
        );
        let group =
            read(&folder.file("group", 0o664), Owner::RootOrSelf).expect_err("refused").to_string();
        assert!(group.contains("its group may write it (mode 0664)"), "{group}");
        let all =
            read(&folder.file("all", 0o646), Owner::RootOrSelf).expect_err("refused").to_string();
        assert!(all.contains("everybody may write it"), "{all}");
    }

    #[test]
    fn a_link_is_not_followed_and_an_open_folder_is_refused() {
        let folder = Folder::new("links");
        let real = folder.file("real", 0o644);
        let link = folder.0.join("link");
        symlink(&real, &link).expect("link");
        assert!(matches!(read(&link, Owner::RootOrSelf), Err(Error::NotAPlainFile { .. })));
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&folder.0, open).expect("chmod");
        assert!(matches!(read(&real, Owner::RootOrSelf), Err(Error::OthersMayWrite { .. })));
    }
}
