//! Storage in memory: the test mode, and a disk that can lose power, refuse a sync, or be full.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Storage, StoredFile};

/// What reaches a disk as a whole or not at all.
const SECTOR: usize = 512;

/// Files in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<String, Arc<Mutex<Content>>>,
    durable_names: BTreeMap<String, Arc<Mutex<Content>>>,
    syncs: u64,
    fail_sync_at: Option<u64>,
    room: Option<usize>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What a power loss would bring back: what was overwritten since the last sync, newest last.
    unsynced: Vec<Overwritten>,
}

#[derive(Debug, Clone)]
struct Overwritten {
    range: Range<usize>,
    /// Shorter than the range where the file has grown.
    before: Vec<u8>,
    length_before: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk as a power loss leaves it: what was synced, and of each sector that was written since, the new bytes if
    /// `reached` says so and the old ones otherwise. Names are as they were at the last sync of names.
    pub fn after_power_loss(&self, mut reached: impl FnMut() -> bool) -> Memory {
        let disk = lock(&self.disk);
        let survivor = |content: &Arc<Mutex<Content>>| {
            let bytes = lock(content).after_power_loss(&mut reached);
            Arc::new(Mutex::new(Content { bytes, unsynced: Vec::new() }))
        };
        let names = disk.durable_names.keys().cloned().zip(disk.durable_names.values().map(survivor));
        let names: BTreeMap<_, _> = names.collect();
        let durable_names = names.clone();
        Memory { disk: Arc::new(Mutex::new(Disk { names, durable_names, ..Disk::default() })) }
    }

    /// The disk as the end of the process leaves it: the system still has everything that was written.
    pub fn after_kill(&self) -> Memory {
        let copy = Memory::new();
        let names = lock(&self.disk).names.clone();
        for (name, content) in names {
            copy.put(&name, lock(&content).bytes.clone());
        }
        copy
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        lock(&self.disk).syncs
    }

    /// The sync with this number fails, counted from one, and makes nothing durable.
    pub fn fail_sync(&self, number: u64) {
        lock(&self.disk).fail_sync_at = Some(number);
    }

    /// Writes fail when a file would become larger than this.
    pub fn limit(&self, bytes: usize) {
        lock(&self.disk).room = Some(bytes);
    }

    /// The names of all files.
    pub fn list(&self) -> Vec<String> {
        lock(&self.disk).names.keys().cloned().collect()
    }

    /// The bytes of a file, to look at or to damage.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.disk).names.get(name).map(|content| lock(content).bytes.clone())
    }

    /// Replaces the bytes of a file, durably.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = lock(&self.disk);
        let content = Arc::new(Mutex::new(Content { bytes, unsynced: Vec::new() }));
        disk.names.insert(name.to_owned(), content.clone());
        disk.durable_names.insert(name.to_owned(), content);
    }

    /// Removes a file, durably.
    pub fn lose(&self, name: &str) {
        let mut disk = lock(&self.disk);
        disk.names.remove(name);
        disk.durable_names.remove(name);
    }
}

impl Content {
    fn write(&mut self, bytes: &[u8], start: usize) {
        let range = start..start + bytes.len();
        let length_before = self.bytes.len();
        let before =
            self.bytes.get(start.min(length_before)..range.end.min(length_before)).unwrap_or_default().to_vec();
        self.bytes.resize(length_before.max(range.end), 0);
        self.bytes[range.clone()].copy_from_slice(bytes);
        self.unsynced.push(Overwritten { range, before, length_before });
    }

    fn truncate(&mut self, length: usize) {
        let length_before = self.bytes.len();
        let range = length.min(length_before)..length_before;
        let before = self.bytes[range.clone()].to_vec();
        self.bytes.truncate(length);
        self.unsynced.push(Overwritten { range: range.start..range.start, before, length_before });
    }

    fn after_power_loss(&self, mut reached: impl FnMut() -> bool) -> Vec<u8> {
        let mut old = self.bytes.clone();
        for overwritten in self.unsynced.iter().rev() {
            old.resize(overwritten.length_before, 0);
            let start = overwritten.range.start.min(overwritten.length_before);
            old[start..start + overwritten.before.len()].copy_from_slice(&overwritten.before);
        }
        let touched = self.unsynced.iter().map(|overwritten| overwritten.range.clone());
        for range in touched.filter(|range| !range.is_empty()) {
            for sector in range.start / SECTOR..range.end.div_ceil(SECTOR) {
                let part = sector * SECTOR..self.bytes.len().min((sector + 1) * SECTOR);
                if !part.is_empty() && reached() {
                    old.resize(old.len().max(part.end), 0);
                    old[part.clone()].copy_from_slice(&self.bytes[part]);
                }
            }
        }
        old
    }
}

impl Storage for Memory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let content = lock(&self.disk).names.entry(name.to_owned()).or_default().clone();
        Ok(Arc::new(InMemory { disk: self.disk.clone(), content }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.list())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.disk).names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let content = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn label(&self) -> String {
        "memory".to_owned()
    }
}

struct InMemory {
    disk: Arc<Mutex<Disk>>,
    content: Arc<Mutex<Content>>,
}

impl StoredFile for InMemory {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.content).bytes.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        let content = lock(&self.content);
        let start = usize::try_from(position).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let found = content.bytes.get(start..start + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let room = lock(&self.disk).room.unwrap_or(usize::MAX);
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let mut content = lock(&self.content);
        if start + bytes.len() > room {
            // Like a real one, a full disk takes what fits.
            content.write(&bytes[..room.saturating_sub(start).min(bytes.len())], start);
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.write(bytes, start);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.syncs += 1;
        if disk.fail_sync_at == Some(disk.syncs) {
            return Err(io::Error::other("the disk did not take it"));
        }
        drop(disk);
        lock(&self.content).unsynced.clear();
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        lock(&self.content).truncate(usize::try_from(length).map_err(io::Error::other)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(writes: &[(&str, u64)]) -> Memory {
        let disk = Memory::new();
        let file = disk.open("f").unwrap();
        disk.sync_names().unwrap();
        file.write_at(b"0123456789", 0).unwrap();
        file.sync().unwrap();
        writes.iter().for_each(|(bytes, at)| file.write_at(bytes.as_bytes(), *at).unwrap());
        disk
    }

    fn check(disk: &Memory, reached: bool, expected: &str) {
        let bytes = disk.after_power_loss(|| reached).bytes("f").unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn a_power_loss_takes_what_was_not_synced() {
        let disk = written(&[("ab", 2), ("xyz", 9), ("c", 3)]);
        check(&disk, false, "0123456789");
        check(&disk, true, "01ac45678xyz");
    }

    #[test]
    fn a_cut_is_undone_by_a_power_loss_too() {
        let disk = written(&[]);
        disk.open("f").unwrap().truncate(4).unwrap();
        check(&disk, false, "0123456789");
    }

    #[test]
    fn names_that_were_not_synced_are_lost() {
        let disk = written(&[]);
        disk.rename("f", "g").unwrap();
        assert_eq!(disk.after_power_loss(|| true).list(), ["f"]);
        disk.sync_names().unwrap();
        assert_eq!(disk.after_power_loss(|| true).list(), ["g"]);
    }
}
