use super::*;
use core::sync::atomic::AtomicU64;
use std::vec::Vec;

const RAM: usize = 0x10000;
const ROOT: u64 = 0x1000;
const RX: u64 = P | A;
const RW: u64 = P | W | U | A | D;
const LONG_CR0: u64 = cr0::PG | cr0::PE | cr0::WP;
const LONG_EFER: u64 = efer::LMA | efer::LME | efer::NXE;

fn ram() -> GuestRam {
    let cells: Vec<AtomicU64> = (0..RAM / 8).map(|_| AtomicU64::new(0)).collect();
    GuestRam::new(Vec::leak(cells), &[])
}

fn put(ram: &GuestRam, table: u64, index: u64, entry: u64) {
    ram.write_u64(GuestPhys(table + index * 8), entry).unwrap();
}

fn put32(ram: &GuestRam, table: u64, index: u64, entry: u64) {
    ram.write_u32(GuestPhys(table + index * 4), entry as u32).unwrap();
}

fn long(cr4: u64) -> Paging {
    Paging::new(LONG_CR0, ROOT, cr4 | cr4::PAE, LONG_EFER, 0, 40)
}

/// Tables at 1000h to 4000h for linear 0 to 2 MiB; the page table is at 4000h.
fn four_levels() -> GuestRam {
    let ram = ram();
    put(&ram, ROOT, 0, 0x2000 | RW);
    put(&ram, 0x2000, 0, 0x3000 | RW);
    put(&ram, 0x3000, 0, 0x4000 | RW);
    ram
}

fn code(result: Result<Translation, Fault>) -> u32 {
    result.unwrap_err().error_code.unwrap()
}

#[test]
fn without_paging_the_address_is_physical_and_32_bits_wide() {
    let paging = Paging::new(cr0::PE, 0, 0, 0, 0, 40);
    let found = paging.translate(&ram(), GuestVirt(0x1_0000_1234), Access::WRITE).unwrap();
    assert_eq!(found, Translation { gpa: GuestPhys(0x1234), page_size: 4096 });
    assert_eq!(found.bytes_left(), 4096 - 0x234);
}

#[test]
fn four_levels_map_4k_2m_and_1g_pages() {
    let ram = four_levels();
    put(&ram, 0x4000, 5, 0xab_c000 | RW);
    put(&ram, 0x3000, 1, 0x40_0000 | RW | PS);
    put(&ram, 0x2000, 1, 0x8000_0000 | RW | PS);
    let paging = long(0);
    for (linear, gpa, page_size) in [
        (0x5678, 0xab_c678, 4096),
        (0x20_1234, 0x40_1234, 2 << 20),
        (0x4123_4567, 0x8123_4567, 1 << 30),
    ] {
        let found = paging.translate(&ram, GuestVirt(linear), Access::READ).unwrap();
        assert_eq!(found, Translation { gpa: GuestPhys(gpa), page_size });
    }
}

/// Random tables, garbage included: the common way finds what the exact one does, or nothing.
#[test]
fn the_common_way_agrees_with_the_exact_one() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut found = 0;
    let ram = ram();
    for _ in 0..20_000 {
        for (table, child) in [(ROOT, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000), (0x4000, 0x7000)]
        {
            let noise = (0..6).fold(u64::MAX, |bits, _| bits & random());
            put(&ram, table, 0, (child | RW) ^ noise);
        }
        let paging = long(if random() & 1 == 0 { cr4::SMAP | cr4::SMEP } else { 0 });
        let access = Access::from_bits_retain(random() as u8 & 8 | 1 << (random() % 3));
        let at = GuestVirt(random() & 0xfff);
        if let Some((common, _)) = paging.common(&ram, at.0, access) {
            assert_eq!(paging.peek_any(&ram, at, access), Ok(common));
            found += 1;
        }
    }
    assert!(found > 500, "the common way is common: {found}");
}

#[test]
fn five_levels_walk_one_table_more() {
    let ram = four_levels();
    put(&ram, 0x5000, 1, ROOT | RW);
    put(&ram, 0x4000, 0, 0x7000 | RW);
    let paging = Paging::new(LONG_CR0, 0x5000, cr4::PAE | cr4::LA57, LONG_EFER, 0, 52);
    let found = paging.translate(&ram, GuestVirt(1 << 48), Access::READ).unwrap();
    assert_eq!(found.gpa, GuestPhys(0x7000));
    assert_eq!(paging.peek(&ram, GuestVirt(1 << 57), Access::READ), Err(Fault::GP0));
}

#[test]
fn a_non_canonical_address_is_a_general_protection_fault() {
    let ram = four_levels();
    assert_eq!(long(0).peek(&ram, GuestVirt(1 << 47), Access::READ), Err(Fault::GP0));
    assert_eq!(
        long(0).peek(&ram, GuestVirt(0xffff_8000_0000_0000), Access::READ),
        Err(Fault::page(0xffff_8000_0000_0000, 0))
    );
}

#[test]
fn error_codes_say_present_write_user_fetch_and_reserved() {
    let ram = four_levels();
    put(&ram, 0x4000, 1, 0x9000 | RX | U | NX);
    put(&ram, 0x4000, 2, 0x9000 | RW & !U);
    put(&ram, 0x4000, 3, 1 << 45 | RW);
    let paging = long(0);
    let at = |page: u64, access| code(paging.peek(&ram, GuestVirt(page * 4096), access));
    assert_eq!(at(0, Access::WRITE | Access::USER), error_code::W | error_code::U);
    assert_eq!(at(0, Access::EXEC), error_code::I);
    assert_eq!(at(1, Access::WRITE), error_code::P | error_code::W);
    assert_eq!(at(1, Access::EXEC), error_code::P | error_code::I);
    assert_eq!(at(2, Access::READ | Access::USER), error_code::P | error_code::U);
    assert_eq!(at(3, Access::READ), error_code::P | error_code::RSVD);
}

#[test]
fn without_wp_the_supervisor_writes_read_only_pages_and_the_user_does_not() {
    let ram = four_levels();
    put(&ram, 0x4000, 0, 0x9000 | RX | U);
    let paging = Paging::new(LONG_CR0 & !cr0::WP, ROOT, cr4::PAE, LONG_EFER, 0, 40);
    assert!(paging.peek(&ram, GuestVirt(0), Access::WRITE).is_ok());
    assert_eq!(code(paging.peek(&ram, GuestVirt(0), Access::WRITE | Access::USER)), 7);
}

#[test]
fn rights_of_every_level_count() {
    for level in 0..4u64 {
        let ram = four_levels();
        put(&ram, 0x4000, 0, 0x9000 | RW);
        let table = ROOT + level * 0x1000;
        let entry = ram.read_u64(GuestPhys(table)).unwrap();
        put(&ram, table, 0, entry & !W);
        assert_eq!(code(long(0).peek(&ram, GuestVirt(0), Access::WRITE)), 3, "level {level}");
        put(&ram, table, 0, entry & !U);
        let user = Access::READ | Access::USER;
        assert_eq!(code(long(0).peek(&ram, GuestVirt(0), user)), 5, "level {level}");
        put(&ram, table, 0, entry | NX);
        assert_eq!(code(long(0).peek(&ram, GuestVirt(0), Access::EXEC)), 0x11, "level {level}");
        let no_nxe = Paging::new(LONG_CR0, ROOT, cr4::PAE, efer::LMA, 0, 40);
        assert_eq!(code(no_nxe.peek(&ram, GuestVirt(0), Access::READ)), 9, "level {level}");
    }
}

#[test]
fn smep_and_smap_keep_the_supervisor_out_of_user_pages_and_ac_lifts_smap() {
    let ram = four_levels();
    put(&ram, 0x4000, 0, 0x9000 | RW);
    assert_eq!(code(long(cr4::SMEP).peek(&ram, GuestVirt(0), Access::EXEC)), 0x11);
    assert!(long(cr4::SMEP).peek(&ram, GuestVirt(0), Access::READ).is_ok());
    assert_eq!(code(long(cr4::SMAP).peek(&ram, GuestVirt(0), Access::READ)), 1);
    assert!(long(cr4::SMAP).peek(&ram, GuestVirt(0), Access::READ | Access::USER).is_ok());
    assert!(long(cr4::SMAP).peek(&ram, GuestVirt(0), Access::EXEC).is_ok());
    let ac = Paging::new(LONG_CR0, ROOT, cr4::PAE | cr4::SMAP, LONG_EFER, rflags::AC, 40);
    assert!(ac.peek(&ram, GuestVirt(0), Access::WRITE).is_ok());
}

#[test]
fn reserved_bits_of_large_pages_and_top_levels_fault() {
    let ram = four_levels();
    put(&ram, 0x3000, 1, 0x40_2000 | RW | PS);
    put(&ram, 0x2000, 1, 0x8020_0000 | RW | PS);
    put(&ram, ROOT, 1, 0x2000 | RW | PS);
    for linear in [0x20_0000, 0x4000_0000, 1 << 39] {
        assert_eq!(code(long(0).peek(&ram, GuestVirt(linear), Access::READ)), 9, "{linear:#x}");
    }
    // Bit 12 is PAT there, not reserved.
    put(&ram, 0x3000, 1, 0x40_1000 | RW | PS);
    let found = long(0).peek(&ram, GuestVirt(0x20_0000), Access::READ).unwrap();
    assert_eq!(found.gpa, GuestPhys(0x40_0000));
}

#[test]
fn a_table_outside_ram_reads_as_ones_and_faults_as_reserved() {
    let ram = four_levels();
    put(&ram, 0x3000, 0, 0xff_f000 | RW);
    let narrow = Paging::new(LONG_CR0, ROOT, cr4::PAE, LONG_EFER, 0, 40);
    assert_eq!(code(narrow.translate(&ram, GuestVirt(0), Access::READ)), 9);
}

#[test]
fn accessed_and_dirty_bits_are_set_by_translate_and_left_alone_by_peek() {
    let ram = ram();
    for (table, child) in [(ROOT, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000), (0x4000, 0x9000)] {
        put(&ram, table, 0, child | P | W | U);
    }
    let bits = |table| ram.read_u64(GuestPhys(table)).unwrap() & (A | D);
    let paging = long(0);
    paging.peek(&ram, GuestVirt(0), Access::WRITE).unwrap();
    assert_eq!([ROOT, 0x2000, 0x3000, 0x4000].map(bits), [0; 4]);
    paging.translate(&ram, GuestVirt(0), Access::READ).unwrap();
    assert_eq!([ROOT, 0x2000, 0x3000, 0x4000].map(bits), [A; 4]);
    paging.translate(&ram, GuestVirt(0), Access::WRITE).unwrap();
    assert_eq!([ROOT, 0x2000, 0x3000, 0x4000].map(bits), [A, A, A, A | D]);
}

#[test]
fn a_refused_write_leaves_the_page_clean() {
    let ram = four_levels();
    put(&ram, 0x4000, 0, 0x9000 | P);
    assert!(long(0).translate(&ram, GuestVirt(0), Access::WRITE).is_err());
    assert_eq!(ram.read_u64(GuestPhys(0x4000)), Some(0x9000 | P));
}

#[test]
fn pae_takes_pdptes_without_rights_and_judges_only_the_tables_below() {
    let ram = ram();
    put(&ram, 0x1020, 3, 0x2000 | P);
    put(&ram, 0x2000, 511, 0x3000 | RW);
    put(&ram, 0x3000, 511, 0x12_3000 | RW & !A & !D);
    put(&ram, 0x2000, 0, 0x60_0000 | RW | PS);
    let paging = Paging::new(LONG_CR0, 0x1020, cr4::PAE, efer::NXE, 0, 36);
    let top = GuestVirt(0xffff_f123);
    assert_eq!(paging.translate(&ram, top, Access::WRITE).unwrap().gpa, GuestPhys(0x12_3123));
    assert_eq!(ram.read_u64(GuestPhys(0x3ff8)), Some(0x12_3000 | RW));
    assert_eq!(ram.read_u64(GuestPhys(0x1038)), Some(0x2000 | P));
    let large = paging.peek(&ram, GuestVirt(0xc012_3456), Access::READ | Access::USER).unwrap();
    assert_eq!(large, Translation { gpa: GuestPhys(0x72_3456), page_size: 2 << 20 });
    put(&ram, 0x1020, 3, 0x2000 | P | A);
    assert_eq!(paging.peek(&ram, top, Access::READ).unwrap().gpa, GuestPhys(0x12_3123));
    put(&ram, 0x3000, 511, 0x12_3000 | RW | 1 << 52);
    assert_eq!(code(paging.peek(&ram, top, Access::READ)), 9);
}

#[test]
fn thirty_two_bit_paging_maps_4k_and_pse36_pages() {
    let ram = ram();
    put32(&ram, ROOT, 1, 0x2000 | P | W | U);
    put32(&ram, 0x2000, 2, 0x7000 | P | W);
    put32(&ram, ROOT, 2, 0x0040_0000 | 0x2000 | RW | PS);
    put32(&ram, ROOT, 3, 0x0060_0000 | RW | PS);
    let paging = Paging::new(LONG_CR0, ROOT, cr4::PSE, 0, 0, 40);
    let small = paging.translate(&ram, GuestVirt(0x40_2345), Access::WRITE).unwrap();
    assert_eq!(small.gpa, GuestPhys(0x7345));
    assert_eq!(ram.read_u32(GuestPhys(ROOT + 4)), Some(0x2027));
    assert_eq!(ram.read_u32(GuestPhys(0x2008)), Some(0x7063));
    assert_eq!(ram.read_u32(GuestPhys(0x200c)), Some(0), "the neighbour stays");
    let large = paging.translate(&ram, GuestVirt(0x80_1234), Access::READ).unwrap();
    assert_eq!(large, Translation { gpa: GuestPhys(0x1_0040_1234), page_size: 4 << 20 });
    assert_eq!(code(paging.peek(&ram, GuestVirt(0xc0_0000), Access::READ)), 9);
    assert_eq!(code(paging.peek(&ram, GuestVirt(0x40_2000), Access::READ | Access::USER)), 5);
    // Without CR4.PSE, bit 7 means nothing; the table it then points to is outside RAM.
    let plain = Paging::new(LONG_CR0, ROOT, 0, 0, 0, 40);
    let found = plain.peek(&ram, GuestVirt(0x80_1234), Access::EXEC).unwrap();
    assert_eq!(found.gpa, GuestPhys(0xffff_f234));
}

#[test]
fn a_fetch_crosses_into_the_next_page_and_stops_where_it_is_not_present() {
    let ram = four_levels();
    put(&ram, 0x4000, 0, 0x8000 | RW);
    ram.write_slice(GuestPhys(0x8ff0), &[0x90; 16]).unwrap();
    let mut bytes = [0; 15];
    let paging = long(0);
    assert_eq!(paging.fetch(&ram, GuestVirt(0xffb), Access::empty(), &mut bytes), Ok(5));
    put(&ram, 0x4000, 1, 0x6000 | RW);
    ram.write_slice(GuestPhys(0x6000), &[0xcc; 16]).unwrap();
    assert_eq!(paging.fetch(&ram, GuestVirt(0xffb), Access::empty(), &mut bytes), Ok(15));
    assert_eq!(bytes, *b"\x90\x90\x90\x90\x90\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc");
    assert!(paging.fetch(&ram, GuestVirt(0x2000), Access::empty(), &mut bytes).is_err());
}

/// An independent walk: every combination of rights at two levels against the manual's tables.
#[test]
fn every_combination_of_rights_agrees_with_the_manuals_rules() {
    for bits in 0..1u64 << 12 {
        let has = |bit: u32| bits >> bit & 1 == 1;
        let upper = P | if has(0) { W } else { 0 } | if has(1) { U } else { 0 };
        let leaf = P
            | if has(2) { W } else { 0 }
            | if has(3) { U } else { 0 }
            | if has(4) { NX } else { 0 };
        let (wp, smep, smap, ac, user) = (has(5), has(6), has(7), has(8), has(9));
        let access = match bits >> 10 {
            0 => Access::READ,
            1 => Access::WRITE,
            _ => Access::EXEC,
        };
        let ram = four_levels();
        put(&ram, 0x3000, 0, 0x4000 | upper);
        put(&ram, 0x4000, 0, 0x9000 | leaf);
        let paging = Paging::new(
            if wp { LONG_CR0 } else { LONG_CR0 & !cr0::WP },
            ROOT,
            cr4::PAE | if smep { cr4::SMEP } else { 0 } | if smap { cr4::SMAP } else { 0 },
            LONG_EFER,
            if ac { rflags::AC } else { 0 },
            40,
        );
        let (writable, user_page) = (has(0) && has(2), has(1) && has(3));
        let allowed = if user {
            user_page
                && match access {
                    Access::READ => true,
                    Access::WRITE => writable,
                    _ => !has(4),
                }
        } else {
            let data = !user_page || !smap || ac;
            match access {
                Access::READ => data,
                Access::WRITE => data && (writable || !wp),
                _ => !(has(4) || user_page && smep),
            }
        };
        let access = if user { access | Access::USER } else { access };
        let exact = paging.peek(&ram, GuestVirt(0), access);
        assert_eq!(exact.is_ok(), allowed, "{bits:#x}");
        // The same with everything marked takes the common way.
        put(&ram, 0x3000, 0, 0x4000 | upper | A | D);
        put(&ram, 0x4000, 0, 0x9000 | leaf | A | D);
        assert_eq!(paging.translate(&ram, GuestVirt(0), access), exact, "{bits:#x}");
    }
}
