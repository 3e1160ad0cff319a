//! Taking samples of one operation and reporting their median.

use support::println;

/// Samples of one operation at most.
const MOST: usize = 128;

/// Times instructions: the ticks between two readings of the TSC. They may use RAX, RCX, RDX
/// freely.
macro_rules! op {
    ($($code:literal),+ ; $($operands:tt)*) => {{
        let ticks: u32;
        // SAFETY: the operation is written to leave the machine as it was.
        unsafe {
            core::arch::asm!(
                "rdtsc",
                "mov r8d, eax",
                $($code,)+
                "rdtsc",
                "sub eax, r8d",
                out("eax") ticks, out("edx") _, out("ecx") _, out("r8") _,
                $($operands)*
            )
        };
        ticks
    }};
}
pub(crate) use op;

/// Takes samples.
pub struct Bench {
    /// What two readings of the TSC cost by themselves.
    empty: u32,
    samples: [(u32, u32); MOST],
}

impl Bench {
    /// Measures the empty operation first.
    pub fn new() -> Bench {
        let mut bench = Bench { empty: 0, samples: [(0, 0); MOST] };
        for sample in &mut bench.samples {
            *sample = (op!("";), 0);
        }
        bench.samples.sort_unstable();
        bench.empty = bench.samples[MOST / 2].0;
        println!("@bench-empty {}", bench.empty);
        bench
    }

    /// An operation of `guest` instructions, 64 times and more.
    pub fn fixed(&mut self, name: &str, guest: u32, mut run: impl FnMut(usize) -> u32) {
        self.sample(name, MOST, |n| (run(n), guest));
    }

    /// An operation of `guest` instructions, `count` times.
    pub fn times(
        &mut self,
        name: &str,
        guest: u32,
        count: usize,
        mut run: impl FnMut(usize) -> u32,
    ) {
        self.sample(name, count, |n| (run(n), guest));
    }

    /// An operation that tells its ticks and its guest instructions itself, `count` times.
    pub fn sample(&mut self, name: &str, count: usize, mut run: impl FnMut(usize) -> (u32, u32)) {
        let count = count.min(MOST);
        let samples = &mut self.samples[..count];
        for (n, sample) in samples.iter_mut().enumerate() {
            *sample = run(n);
        }
        samples.sort_unstable();
        let (median, guest) = samples[count / 2];
        let total = median.saturating_sub(self.empty);
        let least = samples[0].0.saturating_sub(self.empty);
        let most = samples[count - 1].0.saturating_sub(self.empty);
        println!("@bench-op {name} {total} {guest}");
        println!("@bench-range {name} {least} {most} {count}");
    }
}

/// Says that an operation is not there.
pub fn skip(name: &str, why: &str) {
    println!("@bench-skip {name} {why}");
}
