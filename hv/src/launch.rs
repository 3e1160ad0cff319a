//! From boot modules to running guests: finds configurations and media, builds the domains, starts them.

// UNSAFETY: boot modules are read as slices; building guests changes to a larger stack.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use arch::slat::Slat;
use bios::{BiosConfig, BootDevice};
use devmodel::blk::Media;
use devmodel::fdc::{DriveType, geometry_of_image};
use devmodel::rtc::WallClock;
use machine::{Clock, Cpu, Drive, Machine, MachineConfig, SLOTS};
use spin::Mutex;

use crate::archive::{self, Entry};
use crate::boot::Boot;
use crate::cpu::power::{self, Code};
use crate::cpu::virt::{self, Vendor};
use crate::cpu::{percpu, tsc};
use crate::domain::backend::{Backend, Svm};
use crate::domain::disk::{Medium, Module};
use crate::domain::memory::{Frames, Store};
use crate::domain::{Action, Actions, Domain, Parts, Slot, Task, fpu, sched};
use crate::mem::{self, paging};

/// Bytes of video memory of a guest.
const VRAM: u64 = 16 << 20;

/// Bytes of the stack on which guests are built: a board passes through it by value.
const STACK: u64 = 2 << 20;

/// Runs what the command line and the modules ask for; ends the machine when all is over.
pub fn run(boot: &Boot) -> ! {
    extern "C" fn go(boot: &Boot) -> ! {
        start(boot)
    }
    let top = paging::alloc_stack(STACK);
    // SAFETY: the new stack is mapped and nobody else's; `go` never returns, and `boot` stays where it
    // is, on the old one.
    unsafe {
        core::arch::asm!("mov rsp, {top}", "xor ebp, ebp", "call {go}", "ud2", top = in(reg) top,
            go = sym go, in("rdi") core::ptr::from_ref(boot), options(noreturn))
    }
}

fn start(boot: &Boot) -> ! {
    match virt::check() {
        Ok(Vendor::Svm) => run_on::<Svm>(boot),
        Ok(Vendor::Vmx) => give_up("VT-x is not built in yet"),
        Err(missing) => {
            log::error!("cannot run guests: {missing}");
            power::stop(Code::Unusable)
        }
    }
}

fn give_up(why: &str) -> ! {
    log::error!("cannot run guests: {why}");
    power::stop(Code::Unusable)
}

fn run_on<B: Backend>(boot: &Boot) -> ! {
    let files = files(boot);
    let configs: Vec<&Entry> = files
        .iter()
        .filter(|file| file.name.starts_with("guests/") && file.name.ends_with(".cfg"))
        .collect();
    if configs.is_empty() {
        log::info!("no guests ({} boot modules)", boot.modules.len());
        power::stop(Code::Clean)
    }
    let mut domains = Vec::new();
    let mut next_cpu = 0;
    for (index, entry) in configs.iter().enumerate() {
        match build::<B>(index + 1, entry, &files, &mut next_cpu) {
            Ok(domain) => domains.push(domain),
            Err(why) => log::error!("{}: {why}", entry.name),
        }
    }
    if domains.is_empty() {
        power::stop(Code::GuestFailed)
    }
    sched::run(domains)
}

/// The files of all boot modules that are archives.
fn files(boot: &Boot) -> Vec<Entry> {
    let mut files = Vec::new();
    for module in &boot.modules {
        let start = mem::phys_to_virt(mem::Phys(module.start));
        let bytes = (module.end - module.start) as usize;
        // SAFETY: the loader's module: RAM that is reserved for ever and that nobody writes.
        let bytes = unsafe { core::slice::from_raw_parts(start, bytes) };
        match archive::entries(bytes) {
            Ok(entries) => files.extend(entries),
            Err(why) => log::warn!("boot module {}: {why}", module.command_line),
        }
    }
    files
}

/// What of a configuration is used to build a guest.
struct Guest {
    name: String,
    memory: u64,
    vcpus: usize,
    disks: [Option<(Drive, Medium)>; SLOTS],
    boot: Vec<BootDevice>,
    firmware: Option<&'static [u8]>,
    actions: Actions,
}

/// Reads `key = value` lines of the few keys that this needs. Replaced by `machine::config`.
fn read(entry: &Entry, files: &[Entry]) -> Result<Guest, String> {
    let text = core::str::from_utf8(entry.bytes).map_err(|_| "not UTF-8")?;
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim().trim_matches(['"', '\'']).to_string())
        })
    };
    let number = |key: &str, default: u64| {
        value(key).map_or(Ok(default), |v| v.parse().map_err(|_| key.to_string()))
    };
    let mut disks = [const { None }; SLOTS];
    let list = text.split_once("disk").map_or("", |(_, rest)| rest);
    let list = list.split_once('[').map_or("", |(_, rest)| rest);
    let list = list.split_once(']').map_or("", |(list, _)| list);
    for spec in list.split(['"', '\'']).filter(|part| part.contains("module:")) {
        let mut words = spec.split(',').map(str::trim);
        let name = words.next().and_then(|w| w.strip_prefix("module:")).unwrap_or("");
        let rest: Vec<&str> = words.collect();
        let vdev = rest.iter().find(|w| w.starts_with("hd") || w.starts_with("fd"));
        let vdev = vdev.copied().unwrap_or("hda");
        let file = files.iter().find(|f| f.name == name).ok_or("no such module")?;
        let cdrom = rest.iter().any(|w| w.contains("cdrom"));
        let read_only = cdrom || rest.contains(&"r");
        let slot = match vdev.split(':').next().unwrap_or("") {
            "hda" => 0,
            "hdb" => 1,
            "hdc" => 2,
            "hdd" => 3,
            "fda" => 4,
            "fdb" => 5,
            other => return Err(alloc::format!("unknown drive {other}")),
        };
        let module =
            Module::new(mem::virt_to_phys(file.bytes.as_ptr()), file.bytes.len() as u64, read_only);
        let sectors = module.sectors();
        let drive = if slot >= 4 {
            let geometry = geometry_of_image(sectors).ok_or("no floppy format of that size")?;
            let mut media = Media::disk(sectors, "");
            media.geometry = geometry;
            media.removable = true;
            Drive::Floppy(DriveType::of_geometry(geometry), Some(media))
        } else if cdrom {
            Drive::Cdrom(Some(Media::cdrom(sectors.div_ceil(4) as u32)))
        } else {
            Drive::Disk(Media::disk(sectors, "XENOLITH"))
        };
        disks[slot] = Some((drive, Medium::Module(module)));
    }
    let letters = value("boot").unwrap_or_else(|| "cda".to_string());
    let boot = letters
        .chars()
        .filter_map(|letter| match letter {
            'a' => Some(BootDevice::Floppy),
            'c' => Some(BootDevice::Hard),
            'd' => Some(BootDevice::Cd),
            _ => None,
        })
        .collect();
    let action = |key: &str, default| match value(key).as_deref() {
        Some("destroy") => Action::Destroy,
        Some("restart") => Action::Restart,
        Some("preserve") => Action::Preserve,
        _ => default,
    };
    let firmware = match value("firmware").as_deref() {
        None | Some("xenolith") => None,
        Some(name) => {
            let file = files.iter().find(|f| f.name == name).ok_or("no such firmware module")?;
            Some(file.bytes)
        }
    };
    Ok(Guest {
        name: value("name").unwrap_or_else(|| "guest".to_string()),
        memory: number("memory", 256)? << 20,
        vcpus: number("vcpus", 1)? as usize,
        disks,
        boot,
        firmware,
        actions: Actions {
            poweroff: action("on_poweroff", Action::Destroy),
            reboot: action("on_reboot", Action::Restart),
            crash: action("on_crash", Action::Destroy),
        },
    })
}

/// Builds one guest.
fn build<B: Backend>(
    id: usize,
    entry: &Entry,
    files: &[Entry],
    next_cpu: &mut usize,
) -> Result<Box<Domain<B>>, String> {
    let guest = read(entry, files)?;
    let rom: &[u8] = guest.firmware.unwrap_or(&bios::ROM);
    let frames = Frames::new(guest.memory, VRAM, rom).ok_or("not enough memory")?;
    let mut drives = [None; SLOTS];
    let mut disks = [const { None }; SLOTS];
    for (slot, disk) in guest.disks.into_iter().enumerate() {
        if let Some((drive, medium)) = disk {
            drives[slot] = Some(drive);
            disks[slot] = Some(medium);
        }
    }
    let machine = Machine::new(MachineConfig {
        ram: frames.ram(),
        vram: frames.vram(),
        firmware: guest.firmware.map(|_| frames.rom()),
        vcpus: guest.vcpus,
        host_cpuid: |leaf, subleaf| {
            let found = raw_cpuid::cpuid!(leaf, subleaf);
            [found.eax, found.ebx, found.ecx, found.edx]
        },
        clock: Clock::new(tsc::now(), tsc::hz() / 1000),
        wall_clock: WallClock::from_unix(crate::cpu::wall::unix_seconds()),
        drives,
        bios: BiosConfig { boot_order: guest.boot, ..BiosConfig::default() },
    });
    let slat = Slat::new(B::format()?, &mut Store).map_err(|_| "no memory for page tables")?;
    let mut slots = Vec::new();
    for index in 0..guest.vcpus {
        let vcpu = B::new_vcpu(slat.root()).ok_or("no memory for a vCPU")?;
        let cpu = Cpu::new(index, machine.physical_bits());
        let home = *next_cpu % percpu::count().max(1);
        *next_cpu += 1;
        slots.push(Slot {
            task: Mutex::new(Task { vcpu, cpu, fpu: fpu::Area::default() }),
            home,
            woken: AtomicBool::new(true),
            running: AtomicBool::new(false),
            flush: AtomicBool::new(false),
        });
    }
    let parts =
        Parts { id, name: guest.name, machine, frames, actions: guest.actions, slat, slots, disks };
    Ok(Box::new(Domain::new(parts)))
}
