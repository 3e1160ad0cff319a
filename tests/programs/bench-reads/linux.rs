//! As much of Linux as the program needs: system calls by their numbers (arch/x86/entry/syscalls),
//! asynchronous I/O (include/uapi/linux/aio_abi.h), and a standard output.

use core::arch::{asm, global_asm};
use core::fmt;

global_asm!(".globl _start", "_start: and rsp, -16", "call bench_start", "ud2");

/// The program begins here.
#[unsafe(no_mangle)]
extern "C" fn bench_start() -> ! {
    sys::exit(crate::main())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = fmt::Write::write_fmt(&mut Out, format_args!("@bench-fail {info}\n"));
    sys::exit(101)
}

/// The TSC.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: Linux lets programs read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Standard output.
pub struct Out;

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        sys::write(text);
        Ok(())
    }
}

/// `struct iocb`.
#[repr(C)]
pub struct Request {
    data: u64,
    key: u32,
    flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    more: [u32; 2],
}
const _: () = assert!(size_of::<Request>() == 64);

impl Request {
    /// Asks for nothing.
    pub const fn new() -> Request {
        Request {
            data: 0,
            key: 0,
            flags: 0,
            opcode: 0,
            priority: 0,
            file: 0,
            buffer: 0,
            bytes: 0,
            offset: 0,
            reserved: 0,
            more: [0; 2],
        }
    }

    /// Asks for a read (IOCB_CMD_PREAD, 0).
    pub fn read(&mut self, file: i64, buffer: usize, bytes: usize, offset: usize) {
        (self.file, self.buffer) = (file as u32, buffer as u64);
        (self.bytes, self.offset) = (bytes as u64, offset as i64);
    }
}

/// `struct io_event`.
#[repr(C)]
pub struct Completion {
    data: u64,
    request: u64,
    /// Bytes read, or the error.
    pub result: i64,
    second: i64,
}

impl Completion {
    /// Of nothing.
    pub const fn new() -> Completion {
        Completion { data: 0, request: 0, result: 0, second: 0 }
    }
}

/// System calls.
pub mod sys {
    use super::*;
    use core::ffi::CStr;

    fn call(number: u64, args: [usize; 5]) -> i64 {
        let result: i64;
        // SAFETY: the callers below pass what the call's page in the manual asks for, with memory of
        // their own that is as large as they say.
        unsafe {
            asm!("syscall", inout("rax") number => result, in("rdi") args[0], in("rsi") args[1],
                in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") 0,
                out("rcx") _, out("r11") _)
        };
        result
    }

    /// Opens a file.
    pub fn open(path: &CStr, flags: usize) -> i64 {
        call(2, [path.as_ptr() as usize, flags, 0, 0, 0])
    }

    /// Reads at an offset.
    pub fn pread(file: i64, buffer: usize, bytes: usize, offset: usize) -> i64 {
        call(17, [file as usize, buffer, bytes, offset, 0])
    }

    /// Writes to standard output.
    pub fn write(text: &str) {
        call(1, [1, text.as_ptr() as usize, text.len(), 0, 0]);
    }

    /// New memory, filled: PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE.
    pub fn map(bytes: usize) -> i64 {
        call(9, [0, bytes, 3, 0x8022, usize::MAX])
    }

    /// Ends the program.
    pub fn exit(status: i32) -> ! {
        loop {
            call(60, [status as usize, 0, 0, 0, 0]);
        }
    }

    /// Sets asynchronous I/O up.
    pub fn io_setup(depth: usize, context: &mut u64) -> i64 {
        call(206, [depth, core::ptr::from_mut(context) as usize, 0, 0, 0])
    }

    /// Starts requests.
    pub fn io_submit(context: u64, list: &[*mut Request]) -> i64 {
        call(209, [context as usize, list.len(), list.as_ptr() as usize, 0, 0])
    }

    /// Waits for as many as fit.
    pub fn io_getevents(context: u64, done: &mut [Completion]) -> i64 {
        let count = done.len();
        call(208, [context as usize, count, count, done.as_mut_ptr() as usize, 0])
    }
}
