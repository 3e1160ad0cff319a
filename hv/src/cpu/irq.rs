//! Who handles which vector. Handlers run with interrupts closed, are short and allocate nothing;
//! the local APIC gets its EOI after them. Up to four handlers share a vector (PCI INTx).

// UNSAFETY: turns a stored address back into the function pointer that was stored.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::{apic, percpu};

/// The per-CPU timer.
pub const TIMER: u8 = 0xf0;
/// A kick: leave the guest, look for work.
pub const KICK: u8 = 0xf1;
/// Posted-interrupt notification, on VMX: a CPU that runs a guest takes it by itself. It says nothing to one that
/// does not, as it looks at what was posted before it runs a guest again.
pub const POSTED: u8 = 0xf2;
/// Local APIC errors.
pub const APIC_ERROR: u8 = 0xfe;
/// Spurious interrupts, which take no EOI.
pub const SPURIOUS: u8 = 0xff;

const FIRST_DEVICE: usize = 0x30;
const LAST_DEVICE: usize = 0xef;
const SHARED: usize = 4;

/// A handler with the number it was registered with.
pub type Handler = fn(usize);

struct Slot {
    handler: AtomicUsize,
    argument: AtomicUsize,
}

static SLOTS: [[Slot; SHARED]; 256] = [const {
    [const { Slot { handler: AtomicUsize::new(0), argument: AtomicUsize::new(0) } }; SHARED]
}; 256];
static NEXT_DEVICE: AtomicUsize = AtomicUsize::new(FIRST_DEVICE);

/// A device vector that nobody else has; `None` when they are used up.
pub fn alloc_vector() -> Option<u8> {
    let vector = NEXT_DEVICE.fetch_add(1, Ordering::Relaxed);
    (vector <= LAST_DEVICE).then_some(vector as u8)
}

/// Calls `handler(argument)` when `vector` is taken, on the CPU that takes it. False when four
/// handlers are there already.
pub fn register(vector: u8, handler: Handler, argument: usize) -> bool {
    SLOTS[usize::from(vector)].iter().any(|slot| {
        // The argument first: a handler that is seen has its argument.
        if slot.handler.load(Ordering::Acquire) != 0 {
            return false;
        }
        slot.argument.store(argument, Ordering::Release);
        let address = handler as *const () as usize;
        slot.handler.compare_exchange(0, address, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    })
}

/// Serves an interrupt that this CPU has taken, by its IDT or by an exit that acknowledged it: calls the handlers,
/// and ends it. Interrupts are closed.
pub fn dispatch(vector: u8) {
    percpu::this().interrupts.fetch_add(1, Ordering::Relaxed);
    let mut handled = false;
    for slot in &SLOTS[usize::from(vector)] {
        let address = slot.handler.load(Ordering::Acquire);
        if address == 0 {
            break;
        }
        // SAFETY: `register` stored a `Handler` here and nobody ever changes it.
        let handler = unsafe { core::mem::transmute::<usize, Handler>(address) };
        handler(slot.argument.load(Ordering::Acquire));
        handled = true;
    }
    // Vectors 20h to 2Fh are the masked 8259s', spurious by definition; they take no APIC EOI.
    if vector == SPURIOUS || vector < FIRST_DEVICE as u8 {
        return;
    }
    apic::eoi();
    if !handled {
        log::warn!("interrupt {vector:#x} has no handler");
    }
}

/// Ends an interrupt and sends it to this CPU anew.
pub(super) fn again(vector: u8) {
    apic::eoi();
    apic::send(percpu::this().apic_id(), apic::Ipi::Vector(vector));
}
