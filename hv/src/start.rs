//! From the entry code to `launch::run`, step by step.

// UNSAFETY: called from assembly, and hands out the boot CPU's first stacks.

use core::sync::atomic::Ordering;

use hv::boot::{Boot, BootError, Screen, entry::PVH_MAGIC, multiboot, pvh};
use hv::cpu::percpu::{self, PerCpu};
use hv::cpu::power::{self, Code};
use hv::cpu::virt::Vendor;
use hv::cpu::{acpi, apic, idt, ioapic, irq, smp, timer, tsc, virt};
use hv::drivers::{control, screen, serial};
use hv::mem::{self, PhysReader, frames, paging};
use hv::{config, cpu, launch};

static BOOT_CPU: PerCpu = PerCpu::new(0);

/// Interrupt stacks until there are guarded ones.
#[repr(C, align(16))]
struct EarlyStacks([[u8; 8192]; 3]);
static mut EARLY_STACKS: EarlyStacks = EarlyStacks([[0; 8192]; 3]);

#[unsafe(no_mangle)]
extern "C" fn rust_start(magic: u32, info: u32) -> ! {
    tsc::start();
    percpu::set_gs(&BOOT_CPU);
    serial::COM1.init();
    serial::COM2.init();
    let base = (&raw const EARLY_STACKS).expose_provenance() as u64;
    // SAFETY: this CPU's own tables and stacks; no other CPU runs.
    unsafe { BOOT_CPU.tables.set_stacks([1, 2, 3].map(|n| base + n * 8192)) };
    // SAFETY: as above; the tables are static.
    unsafe { BOOT_CPU.tables.load() };
    idt::init();
    idt::load();
    percpu::publish(&BOOT_CPU);

    let boot = read_boot(magic, info);
    screen::early(boot.as_ref().map_or(Screen::Unknown, |boot| boot.screen));
    let line = boot.as_ref().map_or("", |boot| boot.command_line.as_str());
    config::init(line);
    control::init();
    hv::log::init(config::get("loglevel"));
    log::info!("Xenolith {}, a hypervisor", env!("CARGO_PKG_VERSION"));
    let boot = match &boot {
        Ok(boot) => boot,
        Err(error) => give_up(format_args!("the boot loader's fault: {error}")),
    };
    log::info!("started by {:?}; command line: {line}", boot.loader);
    memory(boot);
    launch::on_large_stack(boot, with_memory)
}

/// The boot's second part, with memory and a stack that has room for all that follows.
extern "C" fn with_memory(boot: &Boot) -> ! {
    processors(boot);
    let vendor = match virt::check() {
        Ok(Vendor::Svm) => "svm",
        Ok(Vendor::Vmx) => "vmx",
        Err(missing) => give_up(format_args!("{missing}")),
    };
    let (cpus, mib) = (percpu::count(), frames::stats().total >> 20);
    control::send(format_args!("@hello xenolith 1 {vendor} {cpus} {mib}"));
    hv::drivers::init();
    hv::selftest::run();
    launch::run(boot)
}

/// Ends with the one message that says why no guest can run here.
fn give_up(why: core::fmt::Arguments<'_>) -> ! {
    log::error!("Xenolith cannot run guests on this machine: {why}.");
    power::stop(Code::Unusable)
}

fn read_boot(magic: u32, info: u32) -> Result<Boot, BootError> {
    match magic {
        PVH_MAGIC => pvh::parse(&PhysReader, info.into(), magic),
        multiboot2::MAGIC => {
            let at = mem::phys_to_virt(mem::Phys(info.into()));
            // SAFETY: the loader put its structure there, below 4 GiB, which is mapped.
            let info = unsafe { multiboot2::BootInformation::load(at.cast()) };
            multiboot::parse(&info.map_err(|_| BootError::BadStructure)?)
        }
        _ => Err(BootError::UnknownMagic(magic)),
    }
}

fn memory(boot: &Boot) {
    let image = hv::image().expect("the linker script names the image's parts");
    frames::init(boot, (image.start, image.end));
    let features = cpu::paging_features();
    paging::init(boot, &image, features.huge_pages, features.nx);
    // SAFETY: the tables map the image, this stack and the direct map.
    unsafe { paging::load() };
    // The first mapping of the screen is gone; nothing is logged before this.
    screen::init(boot);
    cpu::enable_features();
    // SAFETY: this CPU's own tables; the new stacks have guard pages.
    unsafe { BOOT_CPU.tables.set_stacks(smp::interrupt_stacks()) };
    let stats = frames::stats();
    let (mib, kib) = (stats.free >> 20, (image.end - image.start) >> 10);
    log::info!("{mib} MiB of memory free, image {kib} KiB, {features:?}");
}

fn processors(boot: &Boot) {
    let platform = match acpi::init(boot.acpi) {
        Ok(platform) => platform,
        Err(error) => give_up(format_args!("its ACPI tables cannot be read: {error:?}")),
    };
    if platform.io_apics.is_empty() {
        give_up(format_args!("it has no I/O APIC"));
    }
    apic::init(platform.local_apic);
    apic::enable();
    ioapic::init(platform);
    let Some(source) = tsc::calibrate(platform) else {
        give_up(format_args!("nothing tells how fast its time-stamp counter runs"));
    };
    irq::register(irq::APIC_ERROR, apic_error, 0);
    irq::register(irq::KICK, |_| hv::domain::window::catch_up(), 0);
    irq::register(irq::POSTED, |_| {}, 0);
    let mode = timer::init();
    timer::init_cpu();
    // SAFETY: IDT, APICs and stacks are in place.
    unsafe { x86::irq::enable() };
    let limit = config::get("cpus").and_then(|n| n.parse().ok()).unwrap_or(percpu::MAX_CPUS);
    let up = smp::start_all(&platform.cpus, limit);
    let (khz, kind) = (tsc::hz() / 1000, if apic::is_x2apic() { "x2APIC" } else { "xAPIC" });
    log::info!(
        "{up} of {} CPUs up, {kind}, TSC {khz} kHz ({source:?}), timer {mode:?}",
        platform.cpus.len() + platform.cpus_left_out
    );
}

fn apic_error(_: usize) {
    let id = percpu::this().apic_id.load(Ordering::Relaxed);
    log::warn!("local APIC {id} reports error {:#x}", apic::take_errors());
}
