//! How redb's pages reach a file: plainly behind one page of ours, or with a checksum for each page.
//!
//! redb trusts the pages that it reads: a flipped bit in one makes it panic or answer wrongly. So `documents.redb`
//! keeps a CRC32C of every page, checked at every read from the disk. Layout: groups of one page of sums and the
//! 1024 pages they belong to. A sum of zero stands for a page never written. redb's page 0 is its header, which it
//! overwrites in place; both files keep a guard there ([`super::header_guard`]).
//!
//! After a power cut this is safe because `documents.redb` is committed in two phases: pages and sums are durable
//! before the header names them, and no page that is not named is read before it is written again. The log is
//! committed in one phase, where redb itself must find pages that did not arrive, and go back to the commit before:
//! sums in the file would make damage of a commit that was cut. So redb compares all its pages with its own checksums
//! when the log is opened, and from then on a page's sum is kept in memory: every later read must give what was read
//! first or written last. A sector of sums is assumed to be written whole or not at all.

use super::disk::DiskFile;
use super::error::StorageError;
use super::header_guard::{self, HEADER_BYTES};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;
const GROUP_PAGES: u64 = 1024;
const SUM_BYTES: usize = 4;

/// What happened to a file, as far as redb does not tell.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Faults>);

#[derive(Debug, Default, Clone)]
struct Faults {
    first: Option<StorageError>,
    sync_failed: bool,
}

impl Health {
    /// The first failure. redb names it only once, and afterwards speaks of a "previous" one.
    pub(super) fn first(&self) -> Option<StorageError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first.clone()
    }

    /// Whether a sync failed: what was written may or may not be there, so nothing may be tried again.
    pub(super) fn sync_failed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sync_failed
    }

    fn note<T>(&self, path: &Path, action: &'static str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            faults.sync_failed |= action == "syncing";
            faults.first.get_or_insert_with(|| StorageError::io(path, action, error));
        }
        result
    }
}

/// A file as redb sees it.
#[derive(Debug)]
pub(super) struct RedbFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    health: Arc<Health>,
    sums: Sums,
    /// A length that a sync has made durable; of a file that was opened, what its guard says.
    durable_len: AtomicU64,
}

/// Where the pages' sums are.
#[derive(Debug)]
enum Sums {
    InFile,
    /// Of the pages read or written since the file was opened, by their numbers; zero for any other.
    InMemory(Mutex<Vec<u32>>),
}

impl RedbFile {
    /// Without sums in the file, behind one page for a mark ([`super::log_mark`]).
    pub(super) fn plain(file: Arc<dyn DiskFile>, path: PathBuf, health: Arc<Health>) -> Self {
        Self { file, path, health, sums: Sums::InMemory(Mutex::default()), durable_len: AtomicU64::new(0) }
    }

    /// With a sum for each page in the file.
    pub(super) fn summed(file: Arc<dyn DiskFile>, path: PathBuf, health: Arc<Health>) -> Self {
        Self { file, path, health, sums: Sums::InFile, durable_len: AtomicU64::new(0) }
    }

    fn read_header(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        self.file.read(PAGE, &mut header)?;
        if let Some(durable_len) = header_guard::check(&mut header)? {
            let len = self.file.len()?;
            if len < durable_len {
                let what = format!("it was cut: it has {len} bytes, and {durable_len} were durable");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            self.durable_len.store(durable_len, Ordering::Relaxed);
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = header.get(from..from.saturating_add(out.len()));
        out.copy_from_slice(part.ok_or_else(|| io::Error::other("a read goes beyond redb's header"))?);
        Ok(())
    }

    fn write_header(&self, data: &[u8]) -> io::Result<()> {
        let header = data.try_into();
        let mut header = header.map_err(|_| io::Error::other("a write does not keep to redb's header"))?;
        header_guard::protect(&mut header, self.durable_len.load(Ordering::Relaxed))?;
        self.file.write(PAGE, &header)
    }

    fn sync(&self) -> io::Result<()> {
        let len = self.file.len()?;
        self.file.sync()?;
        self.durable_len.store(len, Ordering::Relaxed);
        Ok(())
    }

    /// Before the file becomes shorter, its guard must durably say so.
    fn lower_guard(&self, len: u64) -> io::Result<()> {
        if len >= self.durable_len.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut header = [0; HEADER_BYTES];
        self.file.read(PAGE, &mut header)?;
        if header_guard::check(&mut header)?.is_some() {
            header_guard::protect(&mut header, len)?;
            self.file.write(PAGE, &header)?;
            self.file.sync()?;
        }
        self.durable_len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn read_plain(&self, sums: &Mutex<Vec<u32>>, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(PAGE + offset, out)?;
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, page) in (offset / PAGE..).zip(out.chunks(PAGE_BYTES)) {
            let (found, known) = (sum_of(number, page), slot(&mut sums, number));
            if *known != 0 && *known != found {
                return Err(rotten(number));
            }
            *known = found;
        }
        Ok(())
    }

    fn write_plain(&self, sums: &Mutex<Vec<u32>>, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, page) in (offset / PAGE..).zip(data.chunks(PAGE_BYTES)) {
            *slot(&mut sums, number) = sum_of(number, page);
        }
        self.file.write(PAGE + offset, data)
    }

    fn read_summed(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut rest = out;
        let mut first = offset / PAGE;
        while !rest.is_empty() {
            let pages = run_pages(first, rest.len());
            let (run, behind) = rest.split_at_mut(pages * PAGE_BYTES);
            self.file.read(place_of(first), run)?;
            let mut sums = vec![0; pages * SUM_BYTES];
            self.file.read(place_of_sum(first), &mut sums)?;
            for ((number, page), sum) in (first..).zip(run.chunks(PAGE_BYTES)).zip(sums.as_chunks::<SUM_BYTES>().0) {
                if !fits(number, page, *sum) {
                    return Err(rotten(number));
                }
            }
            first += pages as u64;
            rest = behind;
        }
        Ok(())
    }

    fn write_summed(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        let mut first = offset / PAGE;
        while !rest.is_empty() {
            let pages = run_pages(first, rest.len());
            let (run, behind) = rest.split_at(pages * PAGE_BYTES);
            let numbered = (first..).zip(run.chunks(PAGE_BYTES));
            let sums: Vec<u8> = numbered.flat_map(|(number, page)| sum_of(number, page).to_le_bytes()).collect();
            self.file.write(place_of(first), run)?;
            self.file.write(place_of_sum(first), &sums)?;
            first += pages as u64;
            rest = behind;
        }
        Ok(())
    }

    fn set_len_summed(&self, len: u64) -> io::Result<()> {
        let pages = len.div_ceil(PAGE);
        let before = logical_pages(self.file.len()?);
        let physical_len = (pages + pages.div_ceil(GROUP_PAGES)) * PAGE;
        self.lower_guard(physical_len)?;
        self.file.set_len(physical_len)?;
        // Sums of pages that were cut off must not meet the zeros that may come in their place.
        let end = before.min(pages.next_multiple_of(GROUP_PAGES));
        if let Some(stale) = end.checked_sub(pages).filter(|stale| *stale > 0) {
            let zeros = vec![0; usize::try_from(stale).unwrap_or(0) * SUM_BYTES];
            self.file.write(place_of_sum(pages), &zeros)?;
        }
        Ok(())
    }

    fn set_len_plain(&self, sums: &Mutex<Vec<u32>>, len: u64) -> io::Result<()> {
        self.lower_guard(PAGE + len)?;
        sums.lock().unwrap_or_else(PoisonError::into_inner).truncate(to_index(len.div_ceil(PAGE)));
        self.file.set_len(PAGE + len)
    }
}

/// Whether redb reads or writes in its header; everything else must keep to pages.
fn is_header(offset: u64, bytes: usize) -> io::Result<bool> {
    if offset < PAGE && bytes <= HEADER_BYTES {
        return Ok(true);
    }
    if offset == 0 || !offset.is_multiple_of(PAGE) || !bytes.is_multiple_of(PAGE_BYTES) {
        return Err(io::Error::other("it is not read and written by pages"));
    }
    Ok(false)
}

fn rotten(number: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the checksum of page {number} does not fit"))
}

fn to_index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The place of a page's sum in memory. The pages that were read or written are those of the file, so they are bounded.
fn slot(sums: &mut Vec<u32>, number: u64) -> &mut u32 {
    let index = to_index(number);
    if sums.len() <= index {
        sums.resize(index + 1, 0);
    }
    &mut sums[index]
}

fn place_of(page: u64) -> u64 {
    (page + page / GROUP_PAGES + 1) * PAGE
}

fn place_of_sum(page: u64) -> u64 {
    page / GROUP_PAGES * (GROUP_PAGES + 1) * PAGE + page % GROUP_PAGES * SUM_BYTES as u64
}

/// Of the pages from `first` on, those that stand together: up to the end of their group.
fn run_pages(first: u64, bytes: usize) -> usize {
    let left = GROUP_PAGES - first % GROUP_PAGES;
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes / PAGE_BYTES)
}

fn fits(number: u64, page: &[u8], stored: [u8; SUM_BYTES]) -> bool {
    match u32::from_le_bytes(stored) {
        0 => page.iter().all(|byte| *byte == 0),
        stored => stored == sum_of(number, page),
    }
}

fn logical_pages(physical_len: u64) -> u64 {
    let pages = physical_len / PAGE;
    pages - pages.div_ceil(GROUP_PAGES + 1)
}

/// Takes the page's number in, so that a page in a wrong place is found too.
fn sum_of(number: u64, page: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), page).max(1)
}

impl redb::StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        let len = self.health.note(&self.path, "measuring", self.file.len())?;
        Ok(match self.sums {
            Sums::InFile => logical_pages(len) * PAGE,
            Sums::InMemory(_) => len.saturating_sub(PAGE),
        })
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let result = is_header(offset, out.len()).and_then(|is_header| match &self.sums {
            _ if is_header => self.read_header(offset, out),
            Sums::InFile => self.read_summed(offset, out),
            Sums::InMemory(sums) => self.read_plain(sums, offset, out),
        });
        self.health.note(&self.path, "reading", result)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let result = is_header(offset, data.len()).and_then(|is_header| match &self.sums {
            _ if is_header => self.write_header(data),
            Sums::InFile => self.write_summed(offset, data),
            Sums::InMemory(sums) => self.write_plain(sums, offset, data),
        });
        self.health.note(&self.path, "writing", result)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let result = match &self.sums {
            Sums::InFile => self.set_len_summed(len),
            Sums::InMemory(sums) => self.set_len_plain(sums, len),
        };
        self.health.note(&self.path, "growing", result)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.health.note(&self.path, "syncing", self.sync())
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::disk::Disk as _;
    use super::super::memory_disk::MemoryDisk;
    use super::*;
    use redb::StorageBackend as _;

    #[test]
    fn reads_and_writes_across_groups_keep_their_sums_also_after_shrinking_and_growing() {
        let disk = MemoryDisk::default();
        let file = disk.open("file", true).unwrap();
        let summed = RedbFile::summed(file, PathBuf::from("file"), Arc::default());
        let pages = 2 * GROUP_PAGES as usize + 10;
        let data: Vec<u8> = (0..pages * PAGE_BYTES).map(|at| (at / 1000) as u8).collect();
        summed.set_len(data.len() as u64).unwrap();
        summed.write(PAGE, &data[PAGE_BYTES..]).unwrap();
        let mut read = vec![0; data.len()];
        summed.read(PAGE, &mut read[PAGE_BYTES..]).unwrap();
        assert!(read[PAGE_BYTES..] == data[PAGE_BYTES..]);
        for shorter in [1500, 1024, 1000, 2] {
            summed.set_len(shorter * PAGE).unwrap();
            summed.set_len(data.len() as u64).unwrap();
            assert_eq!(summed.len().unwrap(), data.len() as u64);
            summed.read(PAGE, &mut read[PAGE_BYTES..]).unwrap();
            assert!(read[shorter as usize * PAGE_BYTES..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_page_that_rots_while_its_file_is_open_is_found_in_both_kinds_of_file() {
        for kind in [RedbFile::plain, RedbFile::summed] {
            let disk = MemoryDisk::default();
            let file = disk.open("file", true).unwrap();
            let health = Arc::new(Health::default());
            let redb_file = kind(Arc::clone(&file), PathBuf::from("file"), Arc::clone(&health));
            redb_file.set_len(8 * PAGE).unwrap();
            redb_file.write(2 * PAGE, &[7; 3 * PAGE_BYTES]).unwrap();
            let mut read = vec![0; 3 * PAGE_BYTES];
            redb_file.read(2 * PAGE, &mut read).unwrap();
            let place = place_of(3) + 99;
            file.write(place, &[6]).unwrap();
            let error = redb_file.read(2 * PAGE, &mut read).unwrap_err();
            assert!(error.to_string().contains("page 3"), "{error}");
            assert!(matches!(health.first(), Some(StorageError::Damaged { .. })));
            file.write(place, &[7]).unwrap();
            redb_file.read(2 * PAGE, &mut read).unwrap();
            // What comes in place of pages that were cut off is no damage.
            redb_file.set_len(3 * PAGE).unwrap();
            redb_file.set_len(8 * PAGE).unwrap();
            redb_file.read(3 * PAGE, &mut read).unwrap();
            assert!(read.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn every_page_and_every_sum_has_a_place_of_its_own() {
        let mut taken = std::collections::BTreeSet::new();
        for page in 0..3 * GROUP_PAGES {
            assert!(taken.insert(place_of(page)), "{page}");
            assert_eq!(place_of_sum(page) / PAGE % (GROUP_PAGES + 1), 0);
            assert!(!taken.contains(&(place_of_sum(page) / PAGE * PAGE)));
            let physical = place_of(page) + PAGE;
            assert_eq!(logical_pages(physical), page + 1);
        }
    }
}
