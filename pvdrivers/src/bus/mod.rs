//! XenBus: devices as pairs of directories in the store, front and back end with a state each. Facts: Xen
//! public "io/xenbus.h", and what the tools of Xen 4.17 write for a guest.
//!
//! `nodes` makes a domain's own nodes, `device` a device's, `states` says which state answers which, `dispatch`
//! tells back ends (`BackEnd`) what their front ends do, and `control` asks a domain to shut down.

mod backend;
mod control;
mod device;
mod dispatch;
mod kinds;
mod nodes;
mod remote;
mod states;

#[cfg(test)]
mod tests;

pub use backend::{BackEnd, DeviceNodes};
pub use control::{Control, Request};
pub use device::{DeviceId, DeviceKind, DeviceSpec};
pub use dispatch::{Bus, Notice};
pub use kinds::{ConsoleSpec, VbdSpec, VfbSpec, VifSpec};
pub use nodes::{DomainKind, DomainSpec, create_base, create_domain, remove_domain};
pub use remote::{Parting, Remotes};
pub use states::{Step, XenbusState, step};
