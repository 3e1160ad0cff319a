//! Names of nodes. A path is checked once, when it enters; its hash makes it a quick key, and the hash
//! of each prefix falls off on the way (FNV-1a), so that a walk up to the root costs one pass.

use super::StoreError;
use crate::seam::DomId;
use alloc::format;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;

/// Bytes of an absolute path at most (`XENSTORE_ABS_PATH_MAX`).
pub const ABSOLUTE_MAX: usize = 3072;
/// Bytes below a domain's home at most (`XENSTORE_REL_PATH_MAX`).
pub const RELATIVE_MAX: usize = 2048;

const HOMES: &str = "/local/domain/";

/// A checked path: absolute, or a special one that begins with `@`. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Path {
    hash: u64,
    text: Arc<str>,
}

impl Path {
    /// `/`.
    #[must_use]
    pub fn root() -> Path {
        Path::checked("/".into())
    }

    /// `/local/domain/<domid>`.
    #[must_use]
    pub fn home(domid: DomId) -> Path {
        Path::checked(format!("{HOMES}{}", domid.0).into())
    }

    /// A path as a client names it: absolute, or relative to its domain's home.
    ///
    /// # Errors
    /// [`StoreError::Malformed`]: other characters than letters, digits and `-_@/`, an empty part, or too
    /// long.
    pub fn parse(text: &[u8], domid: DomId) -> Result<Path, StoreError> {
        let text = core::str::from_utf8(text).map_err(|_| StoreError::Malformed)?;
        let parts = text.strip_prefix('/').unwrap_or(text);
        if text.starts_with('@') || !(text == "/" || parts_are_good(parts)) {
            return Err(StoreError::Malformed);
        }
        let (text, below_home): (Arc<str>, _) = if text.starts_with('/') {
            let below = text.strip_prefix(HOMES).and_then(|rest| rest.split_once('/'));
            (text.into(), below.map_or(0, |(_, below)| below.len()))
        } else {
            let mut digits = [0; 5];
            (joined([HOMES, decimal(domid.0, &mut digits), "/", text]), text.len())
        };
        if text.len() > ABSOLUTE_MAX || below_home > RELATIVE_MAX {
            return Err(StoreError::Malformed);
        }
        Ok(Path::checked(text))
    }

    /// What a watch may name: also `@introduceDomain`, `@releaseDomain/7`, or any other `@name`.
    ///
    /// # Errors
    /// [`StoreError::Malformed`], as [`parse`](Path::parse).
    pub fn parse_watched(text: &[u8], domid: DomId) -> Result<Path, StoreError> {
        if text.first() != Some(&b'@') {
            return Path::parse(text, domid);
        }
        let text = core::str::from_utf8(text).map_err(|_| StoreError::Malformed)?;
        if text.len() > RELATIVE_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StoreError::Malformed);
        }
        Ok(Path::checked(text.into()))
    }

    fn checked(text: Arc<str>) -> Path {
        Path { hash: text.bytes().fold(FNV_START, fnv), text }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is an event's name, not a node's.
    #[must_use]
    pub fn is_special(&self) -> bool {
        self.text.starts_with('@')
    }

    /// The last part; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.rsplit_once('/').map_or(self.as_str(), |(_, name)| name)
    }

    /// The node above. `None` for the root and for special paths.
    #[must_use]
    pub fn parent(&self) -> Option<Path> {
        match self.text.rsplit_once('/') {
            _ if &*self.text == "/" || self.is_special() => None,
            Some(("", _)) => Some(Path::root()),
            Some((above, _)) => Some(Path::checked(above.into())),
            None => None,
        }
    }

    /// A node below. `name` is not checked: it is one part of good characters, or several with `/`
    /// between them, and chosen by the caller, not by a guest.
    #[must_use]
    pub fn join(&self, name: impl fmt::Display) -> Path {
        let between = if &*self.text == "/" { "" } else { "/" };
        Path::checked(format!("{}{between}{name}", self.text).into())
    }

    /// The path and all above it, shortest first.
    pub(super) fn prefixes(&self) -> Prefixes<'_> {
        Prefixes { text: &self.text, at: 0, hash: FNV_START }
    }

    /// How many parts it has; 0 for the root.
    pub(super) fn depth(&self) -> usize {
        match self.text.bytes().filter(|byte| *byte == b'/').count() {
            1 if &*self.text == "/" => 0,
            slashes => slashes,
        }
    }

    /// What of it a client sees that gave it relative to `domid`'s home: the length to cut.
    pub(super) fn home_len(domid: DomId) -> usize {
        HOMES.len() + decimal_len(domid.0) + 1
    }
}

/// Bytes of a text that is put together beside the heap.
const SHORT: usize = 96;

/// The pieces as one text. `format!` and a string that grows take 1,000 instructions more, of the 6,500 of a read.
fn joined<const N: usize>(pieces: [&str; N]) -> Arc<str> {
    let (mut buffer, mut len) = ([0; SHORT], 0);
    for piece in pieces {
        let Some(place) = buffer.get_mut(len..len + piece.len()) else {
            return pieces.concat().into();
        };
        place.copy_from_slice(piece.as_bytes());
        len += piece.len();
    }
    match core::str::from_utf8(&buffer[..len]) {
        Ok(text) => text.into(),
        Err(_) => pieces.concat().into(),
    }
}

/// A number in decimal digits.
fn decimal(number: u16, digits: &mut [u8; 5]) -> &str {
    let (mut left, mut first) = (number, digits.len());
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
        first -= 1;
        if left == 0 {
            break;
        }
    }
    digits.get(first..).and_then(|digits| core::str::from_utf8(digits).ok()).unwrap_or_default()
}

fn decimal_len(number: u16) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Whether all bytes may be in a path, and no part is empty.
fn parts_are_good(parts: &str) -> bool {
    let mut before = b'/';
    for byte in parts.bytes() {
        let good = match byte {
            b'/' => before != b'/',
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@'),
        };
        if !good {
            return false;
        }
        before = byte;
    }
    before != b'/'
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// By hash, then text: an order for maps, not for people. Colliding hashes, which a guest can make, only
/// cost the comparison of texts.
pub(super) trait Key {
    fn key(&self) -> (u64, &str);
}

impl Key for Path {
    fn key(&self) -> (u64, &str) {
        (self.hash, &self.text)
    }
}

/// A part of a path's text from its beginning, which is a path itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix<'a> {
    hash: u64,
    pub text: &'a str,
}

impl Key for Prefix<'_> {
    fn key(&self) -> (u64, &str) {
        (self.hash, self.text)
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for dyn Key + '_ {}

impl PartialOrd for dyn Key + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Key + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Path) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Path {
    fn cmp(&self, other: &Path) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<'a> Borrow<dyn Key + 'a> for Path {
    fn borrow(&self) -> &(dyn Key + 'a) {
        self
    }
}

/// See [`Path::prefixes`].
pub(super) struct Prefixes<'a> {
    text: &'a str,
    at: usize,
    hash: u64,
}

impl<'a> Iterator for Prefixes<'a> {
    type Item = Prefix<'a>;

    fn next(&mut self) -> Option<Prefix<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        while let Some(&byte) = bytes.get(self.at) {
            if byte == b'/' && self.at > start.max(1) {
                return Some(Prefix { hash: self.hash, text: self.text.get(..self.at)? });
            }
            self.hash = fnv(self.hash, byte);
            self.at += 1;
            if self.at == 1 && byte == b'/' {
                return Some(Prefix { hash: self.hash, text: "/" });
            }
        }
        (self.at > start).then_some(Prefix { hash: self.hash, text: self.text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn parse(text: &str) -> Result<Path, StoreError> {
        Path::parse(text.as_bytes(), DomId(7))
    }

    #[test]
    fn relative_paths_begin_at_the_domains_home() {
        assert_eq!(parse("device/vbd").unwrap().as_str(), "/local/domain/7/device/vbd");
        assert_eq!(parse("/vm").unwrap().as_str(), "/vm");
        assert_eq!(Path::home(DomId(7)).as_str(), "/local/domain/7");
        assert_eq!(Path::home_len(DomId(7)), "/local/domain/7/".len());
        assert_eq!(Path::home_len(DomId(0)), "/local/domain/0/".len());
        assert_eq!(Path::home_len(DomId(1234)), "/local/domain/1234/".len());
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for bad in ["", "//", "a//b", "a/", "/a/", "/a//b", "a b", "/a.b", "/\u{e9}", "@x"] {
            assert_eq!(parse(bad), Err(StoreError::Malformed), "{bad}");
        }
        assert_eq!(Path::parse(b"/a\xff", DomId(7)), Err(StoreError::Malformed));
        assert_eq!(Path::parse(b"/a\0", DomId(7)), Err(StoreError::Malformed));
    }

    #[test]
    fn every_byte_but_letters_digits_and_four_signs_is_refused() {
        for byte in 0..=255u8 {
            let good = byte.is_ascii_alphanumeric() || b"-_@/".contains(&byte);
            assert_eq!(Path::parse(&[b'/', b'a', byte, b'b'], DomId(7)).is_ok(), good, "{byte}");
        }
    }

    #[test]
    fn lengths_are_bounded_below_the_root_and_below_a_home() {
        let long = |len: usize| "x".repeat(len);
        assert!(parse(&format!("/{}", long(3071))).is_ok());
        assert!(parse(&format!("/{}", long(3072))).is_err());
        assert!(parse(&long(2048)).is_ok());
        assert!(parse(&long(2049)).is_err());
        assert!(parse(&format!("/local/domain/9/{}", long(2049))).is_err());
    }

    #[test]
    fn a_relative_name_is_below_the_home_of_any_number_and_of_any_length() {
        for domid in [0, 7, 9, 10, 99, 12_345, u16::MAX] {
            for len in [1, 60, 90, 200] {
                let name = "x".repeat(len);
                let path = Path::parse(name.as_bytes(), DomId(domid)).unwrap();
                assert_eq!(path, Path::home(DomId(domid)).join(&name));
            }
        }
    }

    #[test]
    fn watches_may_name_events() {
        let special = |text: &str| Path::parse_watched(text.as_bytes(), DomId(7));
        assert!(special("@releaseDomain/7").unwrap().is_special());
        assert!(special("@any thing").is_err());
        assert_eq!(special("x").unwrap().as_str(), "/local/domain/7/x");
        assert_eq!(special("@releaseDomain/7").unwrap().parent(), None);
    }

    #[test]
    fn prefixes_have_the_hashes_of_the_paths_that_they_are() {
        for text in ["/", "/a", "/local/domain/7/device", "@releaseDomain/7", "@x"] {
            let path = Path::parse_watched(text.as_bytes(), DomId(7)).unwrap();
            let texts: Vec<&str> = path.prefixes().map(|prefix| prefix.text).collect();
            assert_eq!(texts.last(), Some(&text));
            for prefix in path.prefixes() {
                assert_eq!(Path::checked(prefix.text.into()).hash, prefix.hash, "{text}");
            }
        }
        let path = parse("/a/bc/d").unwrap();
        let texts: Vec<&str> = path.prefixes().map(|prefix| prefix.text).collect();
        assert_eq!(texts, ["/", "/a", "/a/bc", "/a/bc/d"]);
        assert_eq!((path.depth(), Path::root().depth()), (3, 0));
    }

    #[test]
    fn parents_and_children_meet() {
        let path = parse("/a/b").unwrap();
        assert_eq!(path.parent().unwrap().join("b"), path);
        assert_eq!(path.parent().unwrap().parent(), Some(Path::root()));
        assert_eq!(Path::root().join("a"), parse("/a").unwrap());
        assert_eq!((path.name(), Path::root().parent()), ("b", None));
    }
}
