//! Boot modules as archives: cpio "newc", as `xtask` packs them, with the data of each file on a page boundary.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path in the archive.
    pub name: String,
    /// Contents.
    pub bytes: &'static [u8],
}

/// Bytes of a header.
const HEADER: usize = 110;

fn field(header: &[u8], n: usize) -> Result<usize, &'static str> {
    let start = 6 + n * 8;
    let digits = header.get(start..start + 8).ok_or("the archive ends early")?;
    let digits = core::str::from_utf8(digits).map_err(|_| "a damaged archive")?;
    usize::from_str_radix(digits, 16).map_err(|_| "a damaged archive")
}

const fn up(value: usize) -> usize {
    (value + 3) & !3
}

/// The regular files of a cpio archive (cpio(5) "New ASCII Format").
///
/// # Errors
/// What is wrong with it.
pub fn entries(archive: &'static [u8]) -> Result<Vec<Entry>, &'static str> {
    let mut entries = Vec::new();
    let mut at = 0;
    loop {
        let header = archive.get(at..at + HEADER).ok_or("not a cpio archive, or it ends early")?;
        if !header.starts_with(b"070701") {
            return Err("not a cpio archive");
        }
        let (mode, bytes, name_bytes) = (field(header, 1)?, field(header, 6)?, field(header, 11)?);
        let name_end = (at + HEADER).checked_add(name_bytes).ok_or("a damaged archive")?;
        let name = archive.get(at + HEADER..name_end).ok_or("the archive ends early")?;
        let name = core::str::from_utf8(name).map_err(|_| "a name that is not UTF-8")?;
        let name = name.trim_end_matches('\0');
        let data = up(name_end);
        let end = data.checked_add(bytes).ok_or("a damaged archive")?;
        let contents = archive.get(data..end).ok_or("the archive ends early")?;
        if name == "TRAILER!!!" {
            return Ok(entries);
        }
        if mode & 0o170_000 == 0o100_000 {
            entries.push(Entry { name: name.to_string(), bytes: contents });
        }
        at = up(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> &'static [u8] {
        let mut out = Vec::new();
        let mut add = |name: &str, bytes: &[u8], mode: usize| {
            let n = [0, mode, 0, 0, 1, 0, bytes.len(), 0, 0, 0, 0, name.len() + 1, 0];
            out.extend_from_slice(b"070701");
            for value in n {
                out.extend_from_slice(std::format!("{value:08x}").as_bytes());
            }
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.resize(up(out.len()), 0);
            out.extend_from_slice(bytes);
            out.resize(up(out.len()), 0);
        };
        for (name, bytes) in files {
            add(name, bytes, 0o100_644);
        }
        add("TRAILER!!!", b"", 0);
        out.leak()
    }

    #[test]
    fn files_come_out_with_their_names_and_bytes() {
        let made = archive(&[("guests/a.cfg", b"memory = 64"), ("disk.img", &[7; 513])]);
        let found = entries(made).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].bytes), ("guests/a.cfg", &b"memory = 64"[..]));
        assert_eq!(found[1].bytes, &[7; 513]);
    }

    #[test]
    fn every_truncation_is_refused() {
        let made = archive(&[("a", b"x"), ("b", b"yz")]);
        for len in 0..made.len() - 1 {
            assert!(entries(&made[..len]).is_err() || len >= made.len() - 4, "{len}");
        }
    }
}
