//! Segment registers as both vendors store them: selector, base, limit and access rights.

/// A segment or system-table register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum SegReg {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
    /// Only base and limit count.
    Gdtr,
    /// Only base and limit count.
    Idtr,
}

/// The hidden part of a segment register.
///
/// `access` has the layout of VMX "Guest Register State" access rights: bits 0-3 type, 4 S, 5-6 DPL, 7 P,
/// 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable. SVM's 12-bit attributes are the same bits without 8-11:
/// see [`Segment::svm_attributes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Visible selector.
    pub selector: u16,
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes, already scaled by the granularity bit.
    pub limit: u32,
    /// Access rights, VMX layout.
    pub access: u32,
}

impl Segment {
    /// Present.
    pub const P: u32 = 1 << 7;
    /// 64-bit code (CS only).
    pub const L: u32 = 1 << 13;
    /// Default operation size 32 bits (CS), 32-bit stack (SS).
    pub const DB: u32 = 1 << 14;
    /// Limit counts in 4 KiB.
    pub const G: u32 = 1 << 15;
    /// Holds no usable descriptor (VMX "Guest Register State").
    pub const UNUSABLE: u32 = 1 << 16;

    /// A real-mode data segment: base is selector times 16, limit 64 KiB, read-write.
    #[must_use]
    pub const fn real_data(selector: u16) -> Segment {
        Segment { selector, base: (selector as u64) << 4, limit: 0xffff, access: 0x93 }
    }

    /// A real-mode code segment.
    #[must_use]
    pub const fn real_code(selector: u16) -> Segment {
        Segment { selector, base: (selector as u64) << 4, limit: 0xffff, access: 0x9b }
    }

    /// Descriptor privilege level, 0 to 3. Of SS, the current privilege level.
    #[must_use]
    #[inline]
    pub const fn dpl(&self) -> u8 {
        (self.access >> 5 & 3) as u8
    }

    /// Attributes as the VMCB keeps them: descriptor bits 40-47 and 52-55 (APM2 "VMCB State Save Area").
    #[must_use]
    #[inline]
    pub const fn svm_attributes(&self) -> u16 {
        if self.access & Self::UNUSABLE != 0 {
            return 0;
        }
        ((self.access & 0xff) | (self.access >> 4 & 0xf00)) as u16
    }

    /// Access rights from VMCB attributes; "not present" becomes unusable for code and data segments.
    #[must_use]
    #[inline]
    pub const fn access_from_svm(attributes: u16) -> u32 {
        let access = (attributes as u32 & 0xff) | ((attributes as u32 & 0xf00) << 4);
        if access & Self::P == 0 { access | Self::UNUSABLE } else { access }
    }

    /// Unpacks an 8-byte code, data or system descriptor of the GDT or LDT (SDM 3A "Segment Descriptors").
    #[must_use]
    pub const fn from_descriptor(selector: u16, descriptor: u64) -> Segment {
        let base = (descriptor >> 16 & 0xff_ffff) | (descriptor >> 32 & 0xff00_0000);
        let access = (descriptor >> 40 & 0xf0ff) as u32;
        let raw = (descriptor & 0xffff) as u32 | (descriptor >> 32 & 0xf_0000) as u32;
        let limit = if access & Self::G != 0 { raw << 12 | 0xfff } else { raw };
        Segment { selector, base, limit, access }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_code_descriptor_unpacks_and_keeps_its_attributes_through_svm() {
        let cs = Segment::from_descriptor(8, 0x00af_9b00_0000_ffff);
        assert_eq!((cs.base, cs.limit, cs.access), (0, 0xffff_ffff, 0xa09b));
        assert_eq!(cs.svm_attributes(), 0xa9b);
        assert_eq!(Segment::access_from_svm(0xa9b), 0xa09b);
    }
}
