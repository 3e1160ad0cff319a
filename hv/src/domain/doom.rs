//! A panic that a person asks for in the monitor, to see that it costs one guest only: in the guest's next turn, with
//! or without one of the locks around what guests share.

use core::sync::atomic::{AtomicU8, Ordering};

use super::pv;

/// What is held when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doom {
    /// Nothing that others need.
    Plain = 1,
    /// XenStore and the back ends.
    Store,
    /// Event channels.
    Events,
    /// Grant tables.
    Grants,
}

impl Doom {
    const ALL: [(Doom, &str); 4] = [
        (Doom::Plain, ""),
        (Doom::Store, "store"),
        (Doom::Events, "events"),
        (Doom::Grants, "grants"),
    ];

    /// By its name in the monitor.
    #[must_use]
    pub fn named(name: &str) -> Option<Doom> {
        Doom::ALL.into_iter().find(|(_, known)| *known == name).map(|(doom, _)| doom)
    }
}

/// Whether a guest is to meet one.
#[derive(Debug, Default)]
pub struct Fate(AtomicU8);

impl Fate {
    /// It is.
    pub fn set(&self, doom: Doom) {
        self.0.store(doom as u8, Ordering::Release);
    }

    /// Once: only the first turn panics.
    ///
    /// # Panics
    /// If it was asked for.
    #[inline]
    pub fn meet(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.now();
        }
    }

    #[cold]
    #[inline(never)]
    fn now(&self) {
        let asked = self.0.swap(0, Ordering::AcqRel);
        let doom = Doom::ALL.into_iter().map(|(doom, _)| doom).find(|doom| *doom as u8 == asked);
        let hub = pv::hub();
        match doom {
            Some(Doom::Store) => pv::panic_under_lock(),
            Some(Doom::Events) => {
                let _held = hub.events.lock();
                panic!("asked for in the monitor, with the event channels locked");
            }
            Some(Doom::Grants) => {
                let _held = hub.grants.lock();
                panic!("asked for in the monitor, with the grants locked");
            }
            Some(Doom::Plain) => panic!("asked for in the monitor"),
            None => {}
        }
    }
}
