//! How memory is touched: for the guest's own page walk and for second-level faults.

use bitflags::bitflags;

bitflags! {
    /// What an access does and on whose behalf.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Access: u8 {
        /// Reads data. The default where nothing else is set.
        const READ = 1;
        /// Writes data.
        const WRITE = 2;
        /// Fetches an instruction.
        const EXEC = 4;
        /// At CPL 3.
        const USER = 8;
        /// By the processor itself while it walks the guest's page tables.
        const WALK = 16;
    }
}

bitflags! {
    /// What a second-level mapping allows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Perm: u8 {
        /// Reads.
        const R = 1;
        /// Writes.
        const W = 2;
        /// Instruction fetches.
        const X = 4;
        /// Everything.
        const RWX = 7;
        /// Everything but writes.
        const RX = 5;
    }
}
