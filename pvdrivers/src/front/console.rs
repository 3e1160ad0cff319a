//! The front end of a console: bytes out, bytes in. Xen public "io/console.h".

use crate::conback::abi::{IN_BYTES, IN_CONS, IN_PROD, OUT, OUT_BYTES, OUT_CONS, OUT_PROD};
use arch::SharedPage;
use core::sync::atomic::{Ordering, fence};

/// A console's page, from the guest's side. Needs no connection to write: bytes wait in the page.
#[derive(Clone, Copy, Debug)]
pub struct ConsoleFront {
    page: SharedPage,
}

impl ConsoleFront {
    /// The console in `page`.
    #[must_use]
    pub const fn new(page: SharedPage) -> ConsoleFront {
        ConsoleFront { page }
    }

    fn index(&self, at: usize) -> u32 {
        self.page.read_u32(at).unwrap_or(0)
    }

    /// Writes as much of `bytes` as there is room for; notify the port if that is not 0, and come
    /// again with the rest.
    #[must_use]
    pub fn write(&self, bytes: &[u8]) -> usize {
        let cons = self.index(OUT_CONS);
        let mut prod = self.index(OUT_PROD);
        fence(Ordering::SeqCst);
        let room = OUT_BYTES.saturating_sub(prod.wrapping_sub(cons)) as usize;
        let bytes = &bytes[..room.min(bytes.len())];
        for byte in bytes {
            let at = OUT + (prod % OUT_BYTES) as usize;
            if self.page.write(at, 1, u64::from(*byte)).is_err() {
                return 0;
            }
            prod = prod.wrapping_add(1);
        }
        // Bytes before the index.
        fence(Ordering::Release);
        match self.page.write(OUT_PROD, 4, prod.into()) {
            Ok(()) => bytes.len(),
            Err(_) => 0,
        }
    }

    /// Reads what was typed; how many bytes. Notify the port if that is not 0.
    #[must_use]
    pub fn read(&self, buffer: &mut [u8]) -> usize {
        let prod = self.index(IN_PROD);
        let mut cons = self.index(IN_CONS);
        fence(Ordering::Acquire);
        let there = prod.wrapping_sub(cons).min(IN_BYTES) as usize;
        let len = there.min(buffer.len());
        for byte in &mut buffer[..len] {
            *byte = self.page.read_u8((cons % IN_BYTES) as usize).unwrap_or(0);
            cons = cons.wrapping_add(1);
        }
        // Bytes are copied before their room is given back.
        fence(Ordering::SeqCst);
        match self.page.write(IN_CONS, 4, cons.into()) {
            Ok(()) => len,
            Err(_) => 0,
        }
    }
}
