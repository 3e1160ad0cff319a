//! One guest computer: memory map, board wiring, and THE exit match.
//!
//! Start at [`Machine`], then `exit` (why a guest stopped and who serves it), `irq` (what happens before the
//! next entry), `board` (chips and wires), `insn` (instructions that fault on devices). Everything
//! outside is behind [`host::Host`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod apic;
pub mod board;
pub mod boot;
mod changer;
mod clock;
pub mod config;
mod cpu;
pub mod cpuid;
mod crs;
mod disks;
pub mod effects;
mod exit;
mod firmware;
mod fwcfgdma;
mod fwcfgfiles;
mod guestmem;
mod holes;
pub mod host;
mod inbox;
pub mod insn;
mod irq;
pub mod memmap;
mod msrs;
mod nics;
mod pio;
pub mod pvh;
mod reset;
pub mod stats;
mod taskswitch;
pub mod viridian;
mod waiting;
pub mod xen;

pub use changer::ChangeError;
pub use clock::Clock;
pub use cpu::{Activity, Cpu};
pub use disks::{Drive, SLOTS};
pub use host::Host;
pub use nics::{MAX_NICS, Nic, NicModel};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::{GuestRam, Nanos, Posted, Why};
use bios::{Bios, BiosConfig};
use board::{Board, BoardConfig};
use boot::Kernel;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use cpuid::CpuidPolicy;
use devmodel::cpuhp::CpuBitmap;
use devmodel::rtc::WallClock;
use disks::{BiosIo, Drives};
use holes::Holes;
use inbox::Inbox;
use memmap::{Flat, MemMap};
use pvh::Pvh;
use spin::Mutex;
use viridian::{Groups, Viridian};
use xen::time::Pvclock;
use xen::{Xen, XenConfig};

/// What a guest computer is built with.
pub struct MachineConfig {
    /// Its RAM.
    pub ram: GuestRam,
    /// Its video memory: a power of two from 1 MiB.
    pub vram: &'static [AtomicU32],
    /// A firmware image that ends at 4 GiB, a multiple of 64 KiB; its last 128 KiB are also copied below 1 MiB. `None` for
    /// this project's own.
    pub firmware: Option<&'static [u8]>,
    /// How many vCPUs, 1 or more.
    pub vcpus: usize,
    /// CPUID of the host, by leaf and subleaf.
    pub host_cpuid: fn(u32, u32) -> cpuid::Regs,
    /// Guest time.
    pub clock: Clock,
    /// The real-time clock at power-on.
    pub wall_clock: WallClock,
    /// Drives by slot: four IDE places, then two floppy drives.
    pub drives: [Option<Drive>; SLOTS],
    /// Network cards, up to [`MAX_NICS`].
    pub nics: Vec<Nic>,
    /// What the firmware is told besides what the machine knows itself.
    pub bios: BiosConfig,
    /// A Linux kernel to start instead of a disk.
    pub kernel: Option<Kernel>,
    /// A kernel to start by the PVH protocol, without firmware and, unless it says otherwise, without the board's devices.
    pub pvh: Option<Pvh>,
    /// Files for foreign firmware to find in fw_cfg, such as `vgaroms/vgabios.bin`.
    pub firmware_files: Vec<(&'static str, &'static [u8])>,
    /// Xen's interface, if the guest is to find it.
    pub xen: Option<XenConfig>,
    /// Parts of Hyper-V's interface, if the guest is to find it.
    pub viridian: Option<Groups>,
}

/// One guest computer. Shared by the CPUs that run its vCPUs.
pub struct Machine {
    /// Its RAM.
    pub ram: GuestRam,
    /// Which pages of it are not there.
    pub(crate) holes: Arc<Holes>,
    pub(crate) vram: &'static [AtomicU32],
    pub(crate) rom: &'static [u8],
    pub(crate) own_firmware: bool,
    kernel: Option<Kernel>,
    pub(crate) pvh: Option<Pvh>,
    pub(crate) clock: Clock,
    pub(crate) cpuid: CpuidPolicy,
    pub(crate) memmap: Mutex<MemMap>,
    pub(crate) board: Mutex<Board>,
    pub(crate) bios: Mutex<Bios>,
    pub(crate) bios_config: BiosConfig,
    pub(crate) bios_io: Mutex<BiosIo>,
    drives: Mutex<Drives>,
    pub(crate) inboxes: Box<[Inbox]>,
    pub(crate) addresses: Box<[AtomicU64]>,
    pub(crate) next_lowest: AtomicU32,
    /// How many vCPUs are plugged in at power-on, and now.
    plugged: (usize, AtomicUsize),
    /// The 8259A pair's output.
    pub(crate) intr: AtomicBool,
    board_due: AtomicU64,
    stopping: AtomicBool,
    stop: Mutex<Option<Why>>,
    /// Xen's interface.
    pub(crate) xen: Option<Xen>,
    /// Hyper-V's.
    pub(crate) viridian: Option<Viridian>,
}

impl Machine {
    /// Builds the computer. Nothing is mapped and nothing runs yet: see [`Machine::power_on`].
    #[must_use]
    pub fn new(config: MachineConfig) -> Machine {
        let MachineConfig {
            ram,
            vram,
            firmware,
            vcpus,
            host_cpuid,
            clock,
            wall_clock,
            drives,
            nics,
            bios: mut bios_config,
            kernel,
            pvh,
            firmware_files,
            xen,
            viridian,
        } = config;
        let vcpus = vcpus.max(1);
        let plugged = bios_config.plugged.clamp(1, vcpus);
        bios_config.plugged = plugged;
        let rom: &'static [u8] = firmware.unwrap_or(&bios::ROM);
        let vram_bytes = vram.len() as u64 * 4;
        let (low, high) = (ram.low_size(), ram.high_size());
        let memmap = match &pvh {
            Some(pvh) if !pvh.board => MemMap::flat(low, high, Flat { acpi: bios_config.acpi }),
            _ => MemMap::new(low, high, rom.len() as u64, vram_bytes),
        };
        let mut cpuid = CpuidPolicy::new(host_cpuid, vcpus as u32, clock.tsc_khz());
        let holes = Arc::new(Holes::new(&ram));
        let xen_platform = xen.is_some_and(|xen| xen.platform_pci);
        let xen = xen.and_then(|xen| Xen::new(xen, vcpus));
        if let Some(xen) = &xen {
            xen.hub.memories.insert(xen.domid, ram, holes.clone());
            let Pvclock { mul, shift } = Pvclock::new(&clock);
            let (domid, tsc_khz) = (xen.domid.0.into(), clock.tsc_khz() as u32);
            let first = match viridian {
                None => xen::cpuid::FIRST_LEAF,
                Some(_) => xen::cpuid::SECOND_LEAF,
            };
            let (vcpu, apic_kept) = (0, false);
            let asked = xen::cpuid::Asked { first, vcpu, domid, tsc_khz, mul, shift, apic_kept };
            cpuid.show_xen(asked);
        }
        if let Some(groups) = viridian {
            cpuid.show_viridian(groups);
        }
        bios_config.low_ram = memmap.low_ram();
        bios_config.high_ram = memmap.high_ram();
        bios_config.apic_ids = (0..vcpus.min(255)).map(|id| id as u8).collect();
        bios_config.video_memory = vram_bytes as u32;
        bios_config.framebuffer = memmap::LOW_RAM_MAX as u32;
        bios_config.pci_hole = (memmap::LOW_RAM_MAX as u32, memmap::IOAPIC as u32);
        let drives = Drives::new(drives);
        let floppy = drives.has_floppy();
        let fw_cfg = fwcfgfiles::device(&memmap, &bios_config, floppy, firmware_files);
        let mut board =
            Board::new(BoardConfig { wall_clock, vram: vram_bytes as u32, fw_cfg, xen_platform });
        board.cpus = CpuBitmap::new(plugged);
        drives.attach(&mut board);
        board.attach_nics(&nics);
        disks::fill_cmos(&mut board, &memmap, &drives, &bios_config.boot_order);
        Machine {
            ram,
            holes,
            vram,
            rom,
            own_firmware: firmware.is_none() && pvh.is_none(),
            kernel,
            pvh,
            clock,
            cpuid,
            memmap: Mutex::new(memmap),
            board: Mutex::new(board),
            bios: Mutex::new(Bios::new()),
            bios_config,
            bios_io: Mutex::new(BiosIo::default()),
            drives: Mutex::new(drives),
            inboxes: (0..vcpus).map(|_| Inbox::default()).collect(),
            addresses: (0..vcpus).map(|_| AtomicU64::new(0)).collect(),
            next_lowest: AtomicU32::new(0),
            plugged: (plugged, AtomicUsize::new(plugged)),
            intr: AtomicBool::new(false),
            board_due: AtomicU64::new(u64::MAX),
            stopping: AtomicBool::new(false),
            stop: Mutex::new(None),
            xen,
            viridian: viridian.map(Viridian::new),
        }
    }

    /// Xen's interface, if the guest finds it.
    #[must_use]
    pub fn xen(&self) -> Option<&Xen> {
        self.xen.as_ref()
    }

    /// How many vCPUs it has.
    #[must_use]
    pub fn vcpus(&self) -> usize {
        self.inboxes.len()
    }

    /// Where edge-triggered vectors for a vCPU are left. It stays where it is while the machine lives.
    #[must_use]
    pub fn posted(&self, vcpu: usize) -> Option<&Posted> {
        self.inboxes.get(vcpu).map(Inbox::posted)
    }

    /// How many vCPUs are plugged in.
    #[must_use]
    pub fn plugged(&self) -> usize {
        self.plugged.1.load(Ordering::Acquire)
    }

    /// From now on the first `count` vCPUs, 1 or more, are plugged in. The guest's ACPI hears of it and lets go
    /// of the others by itself; until it starts them anew they cannot be started.
    pub fn plug<H: Host>(&self, host: &H, count: usize) {
        let count = count.clamp(1, self.vcpus());
        self.plugged.1.store(count, Ordering::Release);
        self.on_board(host, |board, fx| board.set_cpus(CpuBitmap::new(count), fx));
    }

    /// MAXPHYADDR as the guest sees it.
    #[must_use]
    pub fn physical_bits(&self) -> u8 {
        self.cpuid.physical_bits()
    }

    /// Hides features of the processors before the first entry: with `pae` also all that needs it.
    pub fn hide(&mut self, pae: bool, nx: bool) {
        if pae {
            self.cpuid.hide_pae();
        }
        if nx {
            self.cpuid.hide_nx();
        }
    }

    /// Guest time now.
    #[must_use]
    #[inline]
    pub fn now<H: Host>(&self, host: &H) -> Nanos {
        self.clock.nanos(host.tsc())
    }

    /// How guest time follows the host's TSC.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// When [`Machine::tick`] is next to be called; [`Nanos::NEVER`] for not at all.
    #[must_use]
    pub fn board_due(&self) -> Nanos {
        Nanos(self.board_due.load(Ordering::Acquire))
    }

    /// Lets the board's chips do what is due.
    pub fn tick<H: Host>(&self, host: &H) {
        let now = self.now(host);
        self.on_board(host, |board, fx| board.advance(now, fx));
    }

    /// Puts firmware into the shadow area, maps everything, and puts the chips into their power-on state.
    /// Call before the first entry, and again for a reset. False where the host lacks memory.
    pub fn power_on<H: Host>(&self, host: &H) -> bool {
        *self.stop.lock() = None;
        self.stopping.store(false, Ordering::Release);
        *self.bios.lock() = Bios::new();
        self.plugged.1.store(self.plugged.0, Ordering::Release);
        self.bios_io.lock().forget();
        let now = self.now(host);
        if let Some(viridian) = &self.viridian {
            viridian.reset();
        }
        let drives = self.drives.lock().clone();
        self.on_board(host, |board, fx| {
            board.reset(now, fx);
            if !self.own_firmware {
                board.decode_pm(bios::PM_BASE, fx);
            }
            board.cpus = CpuBitmap::new(self.plugged.0);
            // What a guest's drivers took away is back.
            drives.attach_disks(board);
        });
        // What others' pages covered is mapped with the rest, in large pages.
        if !self.let_go(host) || !self.refill(host) {
            return false;
        }
        if let Some(pvh) = &self.pvh {
            let map = self.memmap.lock().e820();
            if let Err(error) = pvh.place(&self.ram, &self.bios_config, &map) {
                log::error!("{error}");
                return false;
            }
        } else if !self.place_firmware() {
            return false;
        }
        self.memmap.lock().map_all(host) && self.xen_power_on(host)
    }

    /// Copies the firmware below 1 MiB, and a kernel beside it. False where that does not fit.
    fn place_firmware(&self) -> bool {
        let shadow = self.rom.len().min(128 << 10);
        let start = memmap::MEGABYTE - shadow as u64;
        let image = &self.rom[self.rom.len() - shadow..];
        // RAM of less than a megabyte has no shadow; such a guest does not boot, and says so.
        let _ = self.ram.write_slice(arch::GuestPhys(start), image);
        if let Some(kernel) = &self.kernel
            && let Err(error) = kernel.place(&self.ram)
        {
            log::error!("{error}");
            return false;
        }
        true
    }

    /// Whether it started by the PVH protocol, and has none of the board's devices.
    #[must_use]
    #[inline]
    pub fn is_pvh(&self) -> bool {
        self.pvh.as_ref().is_some_and(|pvh| !pvh.board)
    }

    /// Runs `work` on the locked board and then carries out its effects.
    #[inline]
    pub(crate) fn on_board<H: Host, R>(
        &self,
        host: &H,
        work: impl FnOnce(&mut Board, &mut effects::Effects) -> R,
    ) -> R {
        let mut fx = effects::Effects::new();
        let result = work(&mut self.board.lock(), &mut fx);
        if fx.any() {
            self.apply(host, &mut fx);
        }
        result
    }

    /// Carries out what an access asked for.
    pub(crate) fn apply<H: Host>(&self, host: &H, fx: &mut effects::Effects) {
        for (to, byte) in fx.output() {
            host.output(*to, *byte);
        }
        while fx.ide.is_some() || fx.fdc.is_some() {
            if let Some(effect) = fx.ide.take() {
                self.run_ide(host, effect, fx);
            }
            if let Some(effect) = fx.fdc.take() {
                self.run_fdc(host, effect, fx);
            }
        }
        if core::mem::take(&mut fx.nic) {
            self.run_nics(host, fx);
        }
        for nic in 0..MAX_NICS as u8 {
            if fx.nic_room >> nic & 1 != 0 {
                host.nic_has_room(nic);
            }
        }
        if let Some(at) = fx.fw_cfg {
            self.fw_cfg_dma(at);
        }
        if let Some(unplug) = fx.unplug.take() {
            self.unplug(unplug, fx);
        }
        for message in fx.messages() {
            self.send(host, message);
        }
        if fx.intr {
            self.set_intr(host);
        }
        if fx.remap || fx.vga || fx.a20 {
            self.remap(host, fx);
        }
        if fx.init {
            self.reset_line(host);
        }
        if let Some(why) = fx.stop {
            self.request_stop(why);
        }
        if fx.due {
            self.publish_due();
            host.board_due_changed();
        }
    }

    /// Under the board's lock: of two CPUs that publish, the later one has seen both changes.
    fn publish_due(&self) {
        let board = self.board.lock();
        self.board_due.store(board.due().0, Ordering::Release);
    }

    /// Whether what was published agrees with the board: its deadline and the 8259A's pin. For tests,
    /// while nobody works on it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let board = self.board.lock();
        self.board_due() == board.due() && self.intr.load(Ordering::Acquire) == board.intr()
    }

    /// Makes the memory map follow the chips.
    fn remap<H: Host>(&self, host: &H, fx: &effects::Effects) {
        if self.is_pvh() {
            return;
        }
        let board = self.board.lock();
        let mut map = self.memmap.lock();
        if fx.remap {
            map.set_windows(board.windows(), host);
            map.set_writable(board.writable_shadow(), host);
        }
        if fx.vga {
            map.set_vga_direct(board.vga_direct, host);
        }
        if fx.a20 {
            map.set_a20(board.a20(), host);
        }
    }

    /// The guest is to stop; the first reason counts.
    pub fn request_stop(&self, why: Why) {
        self.stop.lock().get_or_insert(why);
        self.stopping.store(true, Ordering::Release);
    }

    /// Why the guest is to stop, if it is.
    #[must_use]
    #[inline]
    pub fn stop_request(&self) -> Option<Why> {
        if !self.stopping.load(Ordering::Acquire) {
            return None;
        }
        *self.stop.lock()
    }

    /// The end of a level-triggered interrupt, for the I/O APIC.
    pub(crate) fn end_of_interrupt<H: Host>(&self, host: &H, vector: u8) {
        self.on_board(host, |board, fx| board.end_of_interrupt(vector, fx));
    }

    /// A byte from the person at the console for serial port `port` (0 or 1). False: no room now.
    pub fn receive<H: Host>(&self, host: &H, port: usize, byte: u8) -> bool {
        let now = self.now(host);
        self.on_board(host, |board, fx| board.receive(port, byte, now, fx))
    }

    /// Whether the guest waits for input at serial port `port` (0 or 1) by interrupt.
    pub fn listens(&self, port: usize) -> bool {
        self.board.lock().listens(port)
    }

    /// The power button of the case. False: the guest's ACPI is off, so it may not notice.
    pub fn press_power_button<H: Host>(&self, host: &H) -> bool {
        self.on_board(host, |board, fx| {
            board.press_power_button(fx);
            board.pm.is_acpi()
        })
    }

    /// Whether the power button was pressed and the guest has not looked yet.
    pub fn power_button_waits(&self) -> bool {
        self.board.lock().pm.power_button_waits()
    }

    /// Works on the display: for showing it, and for its text.
    pub fn with_vga<R>(
        &self,
        work: impl FnOnce(&mut devmodel::vga::Vga, &'static [AtomicU32]) -> R,
    ) -> R {
        work(&mut self.board.lock().vga, self.vram)
    }

    /// Works on the keyboard controller: keys and mouse movements.
    pub fn with_keyboard<H: Host, R>(
        &self,
        host: &H,
        work: impl FnOnce(&mut devmodel::ps2::Ps2) -> R,
    ) -> R {
        self.on_board(host, |board, fx| board.with_keyboard(work, fx))
    }

    pub(crate) fn vram_read(&self, offset: u64, width: u8) -> u64 {
        use devmodel::vga::Vram;
        (0..u64::from(width.min(8)))
            .fold(0, |sum, n| sum | u64::from(Vram::get(self.vram, (offset + n) as u32)) << (8 * n))
    }

    pub(crate) fn vram_write(&self, offset: u64, width: u8, value: u64) {
        use devmodel::vga::Vram;
        for n in 0..u64::from(width.min(8)) {
            Vram::set(self.vram, (offset + n) as u32, (value >> (8 * n)) as u8);
        }
    }
}
