//! The page of a console. Xen public "io/console.h" (`struct xencons_interface`).

/// Bytes of the ring towards the front end, from offset 0.
pub const IN_BYTES: u32 = 1024;
/// Where the ring from the front end lies.
pub const OUT: usize = 1024;
/// Its bytes.
pub const OUT_BYTES: u32 = 2048;
/// What the front end has read.
pub const IN_CONS: usize = 3072;
/// What the back end has written.
pub const IN_PROD: usize = 3076;
/// What the back end has read.
pub const OUT_CONS: usize = 3080;
/// What the front end has written.
pub const OUT_PROD: usize = 3084;
/// 1 while nobody reads the console, 0 when somebody does.
pub const CONNECTION: usize = 3088;
