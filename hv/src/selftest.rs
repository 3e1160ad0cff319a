//! `selftest=WORD` on the command line: checks of the core on the machine itself, for the boot
//! suite. `all` runs what returns; `fault`, `stack`, `panic` and `nmi` show how the end looks.

// UNSAFETY: breaks things on purpose.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::power::{self, Code};
use crate::cpu::{apic, idle, percpu, smp, timer, tsc};
use crate::drivers::block::{self, Op, Segment};
use crate::mem::frames::{self, Block};
use crate::mem::{layout, phys_to_virt, zero};

/// Runs what `selftest=` names and stops; returns at once without it.
pub fn run() {
    let Some(what) = crate::config::get("selftest") else { return };
    match what {
        "fault" => {
            let nowhere = core::ptr::with_exposed_provenance_mut::<u64>(0x10);
            // SAFETY: not at all: nothing is mapped there, and that is the test.
            unsafe { nowhere.write_volatile(1) };
        }
        "text" => {
            let code = core::ptr::with_exposed_provenance_mut::<u8>(run as *const () as usize);
            // SAFETY: not at all: code is read-only, and that is the test.
            unsafe { code.write_volatile(0xcc) };
        }
        "stack" => log::info!("{}", overflow(1)),
        "panic" => panic!("asked for by selftest=panic"),
        "nmi" => apic::send(percpu::this().apic_id(), apic::Ipi::Nmi),
        "echo" => echo(),
        _ => {}
    }
    timers();
    wakeups();
    memory();
    disks();
    log::info!("selftest passed");
    power::stop(Code::Clean)
}

#[expect(unconditional_recursion, reason = "runs into the guard page, which is the test")]
fn overflow(n: u64) -> u64 {
    let room = core::hint::black_box([n; 512]);
    overflow(n + 1) + room[n as usize & 511]
}

/// Sends back what comes in on COM1 and says what the keyboard sends, up to a `q`.
fn echo() {
    use crate::drivers::{ps2, serial::COM1};
    loop {
        idle(|| !COM1.has_input());
        while let Some(byte) = COM1.read() {
            COM1.write_raw(&[byte]);
            if byte == b'q' {
                return;
            }
        }
        while let Some(code) = ps2::read_keyboard() {
            log::info!("key {code:02x}");
        }
    }
}

static FIRED: AtomicU64 = AtomicU64::new(0);

fn timers() {
    timer::set_handler(|_| {
        FIRED.store(tsc::now(), Ordering::Release);
    });
    for us in [100, 1_000, 20_000] {
        FIRED.store(0, Ordering::Release);
        let due = tsc::now() + tsc::from_ns(us * 1000);
        timer::arm(due);
        while FIRED.load(Ordering::Acquire) == 0 {
            idle(|| FIRED.load(Ordering::Acquire) == 0);
        }
        let fired = FIRED.load(Ordering::Acquire);
        let (early, late) = (due.saturating_sub(fired), fired.saturating_sub(due));
        log::info!(
            "timer of {us} us: {} ns early, {} ns late",
            tsc::to_ns(early),
            tsc::to_ns(late)
        );
        assert!(tsc::to_ns(early) < 20_000, "a timer fired too early");
    }
}

fn wakeups() {
    for cpu in percpu::all().filter(|cpu| cpu.id != percpu::this().id) {
        let before = cpu.interrupts.load(Ordering::Acquire);
        let start = tsc::now();
        smp::kick(cpu.id);
        while cpu.interrupts.load(Ordering::Acquire) == before {
            assert!(tsc::to_ns(tsc::now() - start) < 1_000_000_000, "a CPU does not wake");
            core::hint::spin_loop();
        }
        log::info!("kick of CPU {}: {} ns", cpu.id, tsc::to_ns(tsc::now() - start));
    }
}

fn memory() {
    let before = frames::stats().free;
    let page = frames::alloc(Block::Page).expect("a page");
    let large = frames::alloc(Block::Large).expect("a large page");
    let run = frames::alloc_contiguous(10 << 20, layout::LARGE).expect("10 MiB");
    assert!(large.is_aligned(layout::LARGE) && run.is_aligned(layout::LARGE));
    zero(run, 10 << 20);
    frames::free(page, Block::Page);
    frames::free(large, Block::Large);
    frames::free_contiguous(run, 10 << 20);
    assert_eq!(frames::stats().free, before);
    drop(alloc::vec![1u8; 5 << 20]);
}

/// Reads the first 64 KiB of each disk, and writes the first sectors back where writing is allowed.
fn disks() {
    for (number, info) in (0..).map_while(|n| Some((n, block::info(n)?))) {
        let bytes = (info.sectors * block::SECTOR).min(64 << 10) as u32;
        if bytes == 0 {
            continue;
        }
        let start = frames::alloc_contiguous(64 << 10, 4096).expect("64 KiB");
        let segment = Segment { start, bytes };
        let begin = tsc::now();
        block::transfer(number, Op::Read, 0, segment).expect("reading a disk");
        let ns = tsc::to_ns(tsc::now() - begin);
        // SAFETY: frames of our own that the disk has filled.
        let data = unsafe { core::slice::from_raw_parts(phys_to_virt(start), bytes as usize) };
        let sum = data.iter().fold(0u32, |sum, &b| sum.rotate_left(5) ^ u32::from(b));
        log::info!("disk {number}: {bytes} bytes in {} us, sum {sum:08x}", ns / 1000);
        if !info.read_only {
            let segment = Segment { start, bytes: bytes.min(4096) };
            block::transfer(number, Op::Write, 0, segment).expect("writing a disk");
            block::transfer(number, Op::Flush, 0, segment).expect("flushing a disk");
        }
        frames::free_contiguous(start, 64 << 10);
    }
}
