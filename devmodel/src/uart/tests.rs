use super::*;
use crate::testing::Rng;

const T0: Nanos = Nanos(1_000);
/// A character of 8N1 at 115,200 Bd.
const CHARACTER: u64 = 10 * 1_000_000_000 / 115_200;

/// 115,200 Bd, 8N1, FIFO on with trigger 14, OUT2 set, `ier`.
fn open(ier: u8) -> Uart {
    let mut uart = Uart::new();
    for (offset, value) in [(3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xC7), (4, 0x0B), (1, ier)] {
        assert_eq!(uart.write(offset, value, T0), None);
    }
    uart
}

#[test]
fn a_byte_written_goes_out_and_the_transmitter_is_empty_again() {
    let mut uart = open(0);
    assert_eq!(uart.write(0, b'x', T0), Some(b'x'));
    assert_eq!(uart.read(5, T0), 0x60);
}

#[test]
fn the_divisor_hides_behind_dlab_and_scratch_keeps_a_byte() {
    let mut uart = Uart::new();
    uart.write(3, 0x83, T0);
    uart.write(0, 0x34, T0);
    uart.write(1, 0x12, T0);
    assert_eq!((uart.read(0, T0), uart.read(1, T0)), (0x34, 0x12));
    uart.write(3, 0x03, T0);
    assert_eq!(uart.read(1, T0), 0);
    uart.write(7, 0xA5, T0);
    assert_eq!(uart.read(7, T0), 0xA5);
}

#[test]
fn enabling_thre_on_an_idle_port_raises_it_and_reading_iir_clears_it() {
    let mut uart = open(0);
    assert!(!uart.irq());
    uart.write(1, 2, T0);
    assert!(uart.irq());
    assert_eq!(uart.read(2, T0), 0xC2);
    assert!(!uart.irq());
    assert_eq!(uart.read(2, T0), 0xC1);
    uart.write(1, 2, T0);
    assert!(!uart.irq(), "writing the same IER again is no edge");
    uart.write(0, b'x', T0);
    assert!(uart.irq(), "each byte sent makes a new one");
}

#[test]
fn iir_does_not_clear_thre_while_it_names_something_better() {
    let mut uart = open(3);
    uart.write(2, 0x01, T0);
    uart.receive(1, T0);
    assert_eq!(uart.read(2, T0), 0xC4);
    uart.read(0, T0);
    assert_eq!(uart.read(2, T0), 0xC2);
    assert_eq!(uart.read(2, T0), 0xC1);
}

#[test]
fn data_available_follows_the_trigger_level_and_timeout_the_clock() {
    let mut uart = open(1);
    for byte in 0..13 {
        assert!(uart.receive(byte, T0));
    }
    assert!(!uart.irq());
    assert_eq!(uart.due(), Some(T0 + 4 * 10 * 1_000_000_000 / 115_200));
    assert!(uart.receive(13, T0));
    assert_eq!(uart.read(2, T0), 0xC4);
    assert_eq!(uart.due(), None);
    assert_eq!(uart.read(0, T0), 0);
    assert!(!uart.irq(), "below the trigger again");
    let later = T0 + 4 * CHARACTER + 4;
    uart.advance(later);
    assert!(uart.irq());
    assert_eq!(uart.read(2, later), 0xCC);
    assert_eq!(uart.read(0, later), 1);
    assert!(!uart.irq(), "a read takes the timeout back");
    assert!(uart.due().is_some(), "and starts it anew");
}

#[test]
fn a_full_fifo_keeps_bytes_back_at_the_host() {
    let mut uart = open(0);
    for byte in 0..16 {
        assert!(uart.receive(byte, T0));
    }
    assert!(!uart.receive(16, T0));
    assert_eq!(uart.room(), 0);
    assert_eq!(uart.read(5, T0), 0x61, "and so there is no overrun");
    for byte in 0..16 {
        assert_eq!(uart.read(0, T0), byte);
    }
    assert_eq!(uart.read(5, T0), 0x60);
}

#[test]
fn the_guest_listens_while_it_wants_an_interrupt_for_input() {
    assert!(open(1).listens());
    assert!(!open(2).listens(), "that is for output");
}

#[test]
fn without_fifo_the_chip_holds_one_byte() {
    let mut uart = open(1);
    uart.write(2, 0, T0);
    assert!(uart.receive(1, T0));
    assert!(!uart.receive(2, T0));
    assert!(uart.irq());
    assert_eq!(uart.read(2, T0), 0x04);
    assert_eq!(uart.read(0, T0), 1);
    assert!(!uart.irq());
}

#[test]
fn loopback_returns_bytes_and_overruns_past_sixteen() {
    // Linux's size_fifo: the FIFO in loopback, more bytes than it can hold, then count.
    let mut uart = open(0);
    uart.write(4, 0x13, T0);
    for byte in 0..=255 {
        assert_eq!(uart.write(0, byte, T0), None);
    }
    let mut count = 0;
    while uart.read(5, T0) & 1 != 0 {
        assert_eq!(uart.read(0, T0), count);
        count += 1;
    }
    assert_eq!(count, 16);
    assert!(!uart.receive(1, T0), "the line is disconnected");
}

#[test]
fn overrun_is_a_line_interrupt_and_reading_lsr_clears_it() {
    let mut uart = open(4);
    uart.write(2, 0, T0);
    uart.write(4, 0x1B, T0);
    uart.write(0, 1, T0);
    uart.write(0, 2, T0);
    uart.write(4, 0x0B, T0);
    assert_eq!(uart.read(2, T0), 0x06);
    assert_eq!(uart.read(5, T0), 0x63);
    assert_eq!(uart.read(5, T0), 0x61);
    assert_eq!(uart.read(0, T0), 2, "a 16450 keeps the newer byte");
}

#[test]
fn a_break_shows_when_its_byte_comes_up() {
    let mut uart = open(4);
    uart.receive(b'a', T0);
    assert!(uart.receive_break(T0));
    assert_eq!(uart.read(5, T0), 0xE1, "an error is somewhere in the FIFO");
    assert!(!uart.irq());
    uart.read(0, T0);
    assert!(uart.irq());
    assert_eq!(uart.read(2, T0), 0xC6);
    assert_eq!(uart.read(5, T0) & 0x11, 0x11);
    assert_eq!(uart.read(0, T0), 0);
}

#[test]
fn modem_changes_set_deltas_and_reading_msr_clears_them() {
    let mut uart = open(8);
    uart.read(6, T0);
    assert!(!uart.irq());
    let ringing = ModemInputs { ring: true, cts: false, ..ModemInputs::CONNECTED };
    uart.set_modem(ringing);
    assert_eq!(uart.read(2, T0), 0xC0);
    assert_eq!(uart.read(6, T0), 0xE1);
    uart.set_modem(ModemInputs { ring: false, ..ringing });
    assert_eq!(uart.read(6, T0), 0xA4, "the trailing edge of the ring");
    assert!(!uart.irq());
}

#[test]
fn out2_gates_the_line_and_loopback_hides_it() {
    let mut uart = open(2);
    assert!(uart.irq());
    uart.write(4, 0x03, T0);
    assert!(!uart.irq());
    uart.write(4, 0x18, T0);
    assert!(!uart.irq());
    uart.write(4, 0x0B, T0);
    assert!(uart.irq() && uart.rts() && uart.dtr());
}

#[test]
fn linux_autoconfig_finds_a_16550a_that_reasserts_thre() {
    let mut uart = Uart::new();
    // autoconfig: only four IER bits may stick.
    uart.write(1, 0, T0);
    assert_eq!(uart.read(1, T0) & 0x0F, 0);
    uart.write(1, 0x0F, T0);
    assert_eq!(uart.read(1, T0), 0x0F);
    uart.write(1, 0, T0);
    // The loopback test: RTS and OUT2 come back as CTS and DCD.
    uart.write(4, 0x1A, T0);
    assert_eq!(uart.read(6, T0) & 0xF0, 0x90);
    uart.write(4, 0, T0);
    // IIR tells a 16550A, which has no EFR in either configuration mode.
    uart.write(2, 0, T0);
    uart.write(3, 0, T0);
    uart.write(2, 1, T0);
    assert_eq!(uart.read(2, T0) >> 6, 3);
    for lcr in [0x80, 0xBF] {
        uart.write(3, lcr, T0);
        assert_ne!(uart.read(2, T0), 0);
    }
    uart.write(3, 0, T0);
    // No Xscale UUE bit.
    uart.write(1, 0x40, T0);
    assert_eq!(uart.read(1, T0), 0);
    // serial8250_do_startup: clear, then the THRE test.
    for offset in [5, 0, 2, 6] {
        uart.read(offset, T0);
    }
    uart.write(3, 3, T0);
    uart.write(1, 2, T0);
    let first = uart.read(2, T0);
    uart.write(1, 0, T0);
    uart.write(1, 2, T0);
    let second = uart.read(2, T0);
    uart.write(1, 0, T0);
    assert_eq!((first, second), (0xC2, 0xC2));
    // The OMAP-style TXEN test: LSR says empty and IIR agrees.
    uart.write(1, 2, T0);
    assert_eq!(uart.read(5, T0) & 0x40, 0x40);
    assert_eq!(uart.read(2, T0) & 1, 0);
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..64 {
        let mut rng = Rng::new(seed);
        let mut uart = Uart::new();
        let mut now = T0;
        for _ in 0..4_000 {
            now = now + rng.below(200_000);
            match rng.below(6) {
                0 | 1 => {
                    let sent = uart.write(rng.byte(), rng.byte(), now);
                    assert!(sent.is_none() || uart.mcr & MCR_LOOP == 0);
                }
                2 => {
                    uart.read(rng.byte(), now);
                }
                3 => {
                    let room = uart.room();
                    assert_eq!(uart.receive(rng.byte(), now), room > 0);
                }
                4 if rng.one_in(10) => {
                    uart.receive_break(now);
                    let ring = rng.one_in(2);
                    uart.set_modem(ModemInputs { ring, ..ModemInputs::CONNECTED });
                }
                _ => {
                    uart.advance(now);
                    assert!(uart.due().is_none_or(|due| due > now));
                }
            }
            assert!(uart.fifo.len() <= uart.depth());
            let mut copy = Uart::new();
            assert_eq!(copy.load(&uart.save()), Ok(()));
            assert_eq!(copy, uart);
        }
    }
}

#[test]
fn load_refuses_what_no_chip_holds() {
    let mut uart = Uart::new();
    let good = uart.save();
    let mut refused = |state| uart.load(&state).unwrap_err();
    assert_eq!(refused(UartState { version: 2, ..good }), LoadError::Version);
    let bad = UartState { received_len: 2, ..good };
    assert_eq!(refused(bad), LoadError::Impossible("received_len"));
    assert_eq!(refused(UartState { msr: 0, ..good }), LoadError::Impossible("msr"));
    assert_eq!(refused(UartState { breaks: 1, ..good }), LoadError::Impossible("breaks"));
    assert_eq!(refused(UartState { trigger: 3, ..good }), LoadError::Impossible("trigger"));
    assert_eq!(refused(UartState { timeout: true, ..good }), LoadError::Impossible("timeout"));
}
