//! Interrupts on their way to a vCPU: messages to local APICs, the 8259A's pin, and what is injected
//! before an entry.

use crate::apic::EOI;
use crate::cpu::{Activity, Cpu};
use crate::host::Host;
use crate::inbox::{self, Inbox, Taken};
use crate::insn::exec::{cpl, linear};
use crate::memmap::LAPIC;
use crate::xen::SVR;
use crate::{Machine, reset};
use arch::control::rflags;
use arch::{Access, ApicMode, Event, GuestVirt, Nanos, Paging, SegReg, SysReg, Vcpu};
use core::sync::atomic::Ordering;
use devmodel::apicmsg::{DeliveryMode, Message};
use devmodel::lapic::{ApicAddress, Delivery, Ipi, Shorthand};

impl Machine {
    /// Makes an APIC's new address known to senders.
    pub(crate) fn publish_address(&self, cpu: &Cpu) {
        if let Some(slot) = self.addresses.get(cpu.id) {
            slot.store(cpu.lapic.address().to_bits(), Ordering::Release);
        }
    }

    fn address(&self, vcpu: usize) -> Option<ApicAddress> {
        let bits = self.addresses.get(vcpu)?.load(Ordering::Acquire);
        Some(ApicAddress::from_bits(bits))
    }

    /// Delivers a message to every local APIC that it names.
    pub fn send<H: Host>(&self, host: &H, message: &Message) {
        let matches = |vcpu: usize| {
            self.address(vcpu).is_some_and(|a| a.matches(message.dest, message.logical))
        };
        if message.mode == DeliveryMode::LowestPriority {
            // Round robin: as good as any arbitration that a guest can observe.
            let count = self.inboxes.len().max(1);
            let start = self.next_lowest.fetch_add(1, Ordering::Relaxed) as usize;
            let chosen = (0..count).map(|n| (start + n) % count).find(|vcpu| matches(*vcpu));
            if let Some(vcpu) = chosen {
                self.post(host, vcpu, message);
            }
            return;
        }
        for vcpu in 0..self.inboxes.len() {
            if matches(vcpu) {
                self.post(host, vcpu, message);
            }
        }
    }

    fn post<H: Host>(&self, host: &H, vcpu: usize, message: &Message) {
        let Some(inbox) = self.inboxes.get(vcpu) else { return };
        match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                // An illegal vector must not get past the local APIC, which notes it.
                if !message.level && message.vector >= 16 {
                    return host.notify(vcpu, inbox.post(message.vector));
                }
                inbox.post_level(message.vector);
            }
            DeliveryMode::Nmi => inbox.nmi(),
            DeliveryMode::Init => inbox.raise(inbox::INIT),
            DeliveryMode::StartUp if vcpu >= self.plugged() => return,
            DeliveryMode::StartUp => inbox.start_up(message.vector),
            DeliveryMode::ExtInt => inbox.raise(inbox::LOOK),
            DeliveryMode::Smi | DeliveryMode::Reserved => return,
        }
        host.kick(vcpu);
    }

    /// A non-maskable interrupt for a vCPU.
    pub(crate) fn post_nmi<H: Host>(&self, host: &H, vcpu: usize) {
        if let Some(inbox) = self.inboxes.get(vcpu) {
            inbox.nmi();
            host.kick(vcpu);
        }
    }

    /// Sends what a write to the interrupt command register asked for.
    pub(crate) fn send_ipi<H: Host>(&self, cpu: &mut Cpu, host: &H, ipi: &Ipi) {
        match ipi.shorthand {
            Shorthand::Oneself => {
                let delivery = cpu.lapic.deliver(&ipi.message);
                self.deliver(cpu, delivery);
            }
            Shorthand::Destination => self.send(host, &ipi.message),
            Shorthand::All | Shorthand::Others => {
                for vcpu in 0..self.inboxes.len() {
                    if vcpu != cpu.id || ipi.shorthand == Shorthand::All {
                        self.post(host, vcpu, &ipi.message);
                    }
                }
            }
        }
        cpu.attention = true;
    }

    /// Notes what a message asks of the vCPU that it arrived at.
    fn deliver(&self, cpu: &mut Cpu, delivery: Delivery) {
        match delivery {
            Delivery::Ignored => {}
            Delivery::Accepted | Delivery::ExtInt => cpu.attention = true,
            Delivery::Nmi => {
                cpu.nmis = (cpu.nmis + 1).min(2);
                cpu.attention = true;
            }
            Delivery::Init => self.inbox(cpu.id).raise(inbox::INIT),
            Delivery::StartUp(page) => self.inbox(cpu.id).start_up(page),
        }
    }

    fn inbox(&self, vcpu: usize) -> &Inbox {
        // A vCPU's number is below the count that made it.
        &self.inboxes[vcpu]
    }

    /// Throws away what is in a vCPU's inbox. Nobody sends now.
    pub(crate) fn forget_messages(&self, vcpu: usize) {
        if let Some(inbox) = self.inboxes.get(vcpu) {
            let _ = inbox.take();
        }
    }

    /// Empties the inbox.
    #[inline(never)]
    fn drain<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V) {
        let taken = self.inbox(cpu.id).take();
        let Taken { flags, edge, level } = taken;
        cpu.attention = true;
        if cpu.activity == Activity::Polling {
            self.end_poll(cpu);
        }
        // The 8259A's pin and NMIs are none of the local APIC's.
        if flags & (inbox::EDGE | inbox::LEVEL | inbox::INIT) != 0 {
            self.take_apic(cpu, vcpu);
        }
        if flags & (inbox::EDGE | inbox::LEVEL) != 0 {
            cpu.lapic.accept_all(&edge, &level);
        }
        if flags & (inbox::NMI | inbox::NMI_AGAIN) != 0 {
            // While one is in service, only one more is remembered.
            let in_service = vcpu.blocking().nmi || vcpu.pending_event() == Some(Event::NMI);
            cpu.nmis = (cpu.nmis + taken.nmis()).min(if in_service { 1 } else { 2 });
        }
        if flags & inbox::INIT != 0 {
            cpu.lapic.init();
            cpu.apic_shown = false;
            self.publish_address(cpu);
            cpu.nmis = 0;
            cpu.lapic_due = None;
            reset::init(vcpu);
            let bsp = cpu.lapic.base() & 1 << 8 != 0;
            if let Some(xen) = self.xen.as_ref().filter(|_| !bsp) {
                xen.set_reset(cpu.id);
            }
            cpu.activity = if bsp { Activity::Running } else { Activity::WaitForSipi };
        }
        if flags & inbox::UP != 0
            && let Some(xen) = &self.xen
        {
            self.bring_up(cpu, vcpu, xen);
        }
        // One that Xen's interface has made ready starts by that alone, as in Xen.
        let ready = self.xen.as_ref().is_some_and(|xen| xen.is_initialised(cpu.id));
        if flags & inbox::STARTUP != 0 && cpu.activity == Activity::WaitForSipi && !ready {
            reset::start_up(vcpu, self.inbox(cpu.id).startup_page());
            cpu.activity = Activity::Running;
            if let Some(xen) = &self.xen {
                xen.set_up(cpu.id);
            }
        }
    }

    /// Prepares the next entry: takes what others left, lets the timer expire, wakes a halted vCPU, and
    /// injects what can be taken now. True: enter; false: there is nothing to run.
    #[inline]
    pub fn before_entry<V: Vcpu, H: Host>(&self, cpu: &mut Cpu, vcpu: &mut V, host: &H) -> bool {
        // First what this vCPU may leave to itself: it goes into its inbox like all else.
        let asserted = cpu.attention && self.expire(cpu, vcpu, host);
        if !self.inboxes.get(cpu.id).is_none_or(Inbox::is_empty) {
            self.drain(cpu, vcpu);
        }
        if !cpu.attention {
            return true;
        }
        let enter = self.attend(cpu, vcpu, host);
        if enter {
            self.lend_apic(cpu, vcpu);
        }
        // A vCPU that waits is looked at again each time, and one whose line of events may fall.
        cpu.attention = !enter || asserted;
        enter
    }

    /// Lets timers expire and the line of Xen's events follow them. True: the line is asserted.
    #[inline(always)]
    fn expire<V: Vcpu, H: Host>(&self, cpu: &mut Cpu, vcpu: &mut V, host: &H) -> bool {
        let none = cpu.soonest() == Nanos::NEVER && !self.has_callback_line(cpu);
        !none && self.expire_some(cpu, vcpu, host)
    }

    #[inline(never)]
    fn expire_some<V: Vcpu, H: Host>(&self, cpu: &mut Cpu, vcpu: &mut V, host: &H) -> bool {
        if let Some(due) = cpu.lapic_due {
            let now = self.now(host);
            if due <= now {
                self.take_apic(cpu, vcpu);
                cpu.lapic.advance(now);
                cpu.lapic_due = cpu.lapic.due();
            }
        }
        self.expire_xen_timers(cpu, host);
        self.settle_callback(cpu, host)
    }

    #[inline(never)]
    fn attend<V: Vcpu, H: Host>(&self, cpu: &mut Cpu, vcpu: &mut V, host: &H) -> bool {
        if cpu.activity == Activity::WaitForSipi {
            return false;
        }
        if self.xen.as_ref().is_some_and(|xen| xen.is_down(cpu.id)) {
            return false;
        }
        if vcpu.blocking().shadow && self.is_at_hlt(cpu, vcpu) {
            self.skip(vcpu, 1);
            cpu.activity = Activity::Halted;
        }
        let delivers = self.apic_mode(cpu, vcpu) != ApicMode::Off;
        // Of a vCPU that runs on with its local APIC lent, nothing of that is wanted here; but an offer ends.
        if cpu.activity != Activity::Running || !delivers {
            self.take_apic(cpu, vcpu);
        }
        self.take_tpr(cpu, vcpu);
        let enabled = vcpu.rflags() & rflags::IF != 0;
        let extint = self.intr.load(Ordering::Acquire) && cpu.lapic.accepts_extint();
        let vector = cpu.lapic.pending_vector();
        let upcall = self.pending_upcall(cpu);
        let waiting = extint || vector.is_some() || upcall.is_some();
        if cpu.activity == Activity::Halted {
            let wakes = cpu.nmis > 0 || (waiting && enabled);
            if !wakes {
                return false;
            }
            cpu.activity = Activity::Running;
            if let Some(xen) = &self.xen {
                // An NMI brings one back that has switched itself off.
                xen.set_up(cpu.id);
            }
        }
        if cpu.activity == Activity::WaitForDisk {
            let wakes = self.disk_ready() || cpu.nmis > 0 || (waiting && enabled);
            if !wakes {
                return false;
            }
            cpu.activity = Activity::Running;
        }
        if cpu.activity == Activity::Polling {
            let wakes = cpu.nmis > 0 || (waiting && enabled) || vcpu.pending_event().is_some();
            if !wakes {
                return false;
            }
            self.end_poll(cpu);
        }
        // The CPU delivers vectors of the local APIC by itself, where it can.
        let vector = if delivers { None } else { vector };
        let waiting = extint || vector.is_some() || upcall.is_some();
        let blocking = vcpu.blocking();
        if vcpu.pending_event().is_some() {
            // An interrupted delivery goes first; the rest waits for a window.
            self.ask_for_window(cpu, vcpu, waiting, delivers);
            return true;
        }
        let mut upcall_waits = upcall.is_some();
        if cpu.nmis > 0 && !blocking.nmi && !blocking.shadow {
            cpu.nmis -= 1;
            vcpu.inject(Some(Event::NMI));
        } else if waiting && enabled && !blocking.shadow {
            let vector = match upcall {
                // Pending until the guest's handler clears it: nothing to acknowledge.
                Some(vector) => {
                    upcall_waits = false;
                    Some(vector)
                }
                None if extint => self.acknowledge_pic(host),
                None => cpu.lapic.acknowledge(),
            };
            vcpu.inject(vector.map(Event::interrupt));
        }
        let extint = self.intr.load(Ordering::Acquire) && cpu.lapic.accepts_extint();
        let upcall = if upcall_waits { upcall } else { None };
        let vector = if delivers { None } else { cpu.lapic.pending_vector() };
        if let (Some(alone), None) | (None, Some(alone)) = (upcall, vector)
            && !extint
            && cpu.nmis == 0
            && vcpu.pending_event().is_none()
            && self.offer(cpu, vcpu, alone, upcall_waits)
        {
            return true;
        }
        let more = extint || upcall_waits || vector.is_some();
        self.ask_for_window(cpu, vcpu, more, delivers);
        true
    }

    /// Whether the guest stopped between STI and HLT. Then it has halted: on a CPU nothing comes between the two that
    /// could wake it too early. QEMU's SVM (7.2) forgets the shadow at entry; there an interrupt would be taken in front
    /// of the HLT, and what it brought to do would wait for the next one.
    #[cold]
    #[inline(never)]
    fn is_at_hlt<V: Vcpu>(&self, cpu: &Cpu, vcpu: &V) -> bool {
        const HLT: u8 = 0xf4;
        let flags = vcpu.rflags();
        if cpu.activity != Activity::Running
            || flags & (rflags::IF | rflags::TF) != rflags::IF
            || vcpu.pending_event().is_some()
            || cpl(vcpu) != 0
        {
            return false;
        }
        let at = GuestVirt(linear(vcpu, SegReg::Cs, vcpu.rip()));
        let paging = Paging::of(vcpu, self.cpuid.physical_bits());
        let found = paging.translate(&self.ram, at, Access::EXEC);
        found.is_ok_and(|found| self.ram.read_u8(found.gpa) == Some(HLT))
    }

    /// An interrupt that waits needs an exit as soon as the guest can take it. One that the TPR holds
    /// back needs an exit when the TPR falls.
    fn ask_for_window<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V, waiting: bool, delivers: bool) {
        let none = waiting || delivers;
        let masked = if none { 0 } else { cpu.lapic.held_back_class().unwrap_or(0) };
        vcpu.request_window(waiting, cpu.nmis > 0, masked);
    }

    /// The 8259A's vector, and its pin afterwards.
    fn acknowledge_pic<H: Host>(&self, host: &H) -> Option<u8> {
        let mut board = self.board.lock();
        let vector = board.acknowledge_pic();
        self.intr.store(board.intr(), Ordering::Release);
        drop(board);
        let _ = host;
        Some(vector)
    }

    /// The 8259A's pin changed: the vCPU whose LINT0 takes it looks again. What counts is the pin now, read under
    /// the lock: another CPU may have moved it since.
    pub(crate) fn set_intr<H: Host>(&self, host: &H) {
        let board = self.board.lock();
        let level = board.intr();
        let old = self.intr.swap(level, Ordering::AcqRel);
        drop(board);
        if level
            && !old
            && let Some(inbox) = self.inboxes.first()
        {
            inbox.raise(inbox::LOOK);
            host.kick(0);
        }
    }

    /// The 8042's or port 92h's reset line. A program that wants to come back from protected mode has left a
    /// shutdown code in CMOS 0Fh and gets INIT; without one the whole computer restarts, as on today's chipsets.
    pub(crate) fn reset_line<H: Host>(&self, host: &H) {
        if self.board.lock().rtc.cmos(0xf) == 0 {
            self.request_stop(arch::Why::Reset);
            return;
        }
        if let Some(inbox) = self.inboxes.first() {
            inbox.raise(inbox::INIT);
            host.kick(0);
        }
    }

    /// Every vCPU looks again at what it waits for.
    pub(crate) fn wake_all<H: Host>(&self, host: &H) {
        for (vcpu, inbox) in self.inboxes.iter().enumerate() {
            inbox.raise(inbox::LOOK);
            host.kick(vcpu);
        }
    }

    /// A read of the local APIC's page. Registers are 32 bits wide on 16-byte boundaries.
    pub(crate) fn lapic_read<H: Host>(
        &self,
        cpu: &mut Cpu,
        host: &H,
        offset: u16,
        width: u8,
    ) -> u64 {
        let now = self.now(host);
        let number = (offset >> 4) as u8;
        let shift = u32::from(offset & 3) * 8;
        let value = if offset & 0xc == 0 { cpu.lapic.read(number, now) } else { 0 };
        u64::from(value >> shift) & crate::insn::alu::mask(width)
    }

    /// A write to the local APIC's page. Only aligned 32-bit writes count (SDM 3A "APIC Register Address
    /// Map"); wider ones carry the register in their low half.
    pub(crate) fn lapic_write<H: Host>(
        &self,
        cpu: &mut Cpu,
        host: &H,
        offset: u16,
        width: u8,
        value: u64,
    ) {
        if offset & 0xf != 0 || width < 4 {
            return;
        }
        let number = (offset >> 4) as u8;
        let effect = cpu.lapic.write(number, value as u32, self.now(host));
        cpu.apic_shown &= number == EOI;
        self.lapic_effect(cpu, host, effect);
        if number == SVR {
            self.reassert_upcall(cpu);
        }
    }

    /// Writes the task priority that xAPIC or x2APIC set through to the CPU.
    pub(crate) fn sync_tpr<V: Vcpu>(&self, cpu: &Cpu, vcpu: &mut V) {
        vcpu.set_reg(SysReg::Cr8, u64::from(cpu.lapic.tpr() >> 4));
    }

    /// The CPU moves CR8 without an exit: brings the local APIC's task priority after it. The
    /// sub-class, which CR8 does not show, stays if the class did.
    #[inline]
    pub(crate) fn take_tpr<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &V) {
        let class = vcpu.reg(SysReg::Cr8) as u8;
        if cpu.lapic.tpr() >> 4 != class {
            cpu.lapic.set_tpr(class << 4);
        }
    }

    /// Whether a vCPU's local APIC stands where the memory map expects it.
    #[must_use]
    pub fn lapic_is_standard(cpu: &Cpu) -> bool {
        cpu.lapic_page == LAPIC >> 12
    }
}
