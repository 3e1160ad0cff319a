//! Processors in the DSDT, and how they come and go (ACPI "Processor Device Notification Values"): a general-purpose
//! event has the tables compare the board's bitmap at AF00h with what they last saw, and tell the guest of each
//! processor that differs. Xen's hvmloader and SeaBIOS do it with the same ports and event.

use super::dsdt::{Raw, name};
use crate::platform::BiosConfig;
use acpi_tables::Aml;
use acpi_tables::aml::{
    Arg, BufferData, Else, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule,
    FieldUpdateRule, If, Method, MethodCall, Name, Notify, ONE, OpRegion, OpRegionSpace, Return,
    Scope, Store, ZERO,
};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Ports of the bitmap.
pub(super) const BITMAP: u16 = 0xaf00;
/// Most processors that can come and go.
const MOST: usize = 64;
/// Notification: look whether it is there.
const DEVICE_CHECK: u8 = 1;
/// Notification: it is to be let go.
const EJECT_REQUEST: u8 = 3;

/// "Processor": the form that every system before ACPI 6.4 knows.
fn processor(n: usize, children: &[u8]) -> Vec<u8> {
    let mut body = Vec::from(format!("C{n:03X}").as_bytes());
    body.push(n as u8);
    body.extend_from_slice(&[0; 5]);
    body.extend_from_slice(children);
    // "Package Length": its own bytes count, and a second one is there from 64 on.
    let mut out = vec![0x5b, 0x83];
    match body.len() + 1 {
        short @ ..64 => out.push(short as u8),
        long => {
            let long = long + 1;
            out.extend_from_slice(&[0x40 | (long & 15) as u8, (long >> 4) as u8]);
        }
    }
    out.extend_from_slice(&body);
    out
}

/// Its bit of the bitmap, and what the tables last saw of it.
fn bit(n: usize) -> String {
    format!("P{n:03X}")
}

fn seen(n: usize) -> String {
    format!("F{n:03X}")
}

/// The scope of processors that neither come nor go by these tables.
pub(super) fn fixed(config: &BiosConfig) -> Vec<u8> {
    let mut out = Vec::new();
    let all = Raw((0..config.apic_ids.len().min(255)).flat_map(|n| processor(n, &[])).collect());
    Scope::new(name("\\_PR_"), vec![&all]).to_aml_bytes(&mut out);
    out
}

/// The scope of processors, and for several of them what makes them come and go.
pub(super) fn write(out: &mut Vec<u8>, config: &BiosConfig) {
    let count = config.apic_ids.len();
    if !(2..=MOST).contains(&count) {
        return out.extend(fixed(config));
    }
    let mut all = Vec::new();
    OpRegion::new(name("PRST"), OpRegionSpace::SystemIO, &BITMAP, &32u8).to_aml_bytes(&mut all);
    let bits = (0..count).map(|n| {
        let mut name = [0; 4];
        name.copy_from_slice(bit(n).as_bytes());
        FieldEntry::Named(name, 1)
    });
    Field::new(
        name("PRST"),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        bits.collect(),
    )
    .to_aml_bytes(&mut all);
    // Of a bit: present, enabled, shown, works; or nothing.
    Method::new(
        name("CSTA"),
        1,
        false,
        vec![
            &If::new(&Equal::new(&Arg(0), &ONE), vec![&Return::new(&0x0fu8)]),
            &Return::new(&ZERO),
        ],
    )
    .to_aml_bytes(&mut all);
    for (n, &id) in config.apic_ids.iter().enumerate() {
        Name::new(name(&seen(n)), &u8::from(config.is_there(n))).to_aml_bytes(&mut all);
        let mut children = Vec::new();
        let bit = name(&bit(n));
        let entry = |flags| BufferData::new(vec![0, 8, n as u8, id, flags, 0, 0, 0]);
        Method::new(
            name("_MAT"),
            0,
            false,
            vec![
                &If::new(&Equal::new(&bit, &ONE), vec![&Return::new(&entry(1))]),
                &Return::new(&entry(0)),
            ],
        )
        .to_aml_bytes(&mut children);
        let status = MethodCall::new(name("CSTA"), vec![&bit]);
        Method::new(name("_STA"), 0, false, vec![&Return::new(&status)])
            .to_aml_bytes(&mut children);
        // The bit is gone already: nothing is left to do.
        Method::new(name("_EJ0"), 1, false, vec![]).to_aml_bytes(&mut children);
        all.extend(processor(n, &children));
    }
    compare(&mut all, count);
    let all = Raw(all);
    Scope::new(name("\\_PR_"), vec![&all]).to_aml_bytes(out);
    // An edge: the event is cleared before the bits are looked at, so that no change is lost.
    let look = MethodCall::new(name("\\_PR_.PRSC"), vec![]);
    Scope::new(name("\\_GPE"), vec![&Method::new(name("_E02"), 0, false, vec![&look])])
        .to_aml_bytes(out);
}

/// Tells of each processor whose bit changed.
fn compare(all: &mut Vec<u8>, count: usize) {
    let mut body = Vec::new();
    for n in 0..count {
        let (now, before, cpu) = (name(&bit(n)), name(&seen(n)), name(&format!("C{n:03X}")));
        let (mut came, mut went) = (Vec::new(), Vec::new());
        changed(&mut came, &before, &cpu, (0, 1), DEVICE_CHECK);
        changed(&mut went, &before, &cpu, (1, 0), EJECT_REQUEST);
        let (came, went) = (Raw(came), Raw(went));
        If::new(&Equal::new(&now, &ONE), vec![&came]).to_aml_bytes(&mut body);
        Else::new(vec![&went]).to_aml_bytes(&mut body);
    }
    let body = Raw(body);
    Method::new(name("PRSC"), 0, true, vec![&body]).to_aml_bytes(all);
}

/// If what was seen is `from`, it is now `to`, and the processor is told.
fn changed(out: &mut Vec<u8>, seen: &dyn Aml, cpu: &dyn Aml, (from, to): (u8, u8), value: u8) {
    let (store, notify) = (Store::new(seen, &to), Notify::new(cpu, &value));
    If::new(&Equal::new(seen, &from), vec![&store, &notify]).to_aml_bytes(out);
}
