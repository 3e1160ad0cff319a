//! `event_channel_op`: numbers and arguments, and the FIFO ABI's words. Xen public
//! "event_channel.h".
//!
//! `crate::event` does the work.

use super::layout::{layouts, numbers};

numbers! {
    /// `EVTCHNOP_*`.
    EventOp: u32 {
        /// [`BindInterdomain`].
        BIND_INTERDOMAIN = 0,
        /// [`BindVirq`].
        BIND_VIRQ = 1,
        /// [`BindPirq`].
        BIND_PIRQ = 2,
        /// [`PortArg`].
        CLOSE = 3,
        /// [`PortArg`].
        SEND = 4,
        /// [`Status`].
        STATUS = 5,
        /// [`AllocUnbound`].
        ALLOC_UNBOUND = 6,
        /// [`BindIpi`].
        BIND_IPI = 7,
        /// [`BindVcpu`].
        BIND_VCPU = 8,
        /// [`PortArg`].
        UNMASK = 9,
        /// [`Reset`].
        RESET = 10,
        /// [`InitControl`].
        INIT_CONTROL = 11,
        /// [`ExpandArray`].
        EXPAND_ARRAY = 12,
        /// [`SetPriority`].
        SET_PRIORITY = 13,
    }
}

layouts! {
    /// A port that waits for a peer.
    AllocUnbound: 8 / 8 {
        /// In: whose port; `DOMID_SELF` for all but the privileged.
        dom: u16 = 0 / 0,
        /// In: who may bind to it.
        remote_dom: u16 = 2 / 2,
        /// Out.
        port: u32 = 4 / 4,
    }
    /// Connects to a port that waits.
    BindInterdomain: 12 / 12 {
        /// In: whose port.
        remote_dom: u16 = 0 / 0,
        /// In: which.
        remote_port: u32 = 4 / 4,
        /// Out: the caller's end.
        local_port: u32 = 8 / 8,
    }
    /// Binds a virtual interrupt.
    BindVirq: 12 / 12 {
        /// In: [`Virq`](super::xen::Virq).
        virq: u32 = 0 / 0,
        /// In: which vCPU gets it; 0 for those that belong to the domain.
        vcpu: u32 = 4 / 4,
        /// Out.
        port: u32 = 8 / 8,
    }
    /// Binds a physical interrupt.
    BindPirq: 12 / 12 {
        /// In.
        pirq: u32 = 0 / 0,
        /// In: bit 0, the line may be shared.
        flags: u32 = 4 / 4,
        /// Out.
        port: u32 = 8 / 8,
    }
    /// A port for interrupts between the caller's vCPUs.
    BindIpi: 8 / 8 {
        /// In: which vCPU gets them.
        vcpu: u32 = 0 / 0,
        /// Out.
        port: u32 = 4 / 4,
    }
    /// The argument of close, send and unmask.
    PortArg: 4 / 4 {
        /// In.
        port: u32 = 0 / 0,
    }
    /// What a port is.
    Status: 24 / 24 {
        /// In: whose.
        dom: u16 = 0 / 0,
        /// In.
        port: u32 = 4 / 4,
        /// Out: `EVTCHNSTAT_*`, 0 to 5.
        status: u32 = 8 / 8,
        /// Out: the vCPU that it notifies.
        vcpu: u32 = 12 / 12,
        /// Out: the remote domain, or the PIRQ or VIRQ.
        detail: u32 = 16 / 16,
        /// Out: the remote port of an interdomain channel.
        remote_port: u32 = 20 / 20,
    }
    /// Moves a port to another vCPU.
    BindVcpu: 8 / 8 {
        /// In.
        port: u32 = 0 / 0,
        /// In.
        vcpu: u32 = 4 / 4,
    }
    /// Closes all ports of a domain.
    Reset: 2 / 2 {
        /// In.
        dom: u16 = 0 / 0,
    }
    /// Gives a vCPU its control block and switches the domain to the FIFO ABI.
    InitControl: 24 / 24 {
        /// In: the guest frame of the control block.
        control_gfn: u64 = 0 / 0,
        /// In: where in the frame.
        offset: u32 = 8 / 8,
        /// In: whose control block.
        vcpu: u32 = 12 / 12,
        /// Out: [`FIFO_LINK_BITS`].
        link_bits: u8 = 16 / 16,
        /// Unused.
        pad: [u8; 7] = 17 / 17,
    }
    /// Adds a page to the event array.
    ExpandArray: 8 / 8 {
        /// In: its guest frame.
        array_gfn: u64 = 0 / 0,
    }
    /// Sets a port's priority.
    SetPriority: 8 / 8 {
        /// In.
        port: u32 = 0 / 0,
        /// In: 0, the highest, to 15.
        priority: u32 = 4 / 4,
    }
}

/// In an event word: the event happened.
pub const FIFO_PENDING: u32 = 1 << 31;
/// In an event word: the guest does not want to hear of it now.
pub const FIFO_MASKED: u32 = 1 << 30;
/// In an event word: it is in a queue.
pub const FIFO_LINKED: u32 = 1 << 29;
/// In an event word: the hypervisor is changing the link; the guest waits before it unmasks.
pub const FIFO_BUSY: u32 = 1 << 28;
/// Bits of the link to the next event.
pub const FIFO_LINK_BITS: u8 = 17;
/// Mask of the link to the next event.
pub const FIFO_LINK_MASK: u32 = (1 << FIFO_LINK_BITS) - 1;
/// Ports of the FIFO ABI.
pub const FIFO_PORTS: u32 = 1 << FIFO_LINK_BITS;
/// Queues of a vCPU, one for each priority.
pub const FIFO_QUEUES: usize = 16;
/// The priority of a port until the guest sets one.
pub const FIFO_PRIORITY_DEFAULT: u8 = 7;
/// Bytes of a control block: `ready` at 0, a reserved word, the queues' heads from 8 on.
pub const FIFO_CONTROL_SIZE: usize = 8 + 4 * FIFO_QUEUES;
/// Where the heads lie in a control block.
pub const FIFO_CONTROL_HEADS: usize = 8;

const _: () = assert!(FIFO_CONTROL_SIZE == 72 && FIFO_PORTS == 131_072);
