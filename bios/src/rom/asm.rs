//! A very small assembler that runs at compile time: bytes, a few 16-bit instructions, and labels.
//! It knows only what the stubs need.

/// A 16-bit register as `push`, `pop` and `mov` encode it.
#[derive(Clone, Copy)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum R16 {
    Ax = 0,
    Cx = 1,
    Dx = 2,
    Bx = 3,
    Sp = 4,
    Bp = 5,
    Si = 6,
    Di = 7,
}

/// A segment register as `push`, `pop` and `mov` encode it.
#[derive(Clone, Copy)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum Seg {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
}

/// Condition of a short jump (SDM 2 "Jcc—Jump if Condition Is Met").
#[derive(Clone, Copy)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum Cond {
    Carry = 0x72,
    NoCarry = 0x73,
    Zero = 0x74,
    NotZero = 0x75,
    Sign = 0x78,
    Always = 0xeb,
}

/// A place in the code, possibly not yet known.
#[derive(Clone, Copy)]
pub struct Label(usize);

const LABELS: usize = 160;
const FIXUPS: usize = 200;

#[derive(Clone, Copy)]
enum Fixup {
    /// Signed byte relative to the byte behind it.
    Rel8,
    /// Signed word relative to the byte behind it.
    Rel16,
    /// The label's offset.
    Abs16,
}

/// An image of `N` bytes under construction.
pub struct Asm<const N: usize> {
    code: [u8; N],
    used: [bool; N],
    at: usize,
    labels: [usize; LABELS],
    label_count: usize,
    fixups: [(usize, usize, Fixup); FIXUPS],
    fixup_count: usize,
}

const UNKNOWN: usize = usize::MAX;

impl<const N: usize> Asm<N> {
    /// An image filled with `fill`.
    pub const fn new(fill: u8) -> Self {
        Asm {
            code: [fill; N],
            used: [false; N],
            at: 0,
            labels: [UNKNOWN; LABELS],
            label_count: 0,
            fixups: [(0, 0, Fixup::Rel8); FIXUPS],
            fixup_count: 0,
        }
    }

    /// Goes on at `offset`.
    pub const fn org(&mut self, offset: usize) {
        self.at = offset;
    }

    /// Where the next byte goes.
    pub const fn here(&self) -> usize {
        self.at
    }

    /// Bytes as they are. Refuses to write over what is already there, at compile time.
    pub const fn bytes(&mut self, bytes: &[u8]) {
        let mut n = 0;
        while n < bytes.len() {
            assert!(!self.used[self.at], "two stubs overlap");
            self.used[self.at] = true;
            self.code[self.at] = bytes[n];
            self.at += 1;
            n += 1;
        }
    }

    /// A little-endian word.
    pub const fn word(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// A label that is placed later.
    pub const fn label(&mut self) -> Label {
        self.label_count += 1;
        Label(self.label_count - 1)
    }

    /// Places a label here.
    pub const fn place(&mut self, label: Label) {
        assert!(self.labels[label.0] == UNKNOWN, "placed twice");
        self.labels[label.0] = self.at;
    }

    /// A new label, placed here.
    pub const fn label_here(&mut self) -> Label {
        let label = self.label();
        self.place(label);
        label
    }

    const fn fix(&mut self, label: Label, kind: Fixup) {
        self.fixups[self.fixup_count] = (self.at, label.0, kind);
        self.fixup_count += 1;
    }

    /// Short jump.
    pub const fn j(&mut self, cond: Cond, to: Label) {
        self.bytes(&[cond as u8]);
        self.fix(to, Fixup::Rel8);
        self.bytes(&[0]);
    }

    /// Near jump.
    pub const fn jmp(&mut self, to: Label) {
        self.bytes(&[0xe9]);
        self.fix(to, Fixup::Rel16);
        self.word(0);
    }

    /// Pushes a label's offset.
    pub const fn push_label(&mut self, label: Label) {
        self.bytes(&[0x68]);
        self.abs(label);
    }

    /// A label's offset as a word.
    pub const fn abs(&mut self, label: Label) {
        self.fix(label, Fixup::Abs16);
        self.word(0);
    }

    /// `push r16`.
    pub const fn push(&mut self, r: R16) {
        self.bytes(&[0x50 + r as u8]);
    }

    /// `pop r16`.
    pub const fn pop(&mut self, r: R16) {
        self.bytes(&[0x58 + r as u8]);
    }

    /// `push sreg`.
    pub const fn push_seg(&mut self, s: Seg) {
        self.bytes(&[0x06 + ((s as u8) << 3)]);
    }

    /// `pop sreg`.
    pub const fn pop_seg(&mut self, s: Seg) {
        self.bytes(&[0x07 + ((s as u8) << 3)]);
    }

    /// `mov r16, imm16`.
    pub const fn mov_ri(&mut self, r: R16, value: u16) {
        self.bytes(&[0xb8 + r as u8]);
        self.word(value);
    }

    /// `mov sreg, r16`.
    pub const fn mov_sr(&mut self, s: Seg, r: R16) {
        self.bytes(&[0x8e, 0xc0 | (s as u8) << 3 | r as u8]);
    }

    /// `mov al, imm8; out port, al`.
    pub const fn out_imm(&mut self, port: u8, value: u8) {
        self.bytes(&[0xb0, value, 0xe6, port]);
    }

    /// `int n`.
    pub const fn int(&mut self, n: u8) {
        self.bytes(&[0xcd, n]);
    }

    /// `iret`.
    pub const fn iret(&mut self) {
        self.bytes(&[0xcf]);
    }

    /// `retf`.
    pub const fn retf(&mut self) {
        self.bytes(&[0xcb]);
    }

    /// The finished image: every label resolved, every short jump in reach, checked at compile time.
    pub const fn finish(mut self) -> [u8; N] {
        let mut n = 0;
        while n < self.fixup_count {
            let (at, label, kind) = self.fixups[n];
            let to = self.labels[label];
            assert!(to != UNKNOWN, "label never placed");
            match kind {
                Fixup::Rel8 => {
                    let distance = to as isize - (at as isize + 1);
                    assert!(distance >= -128 && distance <= 127, "short jump too far");
                    self.code[at] = distance as i8 as u8;
                }
                Fixup::Rel16 => {
                    let distance = (to as isize - (at as isize + 2)) as i16;
                    self.code[at] = distance as u8;
                    self.code[at + 1] = (distance >> 8) as u8;
                }
                Fixup::Abs16 => {
                    self.code[at] = to as u8;
                    self.code[at + 1] = (to >> 8) as u8;
                }
            }
            n += 1;
        }
        self.code
    }
}
