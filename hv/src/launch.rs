//! From boot modules to running guests: finds configurations and media, builds the domains, starts them.

// UNSAFETY: boot modules are read as slices; the boot CPU changes to a larger stack.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use machine::config::GuestConfig;

use crate::archive::{self, Entry};
use crate::boot::Boot;
use crate::cpu::power::{self, Code};
use crate::cpu::virt::{self, Vendor};
use crate::domain::backend::{Backend, Svm, Vmx};
use crate::domain::build::{self, Builder};
use crate::domain::{fpu, sched};
use crate::mem::{self, paging};
use crate::monitor::channel;

/// Bytes of the boot CPU's stack once there is memory: a board passes through it by value.
const STACK: u64 = 2 << 20;

/// Goes on with `go` on a stack of [`STACK`] bytes, with a guard page below. Memory is set up; `boot` stays where it is, on the
/// old stack.
pub fn on_large_stack(boot: &Boot, go: extern "C" fn(&Boot) -> !) -> ! {
    let top = paging::alloc_stack(STACK);
    // SAFETY: the new stack is mapped and nobody else's; `go` never returns, and the old stack is kept.
    unsafe {
        core::arch::asm!("mov rsp, {top}", "xor ebp, ebp", "call {go}", "ud2", top = in(reg) top,
            go = in(reg) go, in("rdi") core::ptr::from_ref(boot), options(noreturn))
    }
}

/// Runs what the command line and the modules ask for; ends the machine when all is over.
pub fn run(boot: &Boot) -> ! {
    match virt::check() {
        Ok(Vendor::Svm) => run_on::<Svm>(boot),
        Ok(Vendor::Vmx) => run_on::<Vmx>(boot),
        Err(missing) => give_up(format_args!("{missing}")),
    }
}

fn give_up(why: core::fmt::Arguments<'_>) -> ! {
    log::error!("cannot run guests: {why}");
    power::stop(Code::Unusable)
}

fn run_on<B: Backend>(boot: &Boot) -> ! {
    let files = files(boot);
    if !files.iter().any(is_config) {
        log::info!("no guests ({} boot modules)", boot.modules.len());
        power::stop(Code::Clean)
    }
    fpu::init_cpu();
    machine::insn::decode::prepare();
    let cpu = match B::enable(0) {
        Ok(cpu) => cpu,
        Err(why) => give_up(format_args!("{why}")),
    };
    let configs = configs(&files);
    let mut builder = Builder::<B>::new(&cpu, &files);
    let (mut domains, mut built) = (Vec::new(), Vec::new());
    for config in &configs {
        if let Some(why) = unserved(config, &configs).or_else(|| clash(config, &built)) {
            refuse(&config.name, format_args!("{}: {why}", config.name));
            continue;
        }
        let before = mem::in_use();
        match builder.build(domains.len() + 1, config) {
            Ok(domain) => {
                let domain = Box::new(domain);
                let own = mem::in_use().saturating_sub(before + domain.frames.bytes());
                domain.overhead.store(own, Ordering::Relaxed);
                domains.push(domain);
                built.push(config);
            }
            Err(why) => refuse(&config.name, format_args!("{}: {why}", config.name)),
        }
    }
    if domains.is_empty() {
        log::error!("no guest could be built");
        power::stop(Code::GuestFailed)
    }
    sched::run(domains, files, cpu)
}

/// Tells of a guest that will not run.
fn refuse(name: &str, why: core::fmt::Arguments<'_>) {
    log::error!("{why}");
    channel::refused(name, why);
}

fn is_config(file: &Entry) -> bool {
    file_stem(&file.name).is_some()
}

/// The NAME of `guests/NAME.cfg`.
fn file_stem(name: &str) -> Option<&str> {
    name.strip_prefix("guests/")?.strip_suffix(".cfg")
}

/// The guests' configurations that can be read; what is wrong with the others is logged.
fn configs(files: &[Entry]) -> Vec<GuestConfig> {
    let mut configs: Vec<GuestConfig> = Vec::new();
    for entry in files {
        let Some(name) = file_stem(&entry.name) else { continue };
        let Ok(text) = core::str::from_utf8(entry.bytes) else {
            refuse(name, format_args!("{}: not UTF-8 text", entry.name));
            continue;
        };
        match GuestConfig::parse(&entry.name, text) {
            Ok(config) if configs.iter().any(|other| other.name == config.name) => {
                refuse(name, format_args!("{}: name: another guest has it", entry.name));
            }
            Ok(config) => configs.push(config),
            Err(error) => refuse(name, format_args!("{error}")),
        }
    }
    configs
}

/// Why one of a guest's devices cannot be served by the guest that its configuration names.
fn unserved(config: &GuestConfig, all: &[GuestConfig]) -> Option<String> {
    let serves =
        |name: &str| name != config.name && all.iter().any(|other| other.name == name && other.xen);
    let (key, name) = config.backends().find(|(_, name)| !serves(name))?;
    let mut others = all.iter().filter(|other| other.name != config.name && other.xen);
    let first = others.next().map_or("none", |other| other.name.as_str());
    let names = others.fold(String::from(first), |names, other| names + ", " + &other.name);
    Some(format!(
        "{key}: backend={name}: not another guest that finds Xen's interface; there are: {names}"
    ))
}

/// Why a guest cannot run beside one of those that are built.
fn clash(config: &GuestConfig, built: &[&GuestConfig]) -> Option<String> {
    built.iter().find_map(|other| {
        let number = config.contends(other, build::disk_number)?;
        Some(format!(
            "disk: {} has host disk {number}, too, and one of them writes to it: give both mode r",
            other.name
        ))
    })
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
