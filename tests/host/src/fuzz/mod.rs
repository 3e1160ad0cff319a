//! Entry points for fuzzing: each takes any bytes and must come back. `tests/fuzz` runs them under
//! cargo-fuzz, `tests/fuzz_seeds.rs` on seeded bytes with every test run.

pub mod chips;
pub mod drivers;
mod machine;
pub mod netback;
mod store;
pub mod xen;

pub use machine::{bios_call, board, exits, insn, task_switch};
pub use store::{xenbus, xenstore};

/// Reads a configuration; what is refused must have a one-line reason.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match ::machine::config::GuestConfig::parse("fuzz.cfg", &text) {
        Ok(config) => {
            assert!(!config.name.is_empty());
            assert!((1..=64).contains(&config.vcpus));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}

/// Reads a kernel for PVH: noise, or a small good one with some bytes changed.
pub fn pvh_kernel(data: &[u8]) {
    use ::machine::pvh::elf::Elf;
    let _ = Elf::parse(data);
    let mut input = Input::new(data);
    let mut bytes = GOOD.to_vec();
    while !input.is_empty() {
        let at = usize::from(input.u8()) % bytes.len();
        bytes[at] = input.u8();
        if let Ok(elf) = Elf::parse(&bytes) {
            let inside = |at: u64| (elf.start..elf.end).contains(&at);
            assert!(inside(elf.entry.into()) && elf.end <= 1 << 32);
            assert!(elf.segments().all(|part| part.bytes.len() as u64 <= part.size));
        }
    }
}

/// A 32-bit kernel of one segment at 1 MiB, and its note.
const GOOD: [u8; 140] = {
    let mut file = [0; 140];
    let fields: [(usize, u32); 19] = [
        (0, 0x464c_457f),
        (4, 0x0101),
        (16, 3 << 16 | 2),
        (28, 52),
        (40, 32 << 16),
        (44, 2),
        (52, 1),
        (56, 136),
        (64, 0x10_0000),
        (68, 4),
        (72, 64),
        (84, 4),
        (88, 116),
        (100, 20),
        (116, 4),
        (120, 4),
        (124, 18),
        (128, 0x006e_6558),
        (132, 0x10_0000),
    ];
    let mut n = 0;
    while n < fields.len() {
        let (at, value) = fields[n];
        let bytes = value.to_le_bytes();
        let mut byte = 0;
        while byte < 4 {
            file[at + byte] = bytes[byte];
            byte += 1;
        }
        n += 1;
    }
    file
};

/// A fuzzing entry point and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All entry points.
pub const TARGETS: &[Target] = &[
    ("insn", insn),
    ("config", config),
    ("board", board),
    ("exits", exits),
    ("bios_call", bios_call),
    ("task_switch", task_switch),
    ("pvh_kernel", pvh_kernel),
    ("xenbus", xenbus),
    ("xenstore", xenstore),
];

/// Bytes as a stream of values; zeros when they run out.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `data`.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input(data)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `len` bytes.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(len.min(self.0.len()));
        self.0 = later;
        now
    }

    /// A byte.
    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    /// One of `choices`, by one byte.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_good_kernel_is_good() {
        let elf = ::machine::pvh::elf::Elf::parse(&super::GOOD).unwrap();
        assert_eq!((elf.entry, elf.end), (0x10_0000, 0x10_0040));
    }
}
