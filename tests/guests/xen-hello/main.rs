//! How does a guest find Xen, call it, and speak through it? CPUID, the hypercall page, versions,
//! the hypervisor's log, and the ring of the primary console.

#![no_std]
#![no_main]

use core::sync::atomic::{Ordering, fence};
use support::xen::{self, call, param};
use support::{cpu, guest, mem, println};

guest!("xen-hello", main);

/// `struct xencons_interface`: input of 1 KiB, output of 2 KiB, then the indices.
const OUT: usize = 1024;
const OUT_SIZE: u32 = 2048;
const OUT_CONS: usize = 3080;
const OUT_PROD: usize = 3084;

/// Puts a text into the console's ring, and rings.
fn write_ring(ring: usize, port: u32, text: &[u8]) {
    for byte in text {
        let prod: u32 = mem::read(ring + OUT_PROD);
        // The back end takes what is there when its port is rung.
        while prod.wrapping_sub(mem::read(ring + OUT_CONS)) >= OUT_SIZE {
            xen::send(port);
        }
        mem::write(ring + OUT + (prod % OUT_SIZE) as usize, *byte);
        // The byte before the index.
        fence(Ordering::SeqCst);
        mem::write(ring + OUT_PROD, prod.wrapping_add(1));
    }
    xen::send(port);
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).expect("text")
}

fn main() {
    let leaf = xen::init();
    let [version, ..] = cpu::cpuid(leaf + 1, 0);
    println!("Xen {}.{} at CPUID leaf {leaf:#x}", version >> 16, version & 0xffff);
    let told = xen::hypercall(call::XEN_VERSION, [0; 5]);
    assert_eq!(told, i64::from(version), "xen_version and CPUID agree");

    // Each of these writes a text of a fixed length.
    let mut extra = [0u8; 16];
    assert_eq!(xen::operate(call::XEN_VERSION, 1, &mut extra), 0);
    let mut capabilities = [0u8; 1024];
    assert_eq!(xen::operate(call::XEN_VERSION, 3, &mut capabilities), 0);
    println!("extra version {}, runs {}", text(&extra), text(&capabilities));
    assert!(text(&capabilities).contains("hvm-3.0-x86_64"));
    // XENVER_get_features: submap 0 in, its bits out. 8: events by vector; 9: a clock without exit.
    let mut features = [0u32, 0];
    assert_eq!(xen::operate(call::XEN_VERSION, 6, &mut features), 0);
    println!("features {:#x}", features[1]);
    assert_eq!(features[1] >> 8 & 3, 3, "callback vector and clock");
    assert_eq!(xen::hypercall(call::XEN_VERSION, [99, 0, 0, 0, 0]), xen::errno::ENOSYS);
    assert_eq!(xen::hypercall(127, [0; 5]), xen::errno::ENOSYS, "a call that there is not");

    xen::console_io(b"xen-hello: a line by console_io\n");

    let ring = (xen::get_param(param::CONSOLE_PFN) << 12) as usize;
    let port = xen::get_param(param::CONSOLE_EVTCHN) as u32;
    println!("console ring at {ring:#x}, port {port}");
    assert!(ring != 0 && port != 0, "no console");
    write_ring(ring, port, b"xen-hello: a line by the console ring\r\n");
    // More than the ring holds at once.
    for _ in 0..40 {
        write_ring(ring, port, &[b'.'; 79]);
        write_ring(ring, port, b"\r\n");
    }
    let left = mem::read::<u32>(ring + OUT_PROD).wrapping_sub(mem::read(ring + OUT_CONS));
    println!("{left} bytes are left in the ring");
    assert_eq!(left, 0, "the back end has taken all");
}
