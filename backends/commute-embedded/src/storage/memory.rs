//! Storage in memory: the test mode, and a disk that can lose power, lie about a sync, or be full.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Storage, StoredFile};

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
    room: Option<u64>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk as a power loss leaves it: only what was synced. `torn` bytes of each unsynced tail survive, as sectors
    /// that had reached the disk would.
    pub fn after_power_loss(&self, torn: usize) -> Memory {
        let disk = lock(&self.disk);
        let mut names = BTreeMap::new();
        for (name, content) in &disk.durable_names {
            let content = lock(content);
            let mut bytes = content.durable.clone();
            let tail = content.bytes.get(bytes.len()..).unwrap_or_default();
            bytes.extend(tail.iter().take(torn));
            names.insert(name.clone(), Arc::new(Mutex::new(Content { durable: bytes.clone(), bytes })));
        }
        let durable_names = names.clone();
        Memory { disk: Arc::new(Mutex::new(Disk { names, durable_names, ..Disk::default() })) }
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        lock(&self.disk).syncs
    }

    /// The sync with this number fails, counted from one.
    pub fn fail_sync(&self, number: u64) {
        lock(&self.disk).fail_sync_at = Some(number);
    }

    /// Writes fail when the files take more than this many bytes.
    pub fn limit(&self, bytes: u64) {
        lock(&self.disk).room = Some(bytes);
    }

    /// The bytes of a file, to look at or to damage.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.disk).names.get(name).map(|content| lock(content).bytes.clone())
    }

    /// Replaces the bytes of a file.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = lock(&self.disk);
        let content = Arc::new(Mutex::new(Content { durable: bytes.clone(), bytes }));
        disk.names.insert(name.to_owned(), content.clone());
        disk.durable_names.insert(name.to_owned(), content);
    }
}

impl Storage for Memory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let content = lock(&self.disk).names.entry(name.to_owned()).or_default().clone();
        Ok(Arc::new(InMemory { disk: self.disk.clone(), content }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.disk).names.keys().cloned().collect())
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
        let room = lock(&self.disk).room;
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let end = start + bytes.len();
        if room.is_some_and(|room| end as u64 > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut content = lock(&self.content);
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.syncs += 1;
        if disk.fail_sync_at == Some(disk.syncs) {
            return Err(io::Error::other("the disk did not take it"));
        }
        drop(disk);
        let mut content = lock(&self.content);
        content.durable = content.bytes.clone();
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.bytes.truncate(usize::try_from(length).map_err(io::Error::other)?);
        content.durable = content.bytes.clone();
        Ok(())
    }
}
