//! The disk of one database: pages in memory, shared by copies until one of them writes. It tears writes, loses what
//! was not synced, runs full, fails a sync, flips bits, and gives images of what it held at any moment.
//!
//! Nothing here depends on the order of writes between two syncs, which the storage engine does not promise: a page
//! survives a power cut by its place and the cut's seed.

use crate::random::mix;
use coequal_node::storage::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;
const SECTOR: usize = 512;
type Page = Arc<[u8; PAGE]>;

/// A disk. Clones are the same disk; [`SimDisk::image`] makes another.
#[derive(Debug, Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    path: PathBuf,
    files: Mutex<BTreeMap<String, Arc<SimFile>>>,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    /// Pages that may still be added.
    free_pages: AtomicU64,
    /// Syncs that still succeed; the one after it fails, and with `dead` everything after it.
    syncs_left: AtomicU64,
    /// Whether the failing sync is the end of the power.
    cuts_power: AtomicBool,
    dead: AtomicBool,
    syncs: AtomicU64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            free_pages: AtomicU64::new(u64::MAX),
            syncs_left: AtomicU64::new(u64::MAX),
            cuts_power: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
        }
    }
}

#[derive(Debug)]
struct SimFile {
    content: Mutex<Content>,
    open: AtomicBool,
    faults: Arc<Faults>,
}

#[derive(Debug, Default, Clone)]
struct Content {
    now: Pages,
    durable: Pages,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Default, Clone)]
struct Pages {
    pages: Vec<Page>,
    len: usize,
}

/// What is left of writes that were not synced.
#[derive(Debug, Clone, Copy)]
pub enum Survival {
    /// All of them: the process died, the system lives.
    All,
    /// None of them.
    None,
    /// Some sectors of them, by this seed.
    Some(u64),
}

impl Default for SimDisk {
    fn default() -> Self {
        let shared = Shared { path: PathBuf::from("disk"), ..Shared::default() };
        Self { shared: Arc::new(shared) }
    }
}

impl SimDisk {
    /// A disk that holds what this one would after a crash now. All faults are gone from it.
    pub fn image(&self, survival: Survival) -> Self {
        let image = Self::default();
        for (name, file) in lock(&self.shared.files).iter() {
            let content = lock(&file.content);
            let kept = content.after_crash(survival);
            let content = Content { now: kept.clone(), durable: kept, dirty: BTreeSet::new() };
            let faults = Arc::clone(&image.shared.faults);
            let file = SimFile { content: Mutex::new(content), open: AtomicBool::new(false), faults };
            lock(&image.shared.files).insert(name.clone(), Arc::new(file));
        }
        image
    }

    /// Lets only so many more pages be added.
    pub fn set_free_pages(&self, pages: u64) {
        self.shared.faults.free_pages.store(pages, Ordering::Relaxed);
    }

    /// Makes the sync after `syncs` more fail. With `cuts_power` nothing works from then on.
    pub fn fail_sync_after(&self, syncs: u64, cuts_power: bool) {
        self.shared.faults.cuts_power.store(cuts_power, Ordering::Relaxed);
        self.shared.faults.syncs_left.store(syncs, Ordering::Relaxed);
    }

    /// Ends the power: nothing can be read or written any more, so that whoever still holds it open cannot tidy up.
    pub fn cut_off(&self) {
        self.shared.faults.dead.store(true, Ordering::Relaxed);
    }

    /// Whether the power ended.
    pub fn is_dead(&self) -> bool {
        self.shared.faults.dead.load(Ordering::Relaxed)
    }

    /// Whether there is a database on it.
    pub fn is_empty(&self) -> bool {
        lock(&self.shared.files).is_empty()
    }

    /// Flips one bit of one file. False when there is none.
    pub fn flip_bit(&self, chance: u64) -> bool {
        let files: Vec<Arc<SimFile>> = lock(&self.shared.files).values().cloned().collect();
        let Some(file) = files.get(index(chance, files.len())) else { return false };
        let mut content = lock(&file.content);
        let bits = content.now.len as u64 * 8;
        if bits == 0 {
            return false;
        }
        let bit = mix(chance) % bits;
        let (page, inside) = (bit as usize / 8 / PAGE, bit as usize / 8 % PAGE);
        let Content { now, durable, .. } = &mut *content;
        for pages in [now, durable] {
            if let Some(page) = pages.pages.get_mut(page) {
                Arc::make_mut(page)[inside] ^= 1 << (bit % 8);
            }
        }
        true
    }
}

fn index(chance: u64, len: usize) -> usize {
    (chance % len.max(1) as u64) as usize
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn empty_page() -> Page {
    Arc::new([0; PAGE])
}

impl Pages {
    fn set_len(&mut self, len: usize) {
        self.pages.truncate(len.div_ceil(PAGE));
        // What is cut off and filled up again reads as zeros.
        if len < self.len
            && !len.is_multiple_of(PAGE)
            && let Some(last) = self.pages.last_mut()
        {
            Arc::make_mut(last)[len % PAGE..].fill(0);
        }
        if self.pages.len() < len.div_ceil(PAGE) {
            let zeros = empty_page();
            self.pages.resize_with(len.div_ceil(PAGE), || Arc::clone(&zeros));
        }
        self.len = len;
    }
}

impl Content {
    fn after_crash(&self, survival: Survival) -> Pages {
        let seed = match survival {
            Survival::All => return self.now.clone(),
            Survival::None => return self.durable.clone(),
            Survival::Some(seed) => seed,
        };
        let mut kept = self.durable.clone();
        if self.now.len != kept.len && mix(seed).is_multiple_of(2) {
            kept.set_len(self.now.len);
        }
        for at in &self.dirty {
            let (Some(written), Some(page)) = (self.now.pages.get(*at), kept.pages.get_mut(*at)) else { continue };
            match mix(seed ^ (*at as u64) << 8) % 4 {
                0 => {}
                1 => {
                    // Torn: a disk writes whole sectors, and no more is promised.
                    let sectors = mix(seed ^ (*at as u64) << 16);
                    for sector in (0..PAGE / SECTOR).filter(|sector| sectors >> sector & 1 == 1) {
                        let range = sector * SECTOR..(sector + 1) * SECTOR;
                        Arc::make_mut(page)[range.clone()].copy_from_slice(&written[range]);
                    }
                }
                _ => *page = Arc::clone(written),
            }
        }
        kept
    }
}

impl Faults {
    fn check(&self) -> io::Result<()> {
        if self.dead.load(Ordering::Relaxed) { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn take_pages(&self, pages: usize) -> io::Result<()> {
        let free = self.free_pages.load(Ordering::Relaxed);
        if free == u64::MAX || pages == 0 {
            return Ok(());
        }
        let left = free.checked_sub(pages as u64).ok_or(io::ErrorKind::StorageFull)?;
        self.free_pages.store(left, Ordering::Relaxed);
        Ok(())
    }

    /// Counts a sync down. An error when it is the one that fails.
    fn sync(&self) -> io::Result<()> {
        self.check()?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        match self.syncs_left.load(Ordering::Relaxed) {
            u64::MAX => Ok(()),
            0 => {
                self.syncs_left.store(u64::MAX, Ordering::Relaxed);
                self.dead.store(self.cuts_power.load(Ordering::Relaxed), Ordering::Relaxed);
                Err(io::Error::other("the sync failed"))
            }
            left => {
                self.syncs_left.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

impl Disk for SimDisk {
    fn path(&self) -> &Path {
        &self.shared.path
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.faults.check()?;
        let mut files = lock(&self.shared.files);
        if create && !files.contains_key(name) {
            let faults = Arc::clone(&self.shared.faults);
            let file = SimFile { content: Mutex::default(), open: AtomicBool::new(false), faults };
            files.insert(name.to_owned(), Arc::new(file));
        }
        let file = files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        if file.open.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Arc::new(Handle { file, held: AtomicBool::new(true) }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.shared.faults.check()?;
        Ok(lock(&self.shared.files).contains_key(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shared.faults.check()?;
        let mut files = lock(&self.shared.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.shared.faults.check()?;
        lock(&self.shared.files).remove(name);
        Ok(())
    }
}

/// An open file; gives it free when it is closed or dropped.
#[derive(Debug)]
struct Handle {
    file: Arc<SimFile>,
    held: AtomicBool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.file.content).now.len as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.faults.check()?;
        let content = lock(&self.file.content);
        let mut at = offset as usize;
        if at + out.len() > content.now.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let inside = at % PAGE;
            let part = (PAGE - inside).min(out.len() - done);
            out[done..done + part].copy_from_slice(&content.now.pages[at / PAGE][inside..inside + part]);
            done += part;
            at += part;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.faults.check()?;
        let mut content = lock(&self.file.content);
        let (mut at, end) = (offset as usize, offset as usize + data.len());
        self.file.faults.take_pages(end.div_ceil(PAGE).saturating_sub(content.now.pages.len()))?;
        if end > content.now.len {
            content.now.set_len(end);
        }
        let mut done = 0;
        while done < data.len() {
            let inside = at % PAGE;
            let part = (PAGE - inside).min(data.len() - done);
            let from = &data[done..done + part];
            let page = &mut content.now.pages[at / PAGE];
            match <&[u8; PAGE]>::try_from(from) {
                Ok(whole) => match Arc::get_mut(page) {
                    Some(own) => own.copy_from_slice(whole),
                    None => *page = Arc::new(*whole),
                },
                Err(_) => Arc::make_mut(page)[inside..inside + part].copy_from_slice(from),
            }
            content.dirty.insert(at / PAGE);
            done += part;
            at += part;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.faults.check()?;
        let mut content = lock(&self.file.content);
        let len = len as usize;
        self.file.faults.take_pages(len.div_ceil(PAGE).saturating_sub(content.now.pages.len()))?;
        let before = content.now.pages.len();
        content.now.set_len(len);
        content.dirty.extend(before.min(len / PAGE)..len.div_ceil(PAGE));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.file.faults.sync();
        let mut content = lock(&self.file.content);
        if synced.is_err() && !self.file.faults.dead.load(Ordering::Relaxed) {
            // The system drops what it could not write and calls the pages clean: they read as before, or as written.
            let kept = content.after_crash(Survival::Some(self.file.faults.syncs.load(Ordering::Relaxed)));
            content.now = kept.clone();
            content.durable = kept;
            content.dirty.clear();
        }
        synced?;
        let Content { now, durable, dirty } = &mut *content;
        durable.set_len(now.len);
        for at in std::mem::take(dirty) {
            if let (Some(written), Some(page)) = (now.pages.get(at), durable.pages.get_mut(at)) {
                *page = Arc::clone(written);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        if self.held.swap(false, Ordering::Relaxed) {
            self.file.open.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}
