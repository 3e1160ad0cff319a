//! What the device tells: numbered items, and files which a directory lists by name.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The keys of items that have fixed ones.
pub mod key {
    /// "QEMU".
    pub const SIGNATURE: u16 = 0x00;
    /// Which interfaces there are: bit 0 the ports, bit 1 DMA.
    pub const ID: u16 = 0x01;
    /// 16 bytes.
    pub const UUID: u16 = 0x02;
    /// Bytes of RAM, 64 bits.
    pub const RAM_SIZE: u16 = 0x03;
    /// 1 when there is no display, 16 bits.
    pub const NO_GRAPHIC: u16 = 0x04;
    /// How many CPUs there are, 16 bits.
    pub const CPUS: u16 = 0x05;
    /// 1 to show the boot menu, 16 bits.
    pub const BOOT_MENU: u16 = 0x0E;
    /// How many CPUs there could be, 16 bits.
    pub const MAX_CPUS: u16 = 0x0F;
    /// The directory of files.
    pub const DIRECTORY: u16 = 0x19;
    /// The first file.
    pub const FIRST_FILE: u16 = 0x20;
    /// 1 when IRQ0 is I/O APIC pin 2, 32 bits.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
}

/// The most files there can be.
const MAX_FILES: usize = 64;
/// Bytes of a file's name in the directory, with the zero after it.
pub(super) const NAME: usize = 56;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub key: u16,
    pub bytes: Cow<'static, [u8]>,
}

/// Why an item is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemsError {
    /// The key or the name is used already.
    Twice,
    /// The name is empty, longer than 55 bytes, or holds a zero.
    Name,
    /// There are 64 files already.
    TooMany,
    /// The content is 4 GiB or more.
    TooLong,
}

/// What a range of memory is, in the numbers of INT 15h, E820h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// RAM.
    Ram = 1,
    /// Not to be used.
    Reserved = 2,
}

/// A range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// The first guest-physical address.
    pub start: u64,
    /// How many bytes.
    pub length: u64,
    /// What it is.
    pub kind: MemoryKind,
}

/// The items, while they are put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    items: Vec<Item>,
    names: Vec<Cow<'static, str>>,
}

impl Items {
    /// Signature and interfaces only.
    #[must_use]
    pub fn new() -> Self {
        let mut items = Self::default();
        items.put(key::SIGNATURE, Cow::Borrowed(b"QEMU"));
        items.put(key::ID, Cow::Borrowed(&[3, 0, 0, 0]));
        items
    }

    /// What firmware needs to know of a PC: `ram` bytes in all, `cpus`, and the memory map for file
    /// `etc/e820`, which lists RAM and what is reserved in it.
    #[must_use]
    pub fn pc(ram: u64, cpus: (u16, u16), map: &[MemoryRange]) -> Self {
        let mut items = Self::new();
        items.put(key::RAM_SIZE, Cow::Owned(ram.to_le_bytes().to_vec()));
        items.put(key::NO_GRAPHIC, Cow::Borrowed(&[0, 0]));
        for (key, cpus) in [(key::CPUS, cpus.0), (key::MAX_CPUS, cpus.1)] {
            items.put(key, Cow::Owned(cpus.to_le_bytes().to_vec()));
        }
        items.put(key::BOOT_MENU, Cow::Borrowed(&[0, 0]));
        items.put(key::IRQ0_OVERRIDE, Cow::Borrowed(&[1, 0, 0, 0]));
        let mut e820 = Vec::with_capacity(map.len() * 20);
        for range in map {
            e820.extend_from_slice(&range.start.to_le_bytes());
            e820.extend_from_slice(&range.length.to_le_bytes());
            e820.extend_from_slice(&(range.kind as u32).to_le_bytes());
        }
        items.put_file(Cow::Borrowed("etc/e820"), Cow::Owned(e820));
        items
    }

    /// Adds an item with a fixed key.
    ///
    /// # Errors
    /// [`ItemsError::Twice`], also for the keys of files, and [`ItemsError::TooLong`].
    pub fn item(
        &mut self,
        key: u16,
        bytes: impl Into<Cow<'static, [u8]>>,
    ) -> Result<(), ItemsError> {
        let files = key::FIRST_FILE..key::FIRST_FILE + MAX_FILES as u16;
        let taken = self.items.iter().any(|item| item.key == key);
        if taken || key == key::DIRECTORY || files.contains(&key) {
            return Err(ItemsError::Twice);
        }
        let bytes = bytes.into();
        u32::try_from(bytes.len()).map_err(|_| ItemsError::TooLong)?;
        self.put(key, bytes);
        Ok(())
    }

    /// Replaces an item with a fixed key, or adds it: for one of what [`Self::pc`] made.
    ///
    /// # Errors
    /// As [`Self::item`].
    pub fn set(
        &mut self,
        key: u16,
        bytes: impl Into<Cow<'static, [u8]>>,
    ) -> Result<(), ItemsError> {
        if !(key::FIRST_FILE..key::FIRST_FILE + MAX_FILES as u16).contains(&key) {
            self.items.retain(|item| item.key != key);
        }
        self.item(key, bytes)
    }

    /// Adds a file, such as `bootorder` or `etc/table-loader`.
    ///
    /// # Errors
    /// See [`ItemsError`].
    pub fn file(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        bytes: impl Into<Cow<'static, [u8]>>,
    ) -> Result<(), ItemsError> {
        let (name, bytes) = (name.into(), bytes.into());
        if name.is_empty() || name.len() >= NAME || name.contains('\0') {
            return Err(ItemsError::Name);
        }
        if self.names.contains(&name) {
            return Err(ItemsError::Twice);
        }
        if self.names.len() >= MAX_FILES {
            return Err(ItemsError::TooMany);
        }
        u32::try_from(bytes.len()).map_err(|_| ItemsError::TooLong)?;
        self.put_file(name, bytes);
        Ok(())
    }

    fn put(&mut self, key: u16, bytes: Cow<'static, [u8]>) {
        self.items.push(Item { key, bytes });
    }

    fn put_file(&mut self, name: Cow<'static, str>, bytes: Cow<'static, [u8]>) {
        let key = key::FIRST_FILE + self.names.len() as u16;
        self.names.push(name);
        self.put(key, bytes);
    }

    /// Writes the directory and sorts by key.
    pub(super) fn finish(mut self) -> Box<[Item]> {
        let mut directory = Vec::with_capacity(4 + self.names.len() * 64);
        directory.extend_from_slice(&(self.names.len() as u32).to_be_bytes());
        for (key, name) in (key::FIRST_FILE..).zip(&self.names) {
            let item = self.items.iter().find(|item| item.key == key);
            let size = item.map_or(0, |item| item.bytes.len()) as u32;
            directory.extend_from_slice(&size.to_be_bytes());
            directory.extend_from_slice(&key.to_be_bytes());
            directory.extend_from_slice(&[0, 0]);
            directory.extend_from_slice(&padded(name));
        }
        self.put(key::DIRECTORY, Cow::Owned(directory));
        self.items.sort_by_key(|item| item.key);
        self.items.into_boxed_slice()
    }
}

/// A name in its 56 bytes.
pub(super) fn padded(name: &str) -> [u8; NAME] {
    let mut field = [0; NAME];
    for (to, from) in field.iter_mut().zip(name.bytes().take(NAME - 1)) {
        *to = from;
    }
    field
}
