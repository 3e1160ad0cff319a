//! The first instructions: from a loader's 32-bit protected mode to Rust in long mode.
//! Both entries leave "who called" in EDI and the loader's structure in ESI, zero `.bss`, map the
//! first 4 GiB twice (identity and direct map) and call `rust_start`. Read next: `boot/mod.rs`.

// UNSAFETY: this is assembly that runs before there is a stack or a page table.

use core::arch::global_asm;

/// What the PVH entry passes as its magic: `XEN_HVM_START_MAGIC_VALUE`.
pub const PVH_MAGIC: u32 = 0x336e_c578;

global_asm!(
    r#"
    // Multiboot2 specification, "OS image format": magic, architecture, length, checksum, tags.
    .section .boot.header, "a"
    .balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0
    .long multiboot2_header_end - multiboot2_header
    .long 0x100000000 - (0xe85250d6 + multiboot2_header_end - multiboot2_header)
    // Framebuffer, optional: 1024x768, 32 bits. `set gfxpayload=text` in grub.cfg overrides it, but
    // only after the multiboot2 command, which sets the variable from this tag.
    .balign 8
    .word 5, 1
    .long 20
    .long 1024, 768, 32
    // Modules start on page boundaries.
    .balign 8
    .word 6, 0
    .long 8
    .balign 8
    .word 0, 0
    .long 8
multiboot2_header_end:

    // Xen PVH: XEN_ELFNOTE_PHYS32_ENTRY (18).
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_start

    .section .boot.text, "ax", @progbits
    .code32
    .global multiboot2_start
    .global pvh_start
pvh_start:
    movl ${pvh_magic}, %eax
multiboot2_start:
    cli
    cld
    movl %eax, %ebp
    movl %ebx, %esi
    movl $__bss_start, %edi
    movl $__image_end, %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    xorl %eax, %eax
    rep stosl
    movl $__boot_stack_top, %esp

    // A 64-bit CPU? APM3 E.4 "Extended Function CPUIDs": 8000_0001h EDX bit 29.
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc no_long_mode
    movl %edx, %ebx

    // PML4[0] and PML4[256] to one PDPT, four page directories of 2 MiB pages.
    movl $boot_pdpt + 3, boot_pml4
    movl $boot_pdpt + 3, boot_pml4 + 256 * 8
    movl $boot_pds + 3, %eax
    movl $boot_pdpt, %edi
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    movl $0x83, %eax
    movl $boot_pds, %edi
    movl $2048, %ecx
2:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 2b

    // PAE, and nothing of what firmware may have left on: LA57 would add a level to our tables, CET
    // would miss its shadow stack.
    movl $0x20, %eax
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl %ebx, %edi
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax            // LME
    btl $20, %edi               // NX present?
    jnc 3f
    orl $0x800, %eax            // NXE
3:  wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax      // CD, NW off
    orl $0x80010001, %eax       // PG, WP, PE
    movl %eax, %cr0
    lgdt boot_gdtr
    ljmp $0x08, $boot64

no_long_mode:
    // To COM1 and, white on red, to the text screen, should either be there.
    movl $no_long_mode_text, %esi
    movl $0xb8000, %edi
4:  movl $0x3fd, %edx
    movl $0x10000, %ecx
5:  inb %dx, %al
    testb $0x20, %al
    loopz 5b
    movl $0x3f8, %edx
    lodsb
    testb %al, %al
    jz 6f
    outb %al, %dx
    cmpb $0x20, %al
    jb 4b
    movb $0x4f, %ah
    stosw
    jmp 4b
6:  cli
    hlt
    jmp 6b

    .code64
boot64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $__boot_stack_top, %esp
    movl %ebp, %edi
    movl %esi, %esi
    xorl %ebp, %ebp
    call rust_start
7:  cli
    hlt
    jmp 7b

    .section .rodata.boot, "a"
    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdtr:
    .word 23
    .long boot_gdt
    .long 0
no_long_mode_text:
    .asciz "\r\nXenolith needs a 64-bit CPU; this one has no long mode.\r\n"

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pds:
    .skip 4 * 4096
    .text
    "#,
    pvh_magic = const PVH_MAGIC,
    options(att_syntax)
);
