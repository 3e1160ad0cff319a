//! The two layouts of a task-state segment, and the state that goes in and out (SDM 3A "32-Bit
//! Task-State Segment (TSS)", "16-Bit Task-State Segment (TSS)").

use super::tables::Tables;
use crate::host::Host;
use arch::{Fault, Gpr, SegReg, Segment, SysReg, Vcpu};

/// Busy bit of the descriptor's type.
pub(super) const BUSY: u32 = 2;
/// Where a 32-bit TSS has its T bit.
pub(super) const TRAP: u64 = 100;

/// Which layout a TSS has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Bits16,
    Bits32,
}

/// Offsets of a layout: all but the static fields.
struct Layout {
    eip: u64,
    eflags: u64,
    /// EAX; seven more registers follow in encoding order.
    gprs: u64,
    /// ES; CS, SS, DS follow, in a 32-bit TSS also FS and GS.
    segments: u64,
    count: usize,
    ldt: u64,
    width: u8,
}

impl Format {
    /// The layout that a busy TSS descriptor stands for; `None` for any other descriptor.
    pub fn of(segment: &Segment) -> Option<Format> {
        match segment.access & (Segment::UNUSABLE | 0x1f) {
            0x3 => Some(Format::Bits16),
            0xb => Some(Format::Bits32),
            _ => None,
        }
    }

    /// Least size in bytes.
    pub fn size(self) -> u64 {
        if self == Format::Bits32 { 104 } else { 44 }
    }

    fn layout(self) -> Layout {
        match self {
            Format::Bits16 => {
                Layout { eip: 14, eflags: 16, gprs: 18, segments: 34, count: 4, ldt: 42, width: 2 }
            }
            Format::Bits32 => {
                Layout { eip: 32, eflags: 36, gprs: 40, segments: 72, count: 6, ldt: 96, width: 4 }
            }
        }
    }
}

/// Segment registers in the order of a TSS.
pub(super) const ORDER: [SegReg; 6] =
    [SegReg::Es, SegReg::Cs, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs];

/// A task's state. What a 16-bit TSS does not have is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub cr3: u32,
    pub eip: u32,
    pub eflags: u32,
    pub gprs: [u32; 8],
    /// By [`ORDER`].
    pub segments: [u16; 6],
    pub ldt: u16,
}

impl State {
    /// What the vCPU holds.
    pub fn of<V: Vcpu>(vcpu: &V) -> State {
        State {
            cr3: vcpu.reg(SysReg::Cr3) as u32,
            eip: vcpu.rip() as u32,
            eflags: vcpu.rflags() as u32,
            gprs: core::array::from_fn(|n| vcpu.gprs().get(Gpr::from_bits(n as u8)) as u32),
            segments: ORDER.map(|reg| vcpu.segment(reg).selector),
            ldt: vcpu.segment(SegReg::Ldtr).selector,
        }
    }

    /// Saves the dynamic fields; LDT and CR3 are static.
    pub fn write<H: Host>(
        &self,
        tables: &mut Tables<'_, H>,
        base: u64,
        format: Format,
    ) -> Result<(), Fault> {
        let Layout { eip, eflags, gprs, segments, count, ldt: _, width } = format.layout();
        tables.write(base + eip, width, self.eip.into())?;
        tables.write(base + eflags, width, self.eflags.into())?;
        for (n, value) in (0u64..).zip(self.gprs) {
            tables.write(base + gprs + n * u64::from(width), width, value.into())?;
        }
        for (n, selector) in (0u64..).zip(self.segments).take(count) {
            tables.write(base + segments + n * u64::from(width), 2, selector.into())?;
        }
        Ok(())
    }

    /// Reads a TSS.
    pub fn read<H: Host>(
        tables: &mut Tables<'_, H>,
        base: u64,
        format: Format,
    ) -> Result<State, Fault> {
        let Layout { eip, eflags, gprs, segments, count, ldt, width } = format.layout();
        let mut state = State {
            eip: tables.read(base + eip, width)? as u32,
            eflags: tables.read(base + eflags, width)? as u32,
            ldt: tables.read(base + ldt, 2)? as u16,
            ..State::default()
        };
        if format == Format::Bits32 {
            state.cr3 = tables.read(base + 28, 4)? as u32;
        }
        for (n, value) in (0u64..).zip(&mut state.gprs) {
            *value = tables.read(base + gprs + n * u64::from(width), width)? as u32;
        }
        for (n, selector) in (0u64..).zip(&mut state.segments).take(count) {
            *selector = tables.read(base + segments + n * u64::from(width), 2)? as u16;
        }
        Ok(state)
    }
}
