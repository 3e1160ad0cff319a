//! The guest's watchdogs (Xen `SCHEDOP_watchdog`): timers that stop it unless it sets them anew.

use super::{Board, Timed};
use crate::effects::Effects;
use arch::{Nanos, Why};
use pvdrivers::Errno;
use pvdrivers::abi::sched::{ShutdownReason, Watchdog as Asked};

/// When one fires; `None` while it is free.
pub(super) type Watchdog = Option<Nanos>;

impl Board {
    /// Takes a free watchdog (`id` 0) and gives its number from 1; or sets one anew, or gives it back
    /// (`timeout` 0).
    ///
    /// # Errors
    /// [`Errno::ENOSPC`] where none is free, [`Errno::EINVAL`] for one that is not taken.
    pub(crate) fn set_watchdog(
        &mut self,
        asked: Asked,
        now: Nanos,
        fx: &mut Effects,
    ) -> Result<u64, Errno> {
        let Asked { id, timeout } = asked;
        let until = Nanos(now.0.saturating_add(u64::from(timeout) * 1_000_000_000));
        let answer = if id == 0 {
            let free = self.watchdogs.iter().position(Option::is_none).ok_or(Errno::ENOSPC)?;
            // Without a timeout it fires at once, as in Xen.
            self.watchdogs[free] = Some(until);
            free as u64 + 1
        } else {
            let slot = self.watchdogs.get_mut(id as usize - 1).ok_or(Errno::EINVAL)?;
            slot.ok_or(Errno::EINVAL)?;
            *slot = (timeout != 0).then_some(until);
            0
        };
        self.retime_watchdogs(fx);
        Ok(answer)
    }

    /// One that is due stops the guest.
    pub(super) fn expire_watchdogs(&mut self, now: Nanos, fx: &mut Effects) {
        for slot in &mut self.watchdogs {
            if slot.is_some_and(|until| until <= now) {
                *slot = None;
                fx.stop(Why::Crashed(ShutdownReason::WATCHDOG.0 as u8));
            }
        }
        self.retime_watchdogs(fx);
    }

    fn retime_watchdogs(&mut self, fx: &mut Effects) {
        self.retime(Timed::Watchdog, self.watchdogs.iter().copied().flatten().min(), fx);
    }
}
