//! How is memory shared? A grant table, a page for domain 0, and pages granted to oneself: copied
//! by grant, mapped, read, and unmapped.

#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use support::grant::{
    self, MAP_READONLY, PERMIT_ACCESS, READING, READONLY, Table, WRITING, operate,
};
use support::{guest, mem, println, xen};

guest!("xen-grants", main);

/// Where nothing is: above the memory and below the devices.
const FRAME: usize = 0x8000_0000;

/// `GNTTABOP_*`.
const COPY: u64 = 5;
const QUERY_SIZE: u64 = 6;
/// `GNTST_*`.
const GENERAL_ERROR: i16 = -1;
const BAD_DOMAIN: i16 = -2;
const BAD_REF: i16 = -3;
const BAD_HANDLE: i16 = -4;
const BAD_COPY: i16 = -10;
/// `struct gnttab_copy`: source and destination (reference or frame, domain, offset), length,
/// flags (bit 0: the source is a grant, bit 1: the destination is), status.
#[repr(C)]
struct Copy {
    source: (u64, u16, u16),
    dest: (u64, u16, u16),
    len: u16,
    flags: u16,
    status: i16,
}

const _: () = assert!(size_of::<Copy>() == 40);

fn copy(reference: u32, page: usize, to_grant: bool, offset: u16, len: u16) -> i16 {
    let (grant, own) = ((reference.into(), xen::SELF), ((page >> 12) as u64, xen::SELF));
    let (from, to) = if to_grant { (own, grant) } else { (grant, own) };
    let mut arg = Copy {
        source: (from.0, from.1, offset),
        dest: (to.0, to.1, 0),
        len,
        flags: if to_grant { 2 } else { 1 },
        status: 1,
    };
    operate(COPY, &mut arg);
    arg.status
}

fn map(reference: u32, domid: u16, flags: u32) -> Result<u32, i16> {
    grant::map(FRAME, reference, domid, flags)
}

fn unmap(handle: u32) -> i16 {
    grant::unmap(FRAME, handle)
}

/// A page whose words tell their places.
fn filled(seed: u64) -> usize {
    let page = mem::pages(1);
    (0..4096).step_by(8).for_each(|at| mem::write(page + at, seed + at as u64));
    page
}

fn copies(table: &Table, own: u16) {
    let (source, dest) = (filled(0x1000_0000), mem::pages(1));
    table.grant(9, own, source, READONLY);
    assert_eq!(copy(9, dest, false, 0, 4096), 0);
    assert!((0..4096).step_by(8).all(|at| mem::read::<u64>(dest + at) == 0x1000_0000 + at as u64));
    assert_eq!(copy(9, dest, false, 8, 16), 0, "a part");
    assert_eq!(mem::read::<u64>(dest), 0x1000_0008);
    assert_eq!(mem::read::<u64>(dest + 16), 0x1000_0010, "and no more than the part");
    assert_eq!(copy(9, dest, false, 4090, 16), BAD_COPY, "over the page's end");
    assert_ne!(copy(9, dest, true, 0, 8), 0, "it is for reading only");
    assert_eq!(mem::read::<u64>(source), 0x1000_0000);
    assert_ne!(copy(10, dest, false, 0, 8), 0, "nothing is granted there");
    assert!(table.revoke(9));
    assert_ne!(copy(9, dest, false, 0, 8), 0, "it was taken back");
    table.grant(9, own, source, 0);
    assert_eq!(copy(9, dest, true, 0, 8), 0, "into a grant");
    assert_eq!(mem::read::<u64>(source), 0x1000_0008);
    assert!(table.revoke(9));
    println!("copies: good");
}

fn maps(table: &Table, own: u16) {
    let page = filled(0x2000_0000);
    table.grant(11, own, page, 0);
    let handle = map(11, own, 0).expect("map");
    println!("handle {handle}: page {page:#x} at {FRAME:#x}");
    assert!((0..4096).step_by(8).all(|at| mem::read::<u64>(FRAME + at) == 0x2000_0000 + at as u64));
    mem::write(FRAME + 8, 0x77u64);
    assert_eq!(mem::read::<u64>(page + 8), 0x77, "it is the same page");
    assert_eq!(table.flags(11).load(SeqCst), PERMIT_ACCESS | READING | WRITING);
    assert!(!table.revoke(11), "it is in use");
    assert_eq!(unmap(handle), 0);
    assert_ne!(mem::read::<u64>(FRAME), 0x2000_0000, "it is gone");
    assert_eq!(table.flags(11).load(SeqCst), PERMIT_ACCESS);
    assert_eq!(unmap(handle), BAD_HANDLE, "once");
    let handle = map(11, own, MAP_READONLY).expect("for reading");
    assert_eq!(table.flags(11).load(SeqCst), PERMIT_ACCESS | READING);
    assert_eq!(mem::read::<u64>(FRAME + 8), 0x77);
    assert_eq!(unmap(handle), 0);
    assert!(table.revoke(11));
    assert_eq!(map(11, own, 0), Err(GENERAL_ERROR), "it was taken back");
    assert_eq!(map(1 << 30, own, 0), Err(BAD_REF), "no such entry");
    assert_eq!(map(11, 9_999, 0), Err(BAD_DOMAIN));
    assert_eq!(map(11, xen::SELF, 0), Err(BAD_DOMAIN), "a granter has a number");
    println!("maps: good");
}

fn main() {
    let leaf = xen::init();
    let own = xen::own_domid(leaf).expect("CPUID has the number");
    let table = Table::open();

    // Domain, frames that it has, frames that it can have, status.
    let mut size = [u32::from(xen::SELF), 0, 0, 1];
    operate(QUERY_SIZE, &mut size);
    println!("grant table: {} of {} frames, status {}", size[1], size[2], size[3] as i16);
    assert!(size[3] as i16 == 0 && size[1] >= 1 && size[2] >= size[1]);

    // A page for domain 0, which nobody there takes: it can be taken back.
    table.grant(8, 0, filled(0x8000), READONLY);
    assert!(table.revoke(8));
    copies(&table, own);
    maps(&table, own);
}
