//! Which host CPUs a vCPU may use: the `cpus` key of xl.cfg(5).

use super::error::Problem;

/// Highest host CPU number that a list may name.
pub const MAX_CPU: u32 = 255;

/// A set of host CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSet([u64; 4]);

impl CpuSet {
    /// Every CPU.
    pub const ALL: CpuSet = CpuSet([u64::MAX; 4]);

    /// Whether CPU number `cpu` is in it.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.get((cpu >> 6) as usize).is_some_and(|word| word >> (cpu & 63) & 1 != 0)
    }

    /// Whether it has no CPU.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    fn set(&mut self, cpu: u32, member: bool) {
        if let Some(word) = self.0.get_mut((cpu >> 6) as usize) {
            let bit = 1 << (cpu & 63);
            *word = if member { *word | bit } else { *word & !bit };
        }
    }
}

/// Reads `all`, `0-3,5,^1`.
pub(super) fn parse(text: &str) -> Result<CpuSet, Problem> {
    const ALLOWED: &str = "all, or numbers from 0 to 255 as in 0-3,5,^1";
    let refuse = || Problem::NotAllowed { value: text.into(), allowed: ALLOWED, near: None };
    let mut set = CpuSet::default();
    for part in text.split(',').map(str::trim) {
        let (part, member) = match part.strip_prefix('^') {
            Some(part) => (part, false),
            None => (part, true),
        };
        if part == "all" {
            set = if member { CpuSet::ALL } else { CpuSet::default() };
            continue;
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
            text.parse::<u32>().ok().filter(|n| digits && *n <= MAX_CPU).ok_or_else(refuse)
        };
        let (first, last) = (number(first.trim())?, number(last.trim())?);
        if first > last {
            return Err(refuse());
        }
        for cpu in first..=last {
            set.set(cpu, member);
        }
    }
    if set.is_empty() { Err(refuse()) } else { Ok(set) }
}
