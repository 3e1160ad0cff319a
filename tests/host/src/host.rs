//! The hypervisor as a machine sees it, with every call recorded and disks in memory.

use arch::{GuestPhys, GuestRam, Perm};
use devmodel::blk::{BlkError, BlkOp, BlkRequest, SECTOR};
use machine::Host;
use machine::host::{Backed, Backing, DiskAnswer, DiskData, Output};
use pvdrivers::{DomId, Port};
use std::cell::{Cell, RefCell};

/// A call that the machine made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Host::kick`].
    Kick(usize),
    /// [`Host::map`]: address, bytes, what, rights.
    Map(u64, u64, Backing, Perm),
    /// [`Host::unmap`]: address, bytes.
    Unmap(u64, u64),
    /// [`Host::release`].
    Release(Vec<GuestPhys>),
    /// [`Host::populate`].
    Populate(Vec<GuestPhys>),
    /// [`Host::back`].
    Back(GuestPhys),
    /// [`Host::owe_all`].
    OweAll,
    /// [`Host::disk`].
    Disk(BlkRequest),
    /// [`Host::tray`].
    Tray(u8, bool),
    /// [`Host::set_xcr0`].
    SetXcr0(u64),
    /// [`Host::nic_has_room`].
    NicHasRoom(u8),
    /// [`Host::yield_turn`].
    Yield,
    /// [`Host::flush`].
    Flush,
    /// [`Host::unmap_of`]: whose, where.
    UnmapOf(DomId, u64),
    /// [`Host::announce`].
    Announce(DomId, usize, bool),
    /// [`Host::doorbell`].
    Doorbell(Port),
}

/// A host whose clock is turned by the test.
pub struct MockHost {
    /// Its time-stamp counter; the guests' clock runs at 1 GHz, so these are nanoseconds.
    pub tsc: Cell<u64>,
    /// How far it goes by itself each time it is read; 0 at first.
    pub pace: Cell<u64>,
    /// What was called, but for output and clock.
    pub calls: RefCell<Vec<Call>>,
    /// What came out of serial ports and debug consoles.
    pub printed: RefCell<Vec<(Output, u8)>>,
    /// Disk images by [`devmodel::blk::DiskId`].
    pub disks: RefCell<Vec<Vec<u8>>>,
    /// Disks answer later: the test completes what it finds in `calls`.
    pub slow_disks: Cell<bool>,
    /// Where DMA goes.
    pub ram: GuestRam,
    /// Frames that network cards sent.
    pub frames: RefCell<Vec<(u8, Vec<u8>)>>,
    /// Pages that the host has for [`Host::populate`].
    pub pool: Cell<usize>,
    /// What the host says to [`Host::back`].
    pub backed: Cell<Backed>,
    /// Pages that have no memory yet, for a guest that gets it as it touches them.
    pub owed: Cell<Option<u64>>,
    /// The host refuses [`Host::release`] so often.
    pub busy: Cell<u32>,
    /// Whom an edge-triggered vector was announced to, and whether it was the first.
    pub notified: RefCell<Vec<(usize, bool)>>,
    /// Calls are not recorded: for fuzzing.
    pub quiet: Cell<bool>,
}

impl MockHost {
    /// A host at TSC 0 without disks.
    #[must_use]
    pub fn new(ram: GuestRam) -> MockHost {
        MockHost {
            tsc: Cell::new(0),
            pace: Cell::new(0),
            calls: RefCell::default(),
            printed: RefCell::default(),
            disks: RefCell::default(),
            slow_disks: Cell::new(false),
            ram,
            frames: RefCell::default(),
            pool: Cell::new(0),
            backed: Cell::new(Backed::Yes),
            owed: Cell::new(None),
            busy: Cell::new(0),
            notified: RefCell::default(),
            quiet: Cell::new(false),
        }
    }

    /// What came out of one port, as text.
    #[must_use]
    pub fn text(&self, from: Output) -> String {
        let printed = self.printed.borrow();
        printed.iter().filter(|(to, _)| *to == from).map(|(_, byte)| char::from(*byte)).collect()
    }

    /// Takes the recorded calls.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.borrow_mut())
    }

    /// Which vCPUs were kicked since the calls were last taken.
    #[must_use]
    pub fn kicked(&self) -> Vec<usize> {
        let kicks = |call: &Call| if let Call::Kick(vcpu) = call { Some(*vcpu) } else { None };
        self.calls.borrow().iter().filter_map(kicks).collect()
    }

    fn note(&self, call: Call) {
        if !self.quiet.get() {
            self.calls.borrow_mut().push(call);
        }
    }

    /// Does what a request asks for.
    ///
    /// # Errors
    /// As a disk of this size would.
    pub fn serve(&self, request: &BlkRequest, data: DiskData<'_>) -> Result<(), BlkError> {
        let mut disks = self.disks.borrow_mut();
        let image = disks.get_mut(usize::from(request.disk.0)).ok_or(BlkError::NoMedium)?;
        if request.op == BlkOp::Flush {
            return Ok(());
        }
        let start = usize::try_from(request.lba).map_err(|_| BlkError::Range)?;
        let start = start.checked_mul(SECTOR).ok_or(BlkError::Range)?;
        let end = start.checked_add(request.sectors as usize * SECTOR).ok_or(BlkError::Range)?;
        let mut image = image.get_mut(start..end).ok_or(BlkError::Range)?;
        let read = request.op == BlkOp::Read;
        match data {
            DiskData::None => {}
            DiskData::Buffer(buffer) => {
                let len = image.len().min(buffer.len());
                let (image, buffer) = (&mut image[..len], &mut buffer[..len]);
                if read { buffer.copy_from_slice(image) } else { image.copy_from_slice(buffer) }
            }
            DiskData::Guest(segments) => {
                for segment in segments {
                    let (now, later) = image.split_at_mut(image.len().min(segment.len as usize));
                    let at = GuestPhys(segment.address);
                    let ram = self.ram;
                    let moved = if read { ram.write_slice(at, now) } else { ram.read(at, now) };
                    moved.map_err(|_| BlkError::Dma)?;
                    image = later;
                }
            }
        }
        Ok(())
    }
}

impl Host for MockHost {
    fn tsc(&self) -> u64 {
        self.tsc.set(self.tsc.get() + self.pace.get());
        self.tsc.get()
    }

    fn kick(&self, vcpu: usize) {
        self.note(Call::Kick(vcpu));
    }

    fn notify(&self, vcpu: usize, first: bool) {
        if !self.quiet.get() {
            self.notified.borrow_mut().push((vcpu, first));
        }
        self.kick(vcpu);
    }

    fn output(&self, to: Output, byte: u8) {
        if !self.quiet.get() {
            self.printed.borrow_mut().push((to, byte));
        }
    }

    fn map(&self, gpa: GuestPhys, bytes: u64, backing: Backing, perm: Perm) -> bool {
        assert!(gpa.0 & 0xfff == 0 && bytes & 0xfff == 0, "map {gpa} + {bytes:#x}");
        self.note(Call::Map(gpa.0, bytes, backing, perm));
        true
    }

    fn unmap(&self, gpa: GuestPhys, bytes: u64) {
        assert!(gpa.0 & 0xfff == 0 && bytes & 0xfff == 0, "unmap {gpa} + {bytes:#x}");
        self.note(Call::Unmap(gpa.0, bytes));
    }

    fn release(&self, pages: &[GuestPhys]) -> bool {
        assert!(pages.len() <= machine::xen::STEP);
        if let Some(left) = self.busy.get().checked_sub(1) {
            self.busy.set(left);
            return false;
        }
        self.pool.set(self.pool.get() + pages.len());
        self.note(Call::Release(pages.to_vec()));
        true
    }

    fn populate(&self, pages: &[GuestPhys]) -> usize {
        let count = pages.len().min(self.pool.get());
        self.pool.set(self.pool.get() - count);
        let pages = &pages[..count];
        pages.iter().for_each(|at| self.ram.fill(*at, 4096, 0).expect("RAM"));
        self.note(Call::Populate(pages.to_vec()));
        count
    }

    fn back(&self, gpa: GuestPhys) -> Backed {
        if self.owed.get().is_some() {
            self.note(Call::Back(gpa));
        }
        self.backed.get()
    }

    fn uncovered(&self) -> u64 {
        self.owed.get().unwrap_or(0)
    }

    fn owe_all(&self) -> Option<bool> {
        self.owed.get()?;
        self.note(Call::OweAll);
        Some(self.backed.get() == Backed::Yes)
    }

    fn disk(&self, request: &BlkRequest, data: DiskData<'_>) -> DiskAnswer {
        self.note(Call::Disk(*request));
        if self.slow_disks.get() {
            return DiskAnswer::Pending;
        }
        DiskAnswer::Done(self.serve(request, data))
    }

    fn tray(&self, disk: u8, open: bool) {
        self.note(Call::Tray(disk, open));
    }

    fn set_xcr0(&self, value: u64) {
        self.note(Call::SetXcr0(value));
    }

    fn send_frame(&self, nic: u8, frame: &[u8]) {
        if !self.quiet.get() {
            self.frames.borrow_mut().push((nic, frame.to_vec()));
        }
    }

    fn nic_has_room(&self, nic: u8) {
        self.note(Call::NicHasRoom(nic));
    }

    fn yield_turn(&self) {
        self.note(Call::Yield);
    }

    fn unmap_of(&self, domain: DomId, gpa: GuestPhys) {
        self.note(Call::UnmapOf(domain, gpa.0));
    }

    fn flush(&self) {
        self.note(Call::Flush);
    }

    fn announce(&self, domain: DomId, vcpu: usize, upcall: bool) {
        self.note(Call::Announce(domain, vcpu, upcall));
    }

    fn doorbell(&self, port: Port) {
        self.note(Call::Doorbell(port));
    }

    fn board_due_changed(&self) {}
}
