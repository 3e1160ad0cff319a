//! What does one exit cost? Times single operations by the TSC, which counts instructions in Bochs
//! and under QEMU's `-icount shift=0`. Each line `@bench-op NAME TOTAL GUEST` has the median of the
//! ticks of one operation and the guest instructions in it; the rest is the hypervisor's.
//!
//! Boot it as a disk to have INT 13h and IDE measured, with a CD for ATAPI, with two CPUs for IPIs.

#![no_std]
#![no_main]

mod interrupts;
mod media;
mod processors;
mod sample;
mod xen;

use sample::{Bench, op, skip};
use support::{acpi, apic, bios, cpu, guest, mem, pci};

guest!("bench", main);

fn main() {
    let mut bench = Bench::new();
    instructions(&mut bench);
    ports(&mut bench);
    memory(&mut bench);
    local_apic(&mut bench);
    interrupts::all(&mut bench);
    media::all(&mut bench);
    xen::all(&mut bench);
    if apic::has_x2() {
        apic::enter_x2();
        x2apic(&mut bench);
        interrupts::x2(&mut bench);
        apic::leave_x2();
    } else {
        for name in
            ["lapic_read_x2apic", "eoi_x2apic", "x2apic_self_ipi_sti_nop", "x2apic_self_ipi"]
        {
            skip(name, "no x2APIC");
        }
    }
    processors::all(&mut bench);
}

fn instructions(bench: &mut Bench) {
    bench.fixed(
        "cpuid",
        4,
        |_| op!("mov r9, rbx", "xor eax, eax", "cpuid", "mov rbx, r9"; out("r9") _),
    );
    hypercall(bench);
    bench.fixed("rdmsr_apicbase", 2, |_| op!("mov ecx, 0x1b", "rdmsr";));
    let base = cpu::rdmsr(0x1b);
    bench.fixed("wrmsr_apicbase", 4, |_| {
        op!("mov ecx, 0x1b", "mov eax, r9d", "mov edx, r10d", "wrmsr";
            in("r9") base, in("r10") base >> 32)
    });
    bench.fixed("rdmsr_efer", 2, |_| op!("mov ecx, 0xc0000080", "rdmsr";));
    bench.fixed(
        "wr_kernel_gs_base_msr",
        4,
        |_| op!("mov ecx, 0xc0000102", "xor eax, eax", "xor edx, edx", "wrmsr";),
    );
    if cpu::cpuid(0, 0)[0] >= 7 && cpu::cpuid(7, 0)[1] & 2 != 0 {
        bench.fixed(
            "wr_tsc_adjust_msr",
            4,
            |_| op!("mov ecx, 0x3b", "xor eax, eax", "xor edx, edx", "wrmsr";),
        );
    } else {
        skip("wr_tsc_adjust_msr", "no TSC_ADJUST");
    }
    bench.fixed("mov_from_cr8", 1, |_| op!("mov rax, cr8";));
    bench.fixed("mov_to_cr8", 2, |_| op!("xor eax, eax", "mov cr8, rax";));
    let (cr0, cr4) = (cpu::cr0(), cpu::cr4());
    bench.fixed(
        "toggle_cr0_wp",
        2,
        |_| op!("mov cr0, r9", "mov cr0, r10"; in("r9") cr0 ^ 0x1_0000, in("r10") cr0),
    );
    bench.fixed(
        "toggle_cr4_pge",
        2,
        |_| op!("mov cr4, r9", "mov cr4, r10"; in("r9") cr4 ^ 0x80, in("r10") cr4),
    );
}

/// XENVER_version (xen/include/public/version.h) and VCPUOP_is_up (xen/include/public/vcpu.h), where the hypervisor speaks
/// Xen's interface. Neither has an argument in memory; the first is what kernels call for nothing but an exit.
fn hypercall(bench: &mut Bench) {
    let [_, b, c, d] = cpu::cpuid(0x4000_0000, 0);
    let name = [b, c, d].map(u32::to_le_bytes);
    if name.as_flattened() != b"XenVMMXenVMM" {
        return ["vmcall", "vmcall_is_up"].iter().for_each(|name| skip(name, "no hypercalls"));
    }
    // VMMCALL on AMD's processors, VMCALL on Intel's.
    if cpu::cpuid(0, 0)[2] == u32::from_le_bytes(*b"ntel") {
        bench.fixed("vmcall", 4, |_| {
            op!("mov eax, 17", "xor edi, edi", "xor esi, esi", "vmcall"; out("rdi") _, out("rsi") _)
        });
        bench.fixed("vmcall_is_up", 4, |_| {
            op!("mov eax, 24", "mov edi, 3", "xor esi, esi", "vmcall"; out("rdi") _, out("rsi") _)
        });
    } else {
        bench.fixed("vmcall", 4, |_| {
            op!("mov eax, 17", "xor edi, edi", "xor esi, esi", "vmmcall"; out("rdi") _, out("rsi") _)
        });
        bench.fixed("vmcall_is_up", 4, |_| {
            op!("mov eax, 24", "mov edi, 3", "xor esi, esi", "vmmcall"; out("rdi") _, out("rsi") _)
        });
    }
}

fn ports(bench: &mut Bench) {
    match acpi::pm_timer() {
        Some(port) => {
            let port = u64::from(port);
            bench.fixed("inl_from_pmtimer", 2, |_| op!("mov edx, r9d", "in eax, dx"; in("r9") port));
            // It can only be read: the write goes nowhere.
            bench.fixed(
                "outl_to_pmtimer",
                3,
                |_| op!("mov edx, r9d", "xor eax, eax", "out dx, eax"; in("r9") port),
            );
        }
        None => ["inl_from_pmtimer", "outl_to_pmtimer"].iter().for_each(|name| skip(name, "no FADT")),
    }
    let mut read = |name, port: u64| {
        bench.fixed(name, 2, |_| op!("mov edx, r9d", "in al, dx"; in("r9") port));
    };
    read("pic_mask_read", 0x21);
    read("pit_read", 0x40);
    read("uart_lsr_read", 0x3fd);
    read("port80_read", 0x80);
    let mut write =
        |name, port: u64, value: u64| {
            bench.fixed(name, 3, |_| {
            op!("mov edx, r9d", "mov eax, r10d", "out dx, al"; in("r9") port, in("r10") value)
        });
        };
    write("pic_mask_write", 0x21, 0xff);
    // A count for channel 2, whose gate is closed.
    write("pit_write", 0x42, 0);
    write("uart_scratch_write", 0x3ff, 0x5a);
    write("port80_write", 0x80, 0x5a);
    bench.fixed("pci_config_read", 5, |_| {
        op!("mov edx, 0xcf8", "mov eax, 0x80000000", "out dx, eax", "mov edx, 0xcfc", "in eax, dx";)
    });
    if pci::all().next().is_none() {
        skip("pci_config_read", "measured, but there is no PCI");
    }
}

/// Memory above 16 MiB in bytes, by INT 15h AX=E801h.
fn above_16_mib() -> usize {
    let mut regs = bios::Regs::ax(0xe801);
    bios::int(0x15, &mut regs);
    let blocks = if regs.ebx & 0xffff != 0 { regs.ebx } else { regs.edx };
    if regs.carry() { 0 } else { (blocks & 0xffff) as usize * 0x1_0000 }
}

fn memory(bench: &mut Bench) {
    bench.fixed(
        "vga_text_cell_write",
        1,
        |_| op!("mov word ptr [r9], 0x0720"; in("r9") 0xb_8f00u64),
    );
    let room = above_16_mib();
    if room < 36 << 20 {
        skip("first_touch_4k", "needs 52 MiB of memory");
        skip("first_touch_2m", "needs 52 MiB of memory");
        return;
    }
    // The pages behind the first of a large page, then the first of each large page.
    let start = 0x100_0000;
    mem::write(start, 1u8);
    bench.times(
        "first_touch_4k",
        1,
        64,
        |n| op!("mov byte ptr [r9], 1"; in("r9") start + (n + 1) * 4096),
    );
    bench.times(
        "first_touch_2m",
        1,
        16,
        |n| op!("mov byte ptr [r9], 1"; in("r9") start + (n + 1) * 0x20_0000),
    );
}

fn local_apic(bench: &mut Bench) {
    apic::enable();
    let base = apic::BASE as u64;
    bench.fixed("lapic_read_xapic", 1, |_| op!("mov eax, [r9 + 0x20]"; in("r9") base));
    bench.fixed("lapic_tpr_write_xapic", 1, |_| op!("mov dword ptr [r9 + 0x80], 0"; in("r9") base));
    bench.fixed("eoi_xapic", 1, |_| op!("mov dword ptr [r9 + 0xb0], 0"; in("r9") base));
    bench.fixed(
        "ioapic_read",
        2,
        |_| op!("mov dword ptr [r9], 1", "mov eax, [r9 + 0x10]"; in("r9") apic::IO_BASE as u64),
    );
}

fn x2apic(bench: &mut Bench) {
    bench.fixed("lapic_read_x2apic", 2, |_| op!("mov ecx, 0x802", "rdmsr";));
    bench.fixed(
        "eoi_x2apic",
        4,
        |_| op!("mov ecx, 0x80b", "xor eax, eax", "xor edx, edx", "wrmsr";),
    );
}
