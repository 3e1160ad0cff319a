//! `Bios`: the little that firmware remembers outside guest RAM, and the way from a trap to its service.

use crate::boot::BootState;
use crate::caller::{Call, Caller, Flow, Outcome};
use crate::int13::{Emulation, Staged};
use crate::platform::Platform;
use crate::rom::{Service, service_at, service_of};
use arch::control::rflags;
use arch::{GuestPhys, Nanos};

/// Copies of the ROM are where real-mode programs reach them.
const COPIES_END: u32 = 0x10_fff0;

/// The firmware of one guest. What programs may look at is in the guest's RAM (BDA, EBDA); this is the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bios {
    /// How far boot has come.
    pub(crate) boot: BootState,
    /// What El Torito emulates.
    pub(crate) emulation: Option<Emulation>,
    /// A transfer to memory that is not RAM, in pieces.
    pub(crate) staged: Option<Staged>,
    /// The VBE mode that is set, with its flags; 0 for others.
    pub(crate) vbe_mode: u16,
    /// Where the display's frame buffer is, or 0.
    pub(crate) framebuffer: u32,
    /// Media last seen in the floppy drives.
    pub(crate) floppy_media: [u32; 4],
    /// Medium last seen in the CD drive.
    pub(crate) cd_media: u32,
    /// INT 13h 4500h calls not yet taken back.
    pub(crate) cd_locks: u8,
    /// Segment where the search for option ROMs goes on.
    pub(crate) rom_segment: u16,
    /// How many memory type registers are set.
    pub(crate) types_set: u8,
    /// Width of physical addresses, 0 before POST.
    pub(crate) physical_bits: u8,
    /// When the wait that is going on (INT 15h 86h, the menu) ends.
    pub(crate) wait_until: Option<Nanos>,
    /// When a serial port that INT 14h waits for times out.
    pub(crate) serial_until: Option<Nanos>,
}

impl Bios {
    /// Firmware before its first POST.
    #[must_use]
    pub fn new() -> Bios {
        Bios::default()
    }

    /// Serves a trap: `cpu` is the vCPU whose OUT to the trap port exited.
    ///
    /// The one place where the machine is behind `dyn`: the services are large, and would be in the image once
    /// for each kind of machine otherwise.
    pub fn call(&mut self, cpu: &mut Caller, bus: &mut dyn Platform) -> Outcome {
        self.call_on(cpu, &mut { bus })
    }

    fn call_on<P: Platform>(&mut self, cpu: &mut Caller, bus: &mut P) -> Outcome {
        let Some(service) = wanted(cpu, bus) else { return Outcome::NotRom };
        let before = *cpu;
        let mut call = Call::new(cpu, bus);
        call.framed = service.has_frame();
        let flow = self.serve(service, &mut call);
        if service.has_frame() && flow == Flow::Done {
            call.stub_flags(false, false);
            call.store_frame();
        }
        if let Some((linear, write)) = call.fault {
            *cpu = before;
            return Outcome::PageFault { linear, write };
        }
        match flow {
            Flow::Done => Outcome::Done,
            Flow::Again | Flow::Spin => {
                cpu.gprs = before.gprs;
                Call::new(cpu, bus).stub_flags(true, flow == Flow::Spin);
                Outcome::Done
            }
            Flow::Wait => {
                *cpu = before;
                // As a BIOS does that waits for its disk. In V86 the real flag is the monitor's.
                if cpu.rflags & rflags::VM == 0 {
                    cpu.rflags |= rflags::IF;
                }
                Outcome::Wait
            }
            Flow::PowerOff => Outcome::PowerOff,
            Flow::Reset => Outcome::Reset,
        }
    }

    fn serve<P: Platform>(&mut self, service: Service, c: &mut Call<'_, P>) -> Flow {
        match service {
            Service::Reset => self.reset_entry(c),
            Service::Post => self.post(c),
            Service::MemoryType => self.memory_type(c),
            Service::OptionRom => self.option_rom(c),
            Service::Menu => self.boot_menu(c),
            Service::Boot => self.boot(c),
            Service::Tick => self.tick(c),
            Service::Key => self.key(c),
            Service::Paused => self.paused(c),
            Service::Int10 => self.int10(c),
            Service::Int13 => self.int13(c),
            Service::Int15 => self.int15(c),
            Service::Int16 => self.int16(c),
            Service::Int18 => self.int18(c),
            Service::Rtc => self.rtc(c),
            Service::Mouse => self.mouse_byte(c),
            Service::Bios32 => self.bios32(c),
            Service::PciBios32 => self.pci_bios32(c),
            Service::Int05 => self.int05(c),
            Service::Int14 => self.int14(c),
            Service::Int17 => self.int17(c),
            Service::Int1A => self.int1a(c),
        }
    }
}

/// The service whose OUT this is: that of the ROM where CS:IP lies in it, whatever a program has written over the
/// shadow. Memory managers put copies of the ROM's pages, in RAM, in the place of the ROM (to catch a jump to
/// FFFF:0, or because RAM is faster) or elsewhere; there the bytes say it.
fn wanted<P: Platform>(cpu: &mut Caller, bus: &mut P) -> Option<Service> {
    let linear = (cpu.cs.base as u32).wrapping_add(cpu.rip as u32);
    let GuestPhys(at) = bus.translate(linear, false)?;
    // Just after reset the code runs from the image below 4 GiB.
    let at = if at >= 0xffff_0000 { at - 0xfff0_0000 } else { at };
    if let Some(service) = service_at(at) {
        return Some(service);
    }
    if linear >= COPIES_END {
        return None;
    }
    let mut code = [0; 6];
    Call::new(cpu, bus).read(linear, &mut code);
    service_of(&code)
}
