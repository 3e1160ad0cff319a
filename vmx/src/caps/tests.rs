use super::*;
use std::collections::BTreeMap;

/// Capability MSRs as Bochs 2.7 gives them for its CPU models: 480h to 48Ch, and 48Dh to 490h.
const COMMON: [(u32, u64); 12] = [
    (0x3a, 5),
    (0x480, 0xd8_1000_0000_002b),
    (0x481, 0x7f_0000_0016),
    (0x482, 0xf7f9_fffe_0401_e172),
    (0x483, 0x7f_ffff_0003_6dff),
    (0x484, 0xffff_0000_11ff),
    (0x485, 0x2006_41e5),
    (0x486, 0x8000_0021),
    (0x487, 0xffff_ffff),
    (0x488, 0x2000),
    (0x48d, 0x7f_0000_0016),
    (0x48e, 0xf7f9_fffe_0400_6172),
];
const TRUE_EXIT_ENTRY: [(u32, u64); 2] = [(0x48f, 0x7f_ffff_0003_6dfb), (0x490, 0xffff_0000_11fb)];
const SKYLAKE_X: [(u32, u64); 3] =
    [(0x489, 0x37_27ff), (0x48b, 0x0217_7fff_0000_0000), (0x48c, 0xf01_0633_4141)];
const HASWELL: [(u32, u64); 3] =
    [(0x489, 0x17_27ff), (0x48b, 0x0004_7fff_0000_0000), (0x48c, 0xf01_0633_4141)];
const SANDY_BRIDGE: [(u32, u64); 3] =
    [(0x489, 0x6_27ff), (0x48b, 0xff_0000_0000), (0x48c, 0xf01_0611_4141)];
const PENRYN: [(u32, u64); 5] = [
    (0x481, 0x3f_0000_0016),
    (0x483, 0x3_ffff_0003_6dff),
    (0x484, 0x3fff_0000_11ff),
    (0x489, 0x4_67ff),
    (0x48b, 0x41_0000_0000),
];

fn read(changes: &[(u32, u64)]) -> Result<Caps, Unsupported> {
    let mut msrs: BTreeMap<u32, u64> = COMMON.into_iter().chain(TRUE_EXIT_ENTRY).collect();
    msrs.extend(changes.iter().copied());
    // A missing MSR would be #GP.
    Caps::read(|msr| *msrs.get(&msr).unwrap_or_else(|| panic!("MSR {msr:#x} does not exist")))
}

pub(crate) fn skylake_x() -> Caps {
    read(&SKYLAKE_X).unwrap()
}

/// As Bochs 3 gives them: interrupts can be posted.
pub(crate) fn skylake_x_3() -> Caps {
    let posting = [(0x481, 0xff_0000_0016), (0x48d, 0xff_0000_0016)];
    read(&[SKYLAKE_X.as_slice(), &posting].concat()).unwrap()
}

/// The same of a model that keeps the local APIC and has no posting.
pub(crate) fn haswell_3() -> Caps {
    read(&HASWELL).unwrap()
}

pub(crate) fn sandy_bridge() -> Caps {
    read(&SANDY_BRIDGE).unwrap()
}

#[test]
fn the_models_with_everything_are_taken_with_what_they_have() {
    let caps = skylake_x();
    assert_eq!(caps, Caps { cr4: (0x2000, 0x37_27ff), ..caps });
    assert_eq!((caps.revision, caps.string_io_info, caps.vpid), (0x2b, true, true));
    assert!(caps.ept.accessed_dirty && caps.ept.execute_only && caps.ept.invept_single);
    assert_eq!(caps.ept.largest, PageSize::Huge);
    assert!(caps.has(Secondary::INVPCID | Secondary::RDTSCP) && caps.tpr_shadow());
    assert!(caps.apic() && read(&HASWELL).unwrap().apic());
    assert!(!sandy_bridge().apic());
    // 2.7 has no posted interrupts; 3 has them on this model.
    assert!(!caps.posting() && skylake_x_3().posting() && !haswell_3().posting());
}

#[test]
fn sandy_bridge_does_without_large_tables_and_accessed_bits() {
    let caps = sandy_bridge();
    assert_eq!((caps.ept.largest, caps.ept.accessed_dirty), (PageSize::Large, false));
    assert!(!caps.has(Secondary::INVPCID) && !caps.has(Secondary::PAUSE_LOOP));
}

#[test]
fn controls_that_must_be_one_are_and_windows_are_closed() {
    let controls = Controls::by_need(&skylake_x().allowed).unwrap();
    assert_eq!(controls.pin, 0x7f);
    assert_eq!(controls.primary, 0xb620_6dfa | 0x0400_6172);
    assert_eq!(controls.secondary, 0x14ea);
    assert_eq!(controls.exit, 0x7f_6fff);
    assert_eq!(controls.entry, 0xd1ff);
    // Neither CR3 accesses nor a window: the TRUE MSR lets them be 0.
    assert_eq!(controls.primary & (1 << 15 | 1 << 16 | 1 << 2 | 1 << 22), 0);
}

#[test]
fn penryn_is_refused_for_its_lack_of_ept() {
    assert_eq!(read(&PENRYN), Err(Unsupported::NoEpt));
}

#[test]
fn what_is_missing_is_named() {
    let with = |change: (u32, u64)| {
        let changes: std::vec::Vec<_> = SKYLAKE_X.into_iter().chain([change]).collect();
        read(&changes).map(drop)
    };
    assert_eq!(with((0x3a, 1)), Err(Unsupported::DisabledByFirmware));
    assert_eq!(with((0x3a, 0)), Ok(()));
    assert_eq!(with((0x480, 0x80_1000_0000_002b)), Err(Unsupported::VmcsMemory));
    assert_eq!(with((0x48b, 0x7f_0000_0000)), Err(Unsupported::NoUnrestrictedGuest));
    assert_eq!(with((0x48b, 0xfd_0000_0000)), Err(Unsupported::NoEpt));
    assert_eq!(with((0x48c, 0x0f01_0633_4101)), Err(Unsupported::EptFormat));
    let no_virtual_nmis = Unsupported::NoControl { register: "pin-based", bits: 0x20 };
    assert_eq!(with((0x48d, 0x1f_0000_0016)), Err(no_virtual_nmis));
}

#[test]
fn without_a_single_context_invvpid_there_are_no_vpids() {
    let changes: std::vec::Vec<_> =
        SKYLAKE_X.into_iter().chain([(0x48c, 0x0401_0633_4141)]).collect();
    let caps = read(&changes).unwrap();
    assert!(!caps.vpid && !caps.has(Secondary::VPID));
    let controls = Controls::by_need(&caps.allowed).unwrap();
    assert_eq!(controls.secondary & Secondary::VPID.bits(), 0);
}

#[test]
fn without_a_tpr_shadow_cr8_is_intercepted() {
    let changes: std::vec::Vec<_> =
        SKYLAKE_X.into_iter().chain([(0x48e, 0xf7d9_fffe_0400_6172)]).collect();
    let caps = read(&changes).unwrap();
    assert!(!caps.tpr_shadow());
    let primary = Controls::by_need(&caps.allowed).unwrap().primary;
    assert_eq!(primary & (7 << 19), 3 << 19);
}

#[test]
fn the_preemption_timer_is_used_only_if_it_goes_on_where_it_stopped() {
    let with = |change: (u32, u64)| {
        let changes: std::vec::Vec<_> = SKYLAKE_X.into_iter().chain([change]).collect();
        let caps = read(&changes).unwrap();
        let controls = Controls::by_need(&caps.allowed).unwrap();
        (caps.preemption_timer(), controls.pin & 1 << 6 != 0, controls.exit & 1 << 22 != 0)
    };
    assert_eq!(with((0x485, 0x2006_41e5)), (true, true, true));
    assert_eq!(with((0x48d, 0x3f_0000_0016)), (false, false, false));
    assert_eq!(with((0x48f, 0x3f_ffff_0003_6dfb)), (false, false, false));
    assert_eq!((skylake_x().preemption_rate, sandy_bridge().preemption_rate), (5, 5));
}

#[test]
fn feature_control_is_unlocked_only_where_it_is_open() {
    assert_eq!(unlock(5), Ok(None));
    assert_eq!(unlock(0), Ok(Some(5)));
    assert_eq!(unlock(4), Ok(Some(5)));
    assert_eq!(unlock(0xff00), Ok(Some(0xff05)));
    assert_eq!(unlock(1), Err(Unsupported::DisabledByFirmware));
}
