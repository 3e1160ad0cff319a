//! What split drivers need around them in host tests: granted pages that are counted, and a disk.

mod disk;
mod grants;
mod pair;

pub use disk::{FakeDisk, Pace};
pub use grants::FakeGrants;
pub use pair::{BlkPair, GUEST, Shape};

use arch::SharedPage;
use std::sync::atomic::AtomicU64;

/// A page of zeros. Leaks it, as tests do.
#[must_use]
pub fn page() -> SharedPage {
    SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])))
}
