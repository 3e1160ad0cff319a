//! `XENMEM_exchange`: pages given for pages at other places, in extents of other sizes. Xen public "memory.h".
//!
//! As much as makes whole extents on both sides is a chunk: given whole, or not at all. A call goes on where
//! `nr_exchanged` says.

use super::hypercall::{Call, Outcome};
use super::reservation::{MAX_ORDER, Pages, STEP};
use crate::Machine;
use crate::host::Host;
use arch::addr::PAGE_SIZE;
use arch::{GuestVirt, Vcpu};
use pvdrivers::Errno;
use pvdrivers::abi::memory::{Exchange, Reservation};
use pvdrivers::abi::{Layout, Ulong, Width};

/// A call that makes sense: which chunks are left.
struct Plan {
    /// Input extents of a chunk, as a power of two.
    inputs: u32,
    /// Output extents of a chunk, as a power of two.
    outputs: u32,
    /// Pages of a chunk, as a power of two.
    order: u32,
    /// The first chunk that is not done.
    next: u64,
    /// All chunks.
    end: u64,
}

impl Plan {
    /// Looks at an argument of a caller of `width`, whose `long` must hold the number of pages.
    ///
    /// # Errors
    /// `EPERM` for extents that are too large; `EINVAL` where the sides differ in size or owner, or more is said
    /// to be done than there is, or a part of a chunk.
    fn of(arg: &Exchange, width: Width) -> Result<Plan, Errno> {
        let Exchange { input, output, nr_exchanged } = arg;
        let (from, to) = (input.extent_order, output.extent_order);
        if from.max(to) > MAX_ORDER {
            return Err(Errno::EPERM);
        }
        let most = u64::MAX >> (64 - width.bits());
        let pages = |side: &Reservation| {
            let pages = side.nr_extents.0.checked_mul(1 << side.extent_order);
            pages.filter(|pages| *pages <= most)
        };
        let (given, wanted) = (pages(input), pages(output));
        let order = from.max(to);
        let inputs = order - from;
        let done =
            nr_exchanged.0 <= input.nr_extents.0 && nr_exchanged.0 & ((1 << inputs) - 1) == 0;
        if !done || given.is_none() || given != wanted || input.domid != output.domid {
            return Err(Errno::EINVAL);
        }
        Ok(Plan {
            inputs,
            outputs: order - to,
            order,
            next: nr_exchanged.0 >> inputs,
            end: input.nr_extents.0 >> inputs,
        })
    }
}

impl Machine {
    /// `exchange`: 0, or what stopped it; `nr_exchanged` says how many input extents were done.
    #[cold]
    #[inline(never)]
    pub(crate) fn exchange<V: Vcpu, H: Host>(
        &self,
        vcpu: &V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        let (at, width) = (call.pointer(1), call.width);
        let arg: Exchange = match self.claim(vcpu, at, width) {
            Ok(arg) => arg,
            Err(errno) => return errno.into(),
        };
        let mut exchanged = arg.nr_exchanged;
        let mut outcome = Outcome::Done(0);
        match Plan::of(&arg, width).and_then(|plan| call.xen.own(arg.input.domid).map(|()| plan)) {
            Ok(plan) if plan.next < plan.end => {
                let (chunks, error) = self.exchange_chunks(vcpu, host, call, &arg, &plan);
                let next = plan.next + chunks;
                exchanged.0 = next << plan.inputs;
                outcome = match error {
                    Some(errno) => errno.into(),
                    None if next < plan.end => Outcome::Again,
                    None => outcome,
                };
            }
            Ok(_) => exchanged = arg.input.nr_extents,
            Err(errno) => outcome = errno.into(),
        }
        // It is the last field in both widths.
        let offset = Exchange::size(width) - Ulong::size(width);
        let told = self.give(vcpu, GuestVirt(at.0.wrapping_add(offset as u64)), width, &exchanged);
        told.map_or_else(Into::into, |()| outcome)
    }

    /// Exchanges some of the chunks that are left; how many, and what stopped it. Neither: the host is asked again.
    fn exchange_chunks<V: Vcpu, H: Host>(
        &self,
        vcpu: &V,
        host: &H,
        call: &Call<'_>,
        arg: &Exchange,
        plan: &Plan,
    ) -> (u64, Option<Errno>) {
        let chunks = (plan.end - plan.next).min(STEP as u64 >> plan.order);
        let (mut given, mut wanted) = (Pages::new(), Pages::new());
        let read = |side: &Reservation, extents: u32, pages: &mut Pages| {
            let (begun, count) = (plan.next << extents, chunks << extents);
            self.read_extents(vcpu, call, side, begun, count, pages) >> extents
        };
        let chunks = read(&arg.input, plan.inputs, &mut given).min(read(
            &arg.output,
            plan.outputs,
            &mut wanted,
        ));
        if chunks == 0 {
            return (0, Some(Errno::EFAULT));
        }
        // A guest's RAM is where it is: pages come to no other places.
        wanted.truncate((chunks as usize) << plan.order);
        let places = wanted.iter().take_while(|at| self.ram.contains(**at, PAGE_SIZE)).count();
        let chunks = places >> plan.order;
        given.truncate(chunks << plan.order);
        wanted.truncate(chunks << plan.order);
        if chunks == 0 {
            return (0, Some(Errno::EINVAL));
        }
        let Some(taken) = self.give_back(call.xen, host, &given, plan.order) else {
            return (0, None);
        };
        if taken == 0 {
            return (0, Some(Errno::EINVAL));
        }
        wanted.truncate(taken);
        // What others have taken from the host meanwhile is not there for this guest.
        let got = self.populate(host, &wanted);
        let error = (got < taken).then_some(Errno::ENOMEM);
        ((got >> plan.order) as u64, error)
    }
}
