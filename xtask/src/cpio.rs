//! The "newc" archive: Linux reads its initramfs from one, and the hypervisor its guests.
//! For the hypervisor every file's data starts on a page, so that media are used in place.

/// A page: what the hypervisor maps.
pub const PAGE: usize = 4096;

/// Name of the entries whose only job is to push the next file's data to a page boundary.
pub const PADDING: &str = "padding";

const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";

/// An archive being written.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[], 0);
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entry(name, 0o100_000 | mode, data, 0);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.entry(name, 0o120_777, target.as_bytes(), 0);
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, &[], (major << 8) | minor);
    }

    /// Adds a file whose data starts on a page boundary of the archive.
    pub fn aligned_file(&mut self, name: &str, data: &[u8]) {
        let start = self.bytes.len() + header_len(name);
        if !start.is_multiple_of(PAGE) {
            let first = self.bytes.len() + header_len(PADDING);
            let pad = (PAGE - (first + header_len(name)) % PAGE) % PAGE;
            self.entry(PADDING, 0o100_444, &vec![0; pad], 0);
        }
        debug_assert_eq!((self.bytes.len() + header_len(name)) % PAGE, 0);
        self.entry(name, 0o100_444, data, 0);
    }

    /// Ends the archive, padded to whole pages.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry(TRAILER, 0, &[], 0);
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE), 0);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8], rdev: u32) {
        self.inode += 1;
        let size = u32::try_from(data.len()).expect("a file in an archive is under 4 GiB");
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // nlink
            0, // mtime: the same input makes the same archive
            size,
            0, // devmajor
            0, // devminor
            rdev >> 8,
            rdev & 0xff,
            name.len() as u32 + 1,
            0, // check
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Bytes from an entry's start to its data.
fn header_len(name: &str) -> usize {
    (HEADER + name.len() + 1).next_multiple_of(4)
}

/// Reads an archive: names, modes, and where each file's data is.
#[cfg(test)]
pub fn list(bytes: &[u8]) -> Vec<(String, u32, std::ops::Range<usize>)> {
    let mut at = 0;
    let mut found = Vec::new();
    loop {
        assert_eq!(&bytes[at..at + 6], b"070701");
        let field = |n: usize| {
            let text = std::str::from_utf8(&bytes[at + 6 + n * 8..at + 14 + n * 8]).unwrap();
            u32::from_str_radix(text, 16).unwrap() as usize
        };
        let (mode, size, name_len) = (field(1) as u32, field(6), field(11));
        let name = std::str::from_utf8(&bytes[at + HEADER..at + HEADER + name_len - 1]).unwrap();
        let data = at + header_len(name);
        if name == TRAILER {
            return found;
        }
        found.push((name.to_owned(), mode, data..data + size));
        at = (data + size).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_files_start_on_pages_whatever_the_names_and_sizes() {
        for extra in 0..40 {
            let mut archive = Archive::new();
            archive.file(&"x".repeat(extra + 1), 0o644, &vec![7; extra * 3]);
            archive.aligned_file("guests/a.cfg", b"name = \"a\"\n");
            archive.aligned_file(&"m".repeat(extra + 1), &[1; 5000]);
            let bytes = archive.finish();
            assert_eq!(bytes.len() % PAGE, 0);
            let files = list(&bytes);
            for (name, _, data) in &files {
                if name == "guests/a.cfg" || name.starts_with('m') {
                    assert_eq!(data.start % PAGE, 0, "{name}");
                }
            }
            assert_eq!(&bytes[files.last().unwrap().2.clone()], &[1; 5000]);
        }
    }

    #[test]
    fn the_kinds_of_entries_have_their_modes() {
        let mut archive = Archive::new();
        archive.directory("bin");
        archive.link("bin/sh", "busybox");
        archive.device("dev/console", 5, 1);
        let bytes = archive.finish();
        let modes: Vec<u32> = list(&bytes).into_iter().map(|(_, mode, _)| mode).collect();
        assert_eq!(modes, [0o040_755, 0o120_777, 0o020_600]);
    }
}
