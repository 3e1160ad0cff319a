//! How does a whole console driver work? Output as `xen-hello` has it, input from the other ring, and sleep until there
//! is some. It echoes lines; `quit` ends it.

#![no_std]
#![no_main]

use core::sync::atomic::{Ordering, fence};
use support::xen::{self, param};
use support::{guest, mem, println};

guest!("xen-console", main);

/// `struct xencons_interface`: input of 1 KiB at 0, output of 2 KiB behind it, then the indices of both.
const IN_SIZE: u32 = 1024;
const OUT: usize = 1024;
const OUT_SIZE: u32 = 2048;
const IN_CONS: usize = 3072;
const IN_PROD: usize = 3076;
const OUT_CONS: usize = 3080;
const OUT_PROD: usize = 3084;

/// The driver: its page, and its port.
struct Console {
    page: usize,
    port: u32,
}

impl Console {
    fn open() -> Console {
        let page = (xen::get_param(param::CONSOLE_PFN) << 12) as usize;
        let port = xen::get_param(param::CONSOLE_EVTCHN) as u32;
        assert!(page != 0 && port != 0, "no console");
        // It is polled: nobody wants an upcall for it.
        xen::mask(port);
        Console { page, port }
    }

    fn index(&self, at: usize) -> u32 {
        mem::read(self.page + at)
    }

    /// Sleeps until the back end rings: it has taken output, or brought input.
    fn wait(&self) {
        assert_eq!(xen::poll(self.port, 0), 0);
        xen::take(self.port);
    }

    fn write(&self, text: &[u8]) {
        for byte in text {
            let prod = self.index(OUT_PROD);
            while prod.wrapping_sub(self.index(OUT_CONS)) >= OUT_SIZE {
                xen::send(self.port);
            }
            mem::write(self.page + OUT + (prod % OUT_SIZE) as usize, *byte);
            // The byte before the index.
            fence(Ordering::SeqCst);
            mem::write(self.page + OUT_PROD, prod.wrapping_add(1));
        }
        xen::send(self.port);
    }

    /// Takes one byte; sleeps where there is none.
    fn read(&self) -> u8 {
        let cons = self.index(IN_CONS);
        while self.index(IN_PROD) == cons {
            self.wait();
        }
        assert!(self.index(IN_PROD).wrapping_sub(cons) <= IN_SIZE, "more than the ring holds");
        // The index before the byte.
        fence(Ordering::SeqCst);
        let byte = mem::read(self.page + (cons % IN_SIZE) as usize);
        fence(Ordering::SeqCst);
        mem::write(self.page + IN_CONS, cons.wrapping_add(1));
        // The back end may wait for room.
        xen::send(self.port);
        byte
    }

    /// A line without its end, as long as the buffer at most.
    fn line<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        let mut len = 0;
        loop {
            match self.read() {
                b'\r' | b'\n' if len == 0 => {}
                b'\r' | b'\n' => return &buffer[..len],
                byte if len < buffer.len() => {
                    buffer[len] = byte;
                    len += 1;
                }
                _ => {}
            }
        }
    }
}

fn main() {
    xen::init();
    let console = Console::open();
    let mut lines = 0;
    let mut buffer = [0; 4096];
    loop {
        console.write(b"xen-console: type a line, or quit\r\n");
        let line = console.line(&mut buffer);
        if line == b"quit" {
            break;
        }
        lines += 1;
        // From both ends, so that a byte that is lost or comes twice shows.
        console.write(b"xen-console: read ");
        console.write(line);
        console.write(b", backwards ");
        line.iter().rev().for_each(|byte| console.write(&[*byte]));
        console.write(b"\r\n");
    }
    println!("{lines} lines");
}
