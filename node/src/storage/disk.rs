//! The files of one database, behind a small trait, so that tests and the simulation bring their own disk.

use fs4::fs_std::FileExt as _;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place with a few named files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// For messages.
    fn path(&self) -> &Path;
    /// Opens a file for reading and writing, exclusively; `WouldBlock` when somebody else has it open.
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Whether there is a file of this name.
    fn exists(&self, name: &str) -> io::Result<bool>;
    /// Gives a file another name, durably, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file if it exists.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Space that it takes, in bytes.
    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }
    /// Fills `out` from `offset`.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts it or fills it up with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns when everything written is durable.
    fn sync(&self) -> io::Result<()>;
    /// Lets others open it. Nothing is done with it afterwards.
    fn close(&self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory at `path`, which exists.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Disk for Directory {
    fn path(&self) -> &Path {
        &self.0
    }
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.0.join(name);
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        if !file.try_lock_exclusive()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Arc::new(PlainFile(file)))
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        self.0.join(name).try_exists()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))?;
        sync_directory(&self.0)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

#[derive(Debug)]
struct PlainFile(File);

impl DiskFile for PlainFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn allocated(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.blocks().saturating_mul(512))
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn close(&self) -> io::Result<()> {
        self.0.unlock()
    }
}
