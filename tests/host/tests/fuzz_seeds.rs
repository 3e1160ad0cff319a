//! Every fuzz target on seeded bytes, so that each test run walks through all of them for a moment.
//! `tests/fuzz` has the same entry points for cargo-fuzz.

use host_tests::Rng;
use host_tests::fuzz::{TARGETS, Target, chips::CHIPS, drivers::DRIVERS, xen::XEN};

/// Runs a target on `count` inputs. A failure names its seed. `XENOLITH_FUZZ=50` runs 50 times as
/// many.
fn run(target: &Target, count: u64, longest: u64) {
    let (name, entry) = *target;
    let times = std::env::var("XENOLITH_FUZZ").ok().and_then(|times| times.parse().ok());
    for seed in 0..count * times.unwrap_or(1) {
        let mut rng = Rng::new(seed);
        let len = rng.below(longest) as usize;
        let mut bytes = rng.bytes(len);
        // Runs of small numbers reach further into protocols than noise does.
        if seed % 3 == 0 {
            bytes.iter_mut().for_each(|byte| *byte &= 0x1f);
        }
        let result = std::panic::catch_unwind(|| entry(&bytes));
        assert!(result.is_ok(), "target {name}, seed {seed}");
    }
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.0 == name).expect(name)
}

#[test]
fn no_chip_panics_and_each_loads_what_it_saved() {
    for chip in CHIPS {
        run(chip, 300, 2000);
    }
}

#[test]
fn no_front_end_panics_a_back_end_or_leaves_a_page_pinned() {
    for driver in DRIVERS {
        run(driver, 300, 4000);
    }
}

#[test]
fn no_bytes_executed_as_an_instruction_panic_and_faults_change_nothing() {
    run(target("insn"), 60_000, 260);
}

#[test]
fn no_configuration_panics() {
    run(target("config"), 5_000, 200);
}

#[test]
fn no_sequence_of_accesses_to_the_board_panics() {
    run(target("board"), 80, 8000);
}

#[test]
fn no_exit_with_any_registers_panics() {
    run(target("exits"), 120, 4000);
}

#[test]
fn no_call_of_the_firmware_panics() {
    run(target("bios_call"), 100, 8000);
}

#[test]
fn no_task_switch_panics() {
    run(target("task_switch"), 150, 1400);
}

#[test]
fn no_kernel_for_pvh_panics_and_what_is_taken_lies_in_memory() {
    run(target("pvh_kernel"), 1_000, 400);
}

#[test]
fn nothing_that_a_guest_sends_to_the_store_panics_or_leaves_something() {
    run(target("xenstore"), 150, 6000);
}

#[test]
fn no_front_end_makes_the_bus_panic_or_lose_a_connection() {
    run(target("xenbus"), 100, 3000);
}

#[test]
fn no_event_channel_or_grant_operation_panics_and_dead_domains_leave_nothing() {
    for target in XEN {
        run(target, 200, 8000);
    }
}
