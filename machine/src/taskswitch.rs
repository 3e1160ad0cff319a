//! Hardware task switches, where the CPU leaves them to the hypervisor (VMX).

use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use arch::{Exit, Resume, Vcpu, Why};

impl Machine {
    /// A task switch.
    pub(crate) fn task_switch<V: Vcpu, H: Host>(
        &self,
        _cpu: &mut Cpu,
        _vcpu: &mut V,
        _host: &H,
        _exit: Exit,
    ) -> Resume {
        Resume::Stop(Why::Unhandled(9))
    }
}
