//! The CPU keeps part of the chip while the guest runs: task priority, requests, and what is in
//! service. SDM 3C "APIC Virtualization and Virtual Interrupts".
//!
//! Between `lend` and `take_back` those are the page's, and what the chip has of them is old. All
//! else stays the chip's; `show` copies it for guests that read it in the page.

use arch::apicpage::{self, ApicPage, offset};

use super::registers::Register;
use super::{LVT_ENTRIES, LocalApic, Vectors};
use arch::Nanos;

/// Registers that change only when they are written, by number.
const SHOWN: [u8; 12] = [0x02, 0x03, 0x0B, 0x0D, 0x0E, 0x0F, 0x28, 0x30, 0x31, 0x38, 0x3E, 0x3F];

impl LocalApic {
    /// Puts task priority, requests, and vectors in service into the page. Trigger modes go along,
    /// since the CPU must tell of the end of level-triggered interrupts.
    #[inline]
    pub fn lend(&self, page: &mut ApicPage) {
        page.write(offset::TPR, self.tpr.into());
        let all = |of: &Vectors| apicpage::Vectors { words: of.words(), top: of.top() };
        page.put(&all(&self.irr), &all(&self.isr), &self.tmr);
    }

    /// Takes them back as the guest left them.
    #[inline]
    pub fn take_back(&mut self, page: &ApicPage) {
        let legal = |[first, rest @ ..]: [u64; 4]| {
            let [b, c, d] = rest;
            Vectors::from_words([first & !0xFFFF, b, c, d])
        };
        self.tpr = page.read(offset::TPR) as u8;
        self.isr = legal(page.vectors(offset::ISR));
        self.irr = legal(page.vectors(offset::IRR));
        self.refresh_priority();
    }

    /// Copies what the guest can read there besides.
    pub fn show(&self, page: &mut ApicPage) {
        let lvt = 0x32..0x32 + LVT_ENTRIES.len() as u8;
        for number in SHOWN.into_iter().chain(lvt) {
            // None of these depends on the time.
            let value = Register::at(number).map_or(0, |it| self.read_register(it, Nanos::ZERO));
            page.write(u16::from(number) << 4, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::enabled;
    use super::*;
    use core::sync::atomic::AtomicU32;
    use std::boxed::Box;

    fn page() -> ApicPage {
        ApicPage::new(Box::leak(Box::new([const { AtomicU32::new(0) }; 1024])))
    }

    #[test]
    fn what_is_lent_comes_back_as_the_cpu_left_it() {
        let mut apic = enabled();
        apic.accept(0x31, false);
        apic.accept(0x52, true);
        assert_eq!(apic.acknowledge(), Some(0x52));
        let mut page = page();
        apic.lend(&mut page);
        assert!(page.take_changed());
        assert_eq!((page.read(0x220), page.read(0x210)), (0, 1 << 17));
        assert_eq!((page.read(0x120), page.read(0x1A0)), (1 << 18, 1 << 18));
        let same = apic.clone();
        apic.take_back(&page);
        assert_eq!(apic, same);
        // The guest ends 52h, takes 31h, and raises its priority.
        let requests = apicpage::Vectors { words: [0xFFFF, 1, 0, 0], top: 0x40 };
        let service = apicpage::Vectors { words: [1 << 0x31, 0, 0, 0], top: 0x31 };
        page.put(&requests, &service, &[0; 4]);
        page.write(offset::TPR, 0x45);
        apic.take_back(&page);
        assert_eq!((apic.tpr(), apic.ppr()), (0x45, 0x45));
        assert_eq!(apic.pending_vector(), None, "40h is held back, and below 10h nothing is");
        apic.set_tpr(0);
        assert_eq!(apic.acknowledge(), Some(0x40));
        assert_eq!((apic.eoi(), apic.eoi(), apic.eoi()), (None, None, None));
    }

    #[test]
    fn registers_are_shown_as_they_read() {
        let mut apic = enabled();
        let _ = apic.write(0x35, 0x700, Nanos::ZERO);
        let mut page = page();
        apic.show(&mut page);
        for number in [0x02, 0x03, 0x0D, 0x0E, 0x0F, 0x28, 0x30, 0x31, 0x32, 0x35, 0x37, 0x38] {
            let value = apic.read(number, Nanos::ZERO);
            assert_eq!(page.read(u16::from(number) << 4), value, "{number:#x}");
        }
        assert_eq!(page.read(0xF0), 0x1FF);
    }
}
