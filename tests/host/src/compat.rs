//! A 32-bit kernel at Xen's interface, with arguments laid out by hand: bytes as Xen's public headers give them to
//! i386, not our own types. Upper halves of registers hold rubbish, and what lies behind an argument is watched.

use crate::{Guest, Mode, Setup};
use arch::control::{cr0, cr4};
use arch::{Exit, Gpr, GuestPhys, SysReg, Vcpu};
use machine::xen::Hub;
use pvdrivers::abi::Hypercall;
use pvdrivers::{DomId, Errno};

/// Where [`Compat::with`] puts arguments: neither they nor what watches them leaves a page.
pub const ARG: u32 = 0x20_0104;
/// Room for lists and buffers.
pub const LIST: u32 = 0x22_0000;
/// No RAM is here.
pub const HOLE: u32 = 0xd000_0000;
/// Bytes of RAM.
pub const RAM: u32 = 8 << 20;
/// `DOMID_SELF`.
pub const SELF: u64 = 0x7ff0;

/// What stands behind arguments.
const WATCH: [u8; 24] = [0xa5; 24];
/// What 32-bit code cannot see of a register.
const UPPER: u64 = 0xdead_beef_0000_0000;
/// Arguments 0 to 4, in Xen's order.
const ARGUMENTS: [Gpr; 5] = [Gpr::Rbx, Gpr::Rcx, Gpr::Rdx, Gpr::Rsi, Gpr::Rdi];

/// Fields one behind the other, each of so many bytes.
#[must_use]
pub fn fields(list: &[(usize, u64)]) -> Vec<u8> {
    list.iter().flat_map(|(size, value)| value.to_le_bytes().into_iter().take(*size)).collect()
}

/// The error's number as a 32-bit kernel sees it.
#[must_use]
pub fn error(errno: Errno) -> i32 {
    errno.code() as i32
}

/// A kernel in protected mode.
pub struct Compat {
    /// Its computer.
    pub guest: Box<Guest>,
    /// Exits that the last call took.
    pub exits: u32,
}

impl Compat {
    /// One of two vCPUs; the second one is not started.
    #[must_use]
    pub fn new() -> Compat {
        Compat::of(Setup { xen: true, ..Setup::default() })
    }

    /// Domain `dom` among those of a hub.
    #[must_use]
    pub fn among(dom: u16, hub: &'static Hub) -> Compat {
        Compat::of(Setup { domain: Some((DomId(dom), hub)), ..Setup::default() })
    }

    fn of(setup: Setup) -> Compat {
        let mut guest = Box::new(Guest::with(Setup { low: RAM.into(), vcpus: 2, ..setup }));
        guest.set_mode(0, Mode::Protected);
        Compat { guest, exits: 0 }
    }

    /// Registers as before a call with its arguments in EBX, ECX and so on.
    pub fn begin(&mut self, number: Hypercall, args: &[u32]) {
        let vcpu = &mut self.guest.vcpus[0];
        for gpr in Gpr::ALL {
            vcpu.gprs.set(gpr, UPPER | (0x1111_1111 * (gpr as u64 & 7)));
        }
        vcpu.gprs.set_rsp(0x7000);
        vcpu.gprs.set_rax(UPPER | number.0);
        for (gpr, arg) in ARGUMENTS.into_iter().zip(args) {
            vcpu.gprs.set(gpr, UPPER | u64::from(*arg));
        }
        vcpu.next_rip = Some(vcpu.rip + 3);
    }

    /// Makes a call, as often as it goes on. EAX as the call left it.
    pub fn call(&mut self, number: Hypercall, args: &[u32]) -> i32 {
        self.begin(number, args);
        let (rip, ebp) = (self.guest.vcpus[0].rip, self.guest.vcpus[0].gprs.rbp());
        self.exits = 0;
        while self.guest.vcpus[0].rip == rip {
            assert_eq!(self.guest.exit(Exit::Hypercall), None);
            self.exits += 1;
            assert!(self.exits < 100, "it goes on for ever");
        }
        let vcpu = &mut self.guest.vcpus[0];
        vcpu.rip = rip;
        assert_eq!((vcpu.gprs.rbp(), vcpu.gprs.rsp()), (ebp, 0x7000), "not Xen's to change");
        let rax = vcpu.gprs.rax();
        assert_eq!(rax >> 32, 0, "EAX alone is written");
        rax as u32 as i32
    }

    /// A call whose last argument points to these bytes. The result, and the bytes as the call left them.
    pub fn with(&mut self, number: Hypercall, args: &[u32], bytes: &[u8]) -> (i32, Vec<u8>) {
        self.put(ARG, &[bytes, &WATCH].concat());
        let mut all = args.to_vec();
        all.push(ARG);
        let result = self.call(number, &all);
        (result, self.left(bytes.len()))
    }

    /// As [`with`](Compat::with), of a list of `count` arguments of `grant_table_op`.
    pub fn grants(&mut self, op: u32, bytes: &[u8], count: u32) -> (i32, Vec<u8>) {
        self.put(ARG, &[bytes, &WATCH].concat());
        let result = self.call(Hypercall::GRANT_TABLE_OP, &[op, ARG, count]);
        (result, self.left(bytes.len()))
    }

    /// The argument as a call left it; nothing behind it may have changed.
    #[must_use]
    pub fn left(&self, len: usize) -> Vec<u8> {
        let all = self.get(ARG, len + WATCH.len());
        assert_eq!(all[len..], WATCH, "bytes behind the argument");
        all[..len].to_vec()
    }

    /// Writes memory.
    pub fn put(&self, at: u32, bytes: &[u8]) {
        self.guest.machine.ram.write_slice(GuestPhys(at.into()), bytes).expect("RAM");
    }

    /// Reads memory.
    #[must_use]
    pub fn get(&self, at: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.guest.machine.ram.read(GuestPhys(at.into()), &mut bytes).expect("RAM");
        bytes
    }

    /// Reads up to eight bytes.
    #[must_use]
    pub fn load(&self, at: u32, bytes: u8) -> u64 {
        self.guest.load(at.into(), bytes)
    }

    /// Switches paging on, without PAE: 8 MiB are where they are; from there on come single pages, these; and at the very
    /// end of the addresses the page `last`. All by their physical addresses.
    pub fn paged(&mut self, pages: &[u32], last: u32) {
        let (directory, tables) = (0x60_0000, [0x60_1000, 0x60_2000]);
        self.words(directory, [0x83, 0x40_0083, tables[0] | 3]);
        self.words(directory + 0xffc, [tables[1] | 3]);
        self.words(tables[0], pages.iter().map(|page| page | 3));
        self.words(tables[1] + 0xffc, [last | 3]);
        let vcpu = &mut self.guest.vcpus[0];
        vcpu.set_reg(SysReg::Cr3, directory.into());
        vcpu.set_reg(SysReg::Cr4, cr4::PSE);
        vcpu.set_reg(SysReg::Cr0, cr0::ET | cr0::PE | cr0::PG);
    }

    /// Writes a list of frame numbers or other words at `at`.
    pub fn words(&self, at: u32, list: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = list.into_iter().flat_map(u32::to_le_bytes).collect();
        self.put(at, &bytes);
    }

    /// Maps the shared info page at `frame`.
    pub fn map_shared_info(&mut self, frame: u32) {
        let arg = fields(&[(2, SELF), (2, 0), (4, 0), (4, 0), (4, frame.into())]);
        assert_eq!(self.with(Hypercall::MEMORY_OP, &[7], &arg), (0, arg));
    }
}

impl Default for Compat {
    fn default() -> Compat {
        Compat::new()
    }
}
