//! A disk in memory that can lose power, run full and flip bits: for tests and the simulation.

use super::disk::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    /// Pages that may still be written for the first time before the disk is full.
    free_pages: AtomicU64,
    sync_fails: AtomicBool,
    open_fails: AtomicBool,
}

#[derive(Debug)]
struct MemoryFile {
    content: Mutex<Content>,
    open: AtomicBool,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, in order: (offset, bytes), or a new length.
    unsynced: Vec<Unsynced>,
    /// Pages that take space.
    pages: std::collections::BTreeSet<u64>,
}

#[derive(Debug, Clone)]
enum Unsynced {
    Write(u64, Vec<u8>),
    Length(u64),
}

const PAGE: u64 = 4096;
const SECTOR: usize = 512;

impl Default for MemoryDisk {
    fn default() -> Self {
        let faults = Faults {
            free_pages: AtomicU64::new(u64::MAX),
            sync_fails: AtomicBool::new(false),
            open_fails: AtomicBool::new(false),
        };
        let shared = Shared { path: PathBuf::from("memory"), files: Mutex::default(), faults: Arc::new(faults) };
        Self { shared: Arc::new(shared) }
    }
}

impl MemoryDisk {
    /// What is on the disk after a power cut now: everything synced, and of the later writes those for which
    /// `survives` says so, each given its number.
    pub fn after_power_cut(&self, mut survives: impl FnMut(usize) -> bool) -> Self {
        self.after_torn_power_cut(|number, _| survives(number))
    }

    /// The same where a write is torn: `survives` is asked for each sector of a write, given the write's number and the
    /// sector's in its file. A disk writes whole sectors, and no more is promised.
    pub fn after_torn_power_cut(&self, mut survives: impl FnMut(usize, usize) -> bool) -> Self {
        let next = Self::default();
        let mut number = 0;
        for (name, file) in lock(&self.shared.files).iter() {
            let content = lock(&file.content);
            let mut now = content.durable.clone();
            for step in &content.unsynced {
                number += 1;
                match step {
                    Unsynced::Length(len) if survives(number, 0) => now.resize(to_usize(*len), 0),
                    Unsynced::Length(_) => {}
                    Unsynced::Write(offset, data) => {
                        let (from, end) = (to_usize(*offset), to_usize(*offset) + data.len());
                        for sector in from / SECTOR..end.div_ceil(SECTOR) {
                            let part = from.max(sector * SECTOR)..end.min((sector + 1) * SECTOR);
                            if survives(number, sector) {
                                now.resize(now.len().max(part.end), 0);
                                now[part.clone()].copy_from_slice(&data[part.start - from..part.end - from]);
                            }
                        }
                    }
                }
            }
            next.put(name, now);
        }
        next
    }

    /// The bytes of a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        lock(&self.shared.files).get(name).map(|file| lock(&file.content).now.clone()).unwrap_or_default()
    }

    /// Replaces the bytes of a file.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let content = Content { durable: bytes.clone(), now: bytes, ..Content::default() };
        let file = MemoryFile {
            content: Mutex::new(content),
            open: AtomicBool::new(false),
            faults: Arc::clone(&self.shared.faults),
        };
        lock(&self.shared.files).insert(name.to_owned(), Arc::new(file));
    }

    /// Lets only so many more pages be written that were not written before.
    pub fn set_free_pages(&self, pages: u64) {
        self.shared.faults.free_pages.store(pages, Ordering::SeqCst);
    }

    /// Makes every sync fail from now on, or none.
    pub fn set_sync_fails(&self, fails: bool) {
        self.shared.faults.sync_fails.store(fails, Ordering::SeqCst);
    }

    /// Lets no file be opened for lack of space from now on, or lets them again.
    pub fn set_open_fails(&self, fails: bool) {
        self.shared.faults.open_fails.store(fails, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Disk for MemoryDisk {
    fn path(&self) -> &Path {
        &self.shared.path
    }
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        if self.shared.faults.open_fails.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if create && !self.exists(name)? {
            self.put(name, Vec::new());
        }
        let file = lock(&self.shared.files).get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        if file.open.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Arc::new(Handle { file, held: AtomicBool::new(true) }))
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(lock(&self.shared.files).contains_key(name))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.shared.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.shared.files).remove(name);
        Ok(())
    }
}

impl MemoryFile {
    fn take_space(&self, content: &mut Content, offset: u64, len: usize) -> io::Result<()> {
        let free = &self.faults.free_pages;
        let last = (offset + len as u64).div_ceil(PAGE);
        for page in offset / PAGE..last {
            if content.pages.contains(&page) {
                continue;
            }
            let taken = free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
                u64::MAX => Some(left),
                left => left.checked_sub(1),
            });
            if taken.is_err() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            content.pages.insert(page);
        }
        Ok(())
    }
}

/// An open file; gives it free when it is closed or dropped.
#[derive(Debug)]
struct Handle {
    file: Arc<MemoryFile>,
    held: AtomicBool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.file.content).now.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = lock(&self.file.content);
        let from = to_usize(offset);
        let bytes = content.now.get(from..from.saturating_add(out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = lock(&self.file.content);
        self.file.take_space(&mut content, offset, data.len())?;
        let (from, end) = (to_usize(offset), to_usize(offset) + data.len());
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        content.now[from..end].copy_from_slice(data);
        content.unsynced.push(Unsynced::Write(offset, data.to_vec()));
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = lock(&self.file.content);
        content.now.resize(to_usize(len), 0);
        content.pages.retain(|page| page * PAGE < len);
        content.unsynced.push(Unsynced::Length(len));
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        if self.file.faults.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("sync failed on purpose"));
        }
        let mut guard = lock(&self.file.content);
        let content = &mut *guard;
        for step in content.unsynced.drain(..) {
            match step {
                Unsynced::Length(len) => content.durable.resize(to_usize(len), 0),
                Unsynced::Write(offset, data) => {
                    let end = to_usize(offset) + data.len();
                    if content.durable.len() < end {
                        content.durable.resize(end, 0);
                    }
                    content.durable[to_usize(offset)..end].copy_from_slice(&data);
                }
            }
        }
        Ok(())
    }
    fn close(&self) -> io::Result<()> {
        if self.held.swap(false, Ordering::SeqCst) {
            self.file.open.store(false, Ordering::SeqCst);
        }
        Ok(())
    }
}
