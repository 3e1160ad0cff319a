//! Starts the guests. Until there are any it says so and stops.

use crate::boot::Boot;
use crate::cpu::power::{self, Code};

/// Runs what the command line and the modules ask for; ends the machine when all is over.
pub fn run(boot: &Boot) -> ! {
    log::info!("no guests ({} boot modules)", boot.modules.len());
    power::stop(Code::Clean)
}
