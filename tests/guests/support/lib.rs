//! What our guest kernels share: from the boot sector to long mode, a serial port, interrupts, the
//! chips' small change, and the verdict. A guest is `guest!("name", main)` and a `fn main()` that
//! returns when the answer is yes and panics when it is no.

#![no_std]

pub mod acpi;
pub mod apic;
pub mod bios;
mod boot;
pub mod cpu;
pub mod grant;
pub mod idt;
pub mod mem;
pub mod pci;
pub mod pic;
pub mod port;
pub mod power;
pub mod pvh;
pub mod random;
pub mod serial;
pub mod smp;
pub mod sweep;
mod thunk;
pub mod v86;
pub mod xen;
pub mod xenstore;

use core::sync::atomic::{AtomicUsize, Ordering};

/// Names the guest and its `fn main()`.
#[macro_export]
macro_rules! guest {
    ($name:literal, $main:path) => {
        /// The boot code calls this one in long mode.
        #[unsafe(no_mangle)]
        extern "C" fn guest_main() -> ! {
            $crate::start($name, $main)
        }
    };
}

static PANICS: AtomicUsize = AtomicUsize::new(0);
static NAME: once::Cell = once::Cell::new();

/// A `&'static str` that is set once, before there is a second CPU.
mod once {
    use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

    /// Pointer and length.
    pub struct Cell(AtomicPtr<u8>, AtomicUsize);

    impl Cell {
        /// Holds the empty text.
        pub const fn new() -> Cell {
            Cell(AtomicPtr::new(core::ptr::null_mut()), AtomicUsize::new(0))
        }
        /// Holds `text`.
        pub fn set(&self, text: &'static str) {
            self.0.store(text.as_ptr().cast_mut(), Ordering::Release);
            self.1.store(text.len(), Ordering::Release);
        }
        /// The text.
        pub fn get(&self) -> &'static str {
            let (start, len) = (self.0.load(Ordering::Acquire), self.1.load(Ordering::Acquire));
            if start.is_null() {
                return "?";
            }
            // SAFETY: `set` took both from one `&'static str`.
            let bytes = unsafe { core::slice::from_raw_parts(start, len) };
            core::str::from_utf8(bytes).unwrap_or("?")
        }
    }
}

/// Sets the machine up, runs `main`, says PASS and switches off.
pub fn start(name: &'static str, main: fn()) -> ! {
    NAME.set(name);
    if pvh::start_info().is_some() {
        pvh::init();
    }
    serial::init();
    pic::take_over();
    idt::init();
    println!("XENOLITH-TEST START {name}");
    main();
    pass()
}

/// The verdict is yes.
pub fn pass() -> ! {
    cpu::cli();
    println!("XENOLITH-TEST PASS {}", NAME.get());
    power::off()
}

/// Says that from here on the machine must stop, reset or hang by itself: `what` tells which. A
/// guest that goes on afterwards has failed.
pub fn expect(what: &str) {
    println!("XENOLITH-TEST EXPECT {what} {}", NAME.get());
    serial::drain();
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    cpu::cli();
    // A panic inside the panic says nothing more.
    if PANICS.swap(1, Ordering::Relaxed) == 0 {
        match info.location() {
            Some(place) => println!(
                "XENOLITH-TEST FAIL {} {} ({}:{})",
                NAME.get(),
                info.message(),
                place.file(),
                place.line()
            ),
            None => println!("XENOLITH-TEST FAIL {} {}", NAME.get(), info.message()),
        }
    }
    power::off()
}
