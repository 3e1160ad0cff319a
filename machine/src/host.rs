//! What a guest computer needs from whoever runs it: time, wake-ups, mappings, disks, output.

use arch::{GuestPhys, Perm};
use devmodel::blk::{BlkError, BlkRequest, Segment};
use pvdrivers::{DomId, Port};

/// Where a byte that the guest wrote comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// First serial port, 3F8h.
    Com1,
    /// Second serial port, 2F8h.
    Com2,
    /// Debug consoles, ports E9h and 402h.
    Debug,
}

/// What lies behind a run of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// The guest's RAM at the same guest-physical address.
    Ram,
    /// The guest's RAM at another guest-physical address.
    RamAt(GuestPhys),
    /// The firmware image, from this offset.
    Rom(u64),
    /// Video memory, from this offset.
    Vram(u64),
    /// Another guest's RAM, which it granted.
    Foreign(DomId, GuestPhys),
    /// The pages that the hypervisor shares with the guest ([`xen::PAGES`](crate::xen::PAGES)), from this offset.
    Xen(u64),
}

/// Data of a disk request.
#[derive(Debug)]
pub enum DiskData<'a> {
    /// None: a flush.
    None,
    /// These runs of guest memory, in order.
    Guest(&'a [Segment]),
    /// A buffer of the chip: to fill, or to take at once.
    Buffer(&'a mut [u8]),
}

/// What the host says to a disk request.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAnswer {
    /// It is finished.
    Done(Result<(), BlkError>),
    /// [`Machine::disk_done`](crate::Machine::disk_done) will tell.
    Pending,
}

/// What the host has for a page of RAM that no vCPU could touch.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backed {
    /// Memory: it can be mapped.
    Yes,
    /// Nothing yet: the guest is to try again, and takes interrupts before.
    Later,
    /// Nothing, and why that is was said: the guest ends.
    Never,
}

/// The world outside one guest. `hv` implements it; tests script it.
pub trait Host {
    /// The host's time-stamp counter.
    fn tsc(&self) -> u64;

    /// Makes a vCPU look at its inbox: wakes it, or interrupts it where it runs. May be called from any
    /// CPU and for a vCPU that does not exist.
    fn kick(&self, vcpu: usize);

    /// The same for an edge-triggered vector, which the CPU of a vCPU that runs may take from its
    /// [`Posted`](crate::Machine::posted) by itself. `first`: none was there; otherwise whoever left that one calls
    /// this as well, or has.
    fn notify(&self, vcpu: usize, first: bool) {
        let _ = first;
        self.kick(vcpu);
    }

    /// A byte for the person at the console.
    fn output(&self, to: Output, byte: u8);

    /// Maps guest-physical addresses (4 KiB aligned, `bytes` a multiple of 4 KiB) for all vCPUs.
    /// False where there is no memory for the tables or nothing behind the addresses.
    fn map(&self, gpa: GuestPhys, bytes: u64, backing: Backing, perm: Perm) -> bool;

    /// Removes mappings, and makes sure that no vCPU uses them any more.
    fn unmap(&self, gpa: GuestPhys, bytes: u64);

    /// Takes these pages of RAM (up to [`xen::STEP`](crate::xen::STEP)) from the guest: out of its memory and all
    /// TLBs, out of the hypervisor's own view, and to whoever wants memory. False: not now, and nothing is
    /// done. No lock is held.
    fn release(&self, pages: &[GuestPhys]) -> bool;

    /// Puts zeroed pages where [`release`](Host::release) took some. How many of them, in order, before
    /// memory was short. No lock is held.
    fn populate(&self, pages: &[GuestPhys]) -> usize;

    /// Sees to it that there is memory behind a page of RAM, which the guest has not given back but may never have
    /// touched. No lock is held.
    fn back(&self, _gpa: GuestPhys) -> Backed {
        Backed::Yes
    }

    /// Pages of RAM that the guest has not given back and for which no memory is set aside.
    fn uncovered(&self) -> u64 {
        0
    }

    /// Takes all RAM of a guest that gets its memory as it touches it, so that it begins anew; nobody runs it.
    /// `None`: all the guest's RAM has memory, but for what it gave back. False: memory is short.
    fn owe_all(&self) -> Option<bool> {
        None
    }

    /// Starts a disk request.
    fn disk(&self, request: &BlkRequest, data: DiskData<'_>) -> DiskAnswer;

    /// A removable medium was ejected or closed by the guest.
    fn tray(&self, disk: u8, open: bool);

    /// Sets the extended-state mask XCR0, checked against CPUID already.
    fn set_xcr0(&self, value: u64);

    /// A frame from the guest's network card `nic`, without check sequence. The board is locked: do
    /// not call the machine from here.
    fn send_frame(&self, _nic: u8, _frame: &[u8]) {}

    /// Network card `nic` may have room again for a frame that it had none for.
    fn nic_has_room(&self, _nic: u8) {}

    /// Takes a page of this guest's, which it had granted, out of another's memory.
    fn unmap_of(&self, domain: DomId, gpa: GuestPhys);

    /// The guest gives up the rest of its vCPU's turn.
    fn yield_turn(&self);

    /// All of the guest's translations are flushed on all CPUs.
    fn flush(&self);

    /// A vCPU of a domain, this guest's or another's, has an event (`upcall`), or is to look again at what it
    /// polls: [`Machine::announce`](crate::Machine::announce) is called for it.
    fn announce(&self, domain: DomId, vcpu: usize, upcall: bool);

    /// A back end of the hypervisor's has an event at this port of domain 0.
    fn doorbell(&self, port: Port);

    /// The earliest time at which a chip of the board wants [`Machine::tick`](crate::Machine::tick) changed.
    fn board_due_changed(&self);
}
