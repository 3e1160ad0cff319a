//! Exit counters and the trace of the last exits, always on.

use arch::exit::{EXIT_KINDS, Exit, KIND_NAMES};

/// Exits that the trace keeps; a power of two.
pub const TRACE_LEN: usize = 64;

/// One exit as the trace keeps it. Its size is a power of two, so that its place is a shift away.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Record {
    /// Why.
    pub exit: Exit,
    /// Where.
    pub rip: u64,
    /// Host TSC.
    pub tsc: u64,
}

/// Counters of one vCPU.
pub struct Stats {
    count: [u64; EXIT_KINDS],
    cycles: [u64; EXIT_KINDS],
    trace: [Record; TRACE_LEN],
    /// Where the next one goes, modulo [`TRACE_LEN`].
    next: u8,
}

const _: () = assert!(TRACE_LEN.is_power_of_two() && TRACE_LEN <= 256 && size_of::<Record>() == 64);

impl Default for Stats {
    fn default() -> Self {
        let record = Record { exit: Exit::Hlt, rip: 0, tsc: 0 };
        Stats {
            count: [0; EXIT_KINDS],
            cycles: [0; EXIT_KINDS],
            trace: [record; TRACE_LEN],
            next: 0,
        }
    }
}

impl Stats {
    /// Notes an exit.
    #[inline(always)]
    pub fn record(&mut self, exit: Exit, kind: usize, rip: u64, tsc: u64) {
        if let Some(count) = self.count.get_mut(kind) {
            *count += 1;
        }
        self.trace[usize::from(self.next) & (TRACE_LEN - 1)] = Record { exit, rip, tsc };
        self.next = self.next.wrapping_add(1);
    }

    /// Adds TSC ticks spent on an exit of this kind.
    #[inline]
    pub fn spent(&mut self, kind: usize, cycles: u64) {
        if let Some(sum) = self.cycles.get_mut(kind) {
            *sum += cycles;
        }
    }

    /// All exits.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.count.iter().sum()
    }

    /// Name, count and cycles of every kind that happened.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64, u64)> + '_ {
        let rows = KIND_NAMES.iter().zip(self.count.iter().zip(&self.cycles));
        rows.filter(|(_, (count, _))| **count != 0).map(|(name, (n, c))| (*name, *n, *c))
    }

    /// The last exits, oldest first.
    pub fn trace(&self) -> impl Iterator<Item = &Record> {
        let kept = self.total().min(TRACE_LEN as u64) as usize;
        let first = usize::from(self.next) + TRACE_LEN - kept;
        (0..kept).filter_map(move |n| self.trace.get((first + n) & (TRACE_LEN - 1)))
    }
}
