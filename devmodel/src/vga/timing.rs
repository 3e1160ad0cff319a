//! Where the beam is at a given time: input status registers 0 and 1, and the blink phase.
//!
//! Computed from the CRTC's own values and the dot clock. A guest that sets no sane values, or that
//! uses a VBE mode, sees the timing of 640x480 at 60 Hz.

use super::regs::Regs;
use arch::Nanos;

/// The shape of a frame, in nanoseconds and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    line_ns: u32,
    shown_ns: u32,
    total_lines: u32,
    shown_lines: u32,
    retrace_start: u32,
    retrace_end: u32,
}

/// 640x480 at 60 Hz.
const STANDARD: Timing = Timing {
    line_ns: 31_778,
    shown_ns: 25_422,
    total_lines: 525,
    shown_lines: 480,
    retrace_start: 490,
    retrace_end: 492,
};

impl Timing {
    pub fn new(regs: &Regs, vbe: bool) -> Self {
        // Misc output bits 2 and 3. The external clocks of 2 and 3 are not fitted.
        let clock_hz: u64 = if regs.misc >> 2 & 3 == 1 { 28_322_000 } else { 25_175_000 };
        let halved = if regs.seq[1] & 8 != 0 { 2 } else { 1 };
        let dots = u64::from(regs.char_dots()) * halved;
        let ns = |chars: u64| (chars * dots * 1_000_000_000 / clock_hz) as u32;
        let line_ns = ns(u64::from(regs.crtc[0]) + 5);
        let total_lines = regs.vertical_total();
        let retrace_start = regs.retrace_start();
        // The end is given by its low four bits, so it comes 1 to 16 lines after the start.
        let length = (u32::from(regs.crtc[0x11]).wrapping_sub(retrace_start) & 0xF).max(1);
        let timing = Self {
            line_ns,
            shown_ns: ns(u64::from(regs.horizontal_display())),
            total_lines,
            shown_lines: regs.vertical_display(),
            retrace_start,
            retrace_end: retrace_start + length,
        };
        let frame_ns = u64::from(line_ns) * u64::from(total_lines);
        let sane = (5_000_000..50_000_000).contains(&frame_ns)
            && timing.retrace_end <= total_lines
            && timing.shown_lines <= retrace_start;
        if vbe || !sane { STANDARD } else { timing }
    }

    /// Nanoseconds of a frame, never 0.
    pub fn frame_ns(&self) -> u64 {
        u64::from(self.line_ns) * u64::from(self.total_lines)
    }

    /// Input status 1: bit 0 the beam is outside the picture, bit 3 vertical retrace.
    pub fn input_status_1(&self, now: Nanos) -> u8 {
        let within = now.0 % self.frame_ns();
        let line = (within / u64::from(self.line_ns)) as u32;
        let column = (within % u64::from(self.line_ns)) as u32;
        let outside = line >= self.shown_lines || column >= self.shown_ns;
        let retrace = (self.retrace_start..self.retrace_end).contains(&line);
        u8::from(outside) | u8::from(retrace) << 3
    }

    /// Vertical retraces begun up to `now`.
    pub fn retraces(&self, now: Nanos) -> u64 {
        let first = u64::from(self.line_ns) * u64::from(self.retrace_start);
        now.0.checked_sub(first).map_or(0, |past| past / self.frame_ns() + 1)
    }

    /// Frames shown up to `now`: the blink counter.
    pub fn frames(&self, now: Nanos) -> u64 {
        now.0 / self.frame_ns()
    }
}
