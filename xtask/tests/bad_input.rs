//! What a person can get wrong at `cargo xtask run` gets a message that says what is wrong and what is
//! allowed, and exit status 2, before anything is built, installed or started.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs xtask; gives its exit status and what it said.
fn xtask(args: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).output().expect("xtask starts");
    let words = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    (output.status.code(), words)
}

/// `run --offline` with these options is refused as wrong usage, in words that hold `wanted`.
fn refused(args: &[&str], wanted: &str) {
    let (status, words) = xtask(&[&["run", "--offline"], args].concat());
    assert_eq!(status, Some(2), "{args:?}: {words}");
    assert!(words.contains(wanted), "{args:?}: {words}");
    assert!(!words.contains("panicked"), "{args:?}: {words}");
}

fn file(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("a file in a fresh directory");
    path.display().to_string()
}

#[test]
fn missing_empty_truncated_and_unbootable_media_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let empty = file(dir.path(), "empty", b"");
    let short = file(dir.path(), "short", &[0; 100]);
    let zeros = file(dir.path(), "zeros", &[0; 65_536]);
    refused(&["--iso", "/nowhere/x.iso"], "cannot be opened");
    refused(&["--iso", &empty], "is empty");
    refused(&["--iso", &short], "truncated");
    refused(&["--iso", &zeros], "no ISO 9660");
    refused(&["--iso", &dir.path().display().to_string()], "is a directory");
    refused(&["--disk", &empty], "is empty");
    refused(&["--disk", &short], "truncated");
    refused(&["--disk", &zeros], "not bootable");
    refused(&["--floppy", &short], "truncated");
    refused(&["--kernel", &zeros], "no Linux kernel");
    refused(&["--kernel", &zeros, "--pvh"], "no ELF executable");
    refused(&["--kernel", &zeros, "--pvh", "--iso", "x.iso"], "cannot be opened");
    refused(&["--pvh"], "--kernel");
    let qcow = file(dir.path(), "q", &[b"QFI\xfb".as_slice(), &[0; 600]].concat());
    refused(&["--disk", &qcow], "qemu-img convert");
    let mut bootable = vec![0; 65_536];
    bootable[510..512].copy_from_slice(&[0x55, 0xaa]);
    let disk = file(dir.path(), "disk", &bootable);
    refused(&["--disk", &disk, "--firmware", &short], "a power of two");
    refused(&["--disk", &disk, "--medium", "/nowhere/y.iso"], "cannot be opened");
    refused(&["--disk", &disk, "--medium", &zeros], "no ISO 9660");
}

#[test]
fn memory_and_vcpus_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut bootable = vec![0; 65_536];
    bootable[510..512].copy_from_slice(&[0x55, 0xaa]);
    let disk = file(dir.path(), "disk", &bootable);
    refused(&["--disk", &disk, "--memory", "0"], "too little");
    refused(&["--disk", &disk, "--memory", "1"], "too little");
    refused(&["--disk", &disk, "--memory", "99999999"], "do not fit");
    refused(&["--disk", &disk, "--vcpus", "0"], "allowed is 1 to 64");
    refused(&["--disk", &disk, "--vcpus", "1000"], "allowed is 1 to 64");
    refused(&["--disk", &disk, "--host-cpus", "0"], "allowed is 1 to 64");
    refused(&["--disk", &disk, "--memory", "many"], "invalid value");
    refused(&["--disk", &disk, "--timeout", "0"], "--timeout 0");
    refused(&["--disk", &disk, "--until", ""], "--until needs a text");
    refused(&["--disk", &disk, "--keys", "ctrl-nothing"], "nothing");
}

#[test]
fn what_a_run_cannot_give_is_refused_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut bootable = vec![0; 65_536];
    bootable[510..512].copy_from_slice(&[0x55, 0xaa]);
    let disk = file(dir.path(), "disk", &bootable);
    for option in ["--serial-log", "--screen-text", "--screenshot"] {
        refused(&["--disk", &disk, option, "/nowhere/x"], &format!("{option} /nowhere/x: "));
    }
    let log = dir.path().join("log");
    refused(&["--disk", &disk, "--serial-log", &log.display().to_string(), "--vcpus", "0"], "1 to");
    assert!(!log.exists());
    refused(&["--disk", &disk, "--hypervisor", "/nowhere/x"], "cannot be read");
    refused(&["--disk", &disk, "--hypervisor", &disk], "no image of the hypervisor");
    refused(&["--disk", &disk, "--emulator", "bochs", "--vendor", "svm"], "use --emulator qemu");
    refused(&["--disk", &disk, "--emulator", "bochs", "--accel", "kvm"], "leave out --emulator");
    let vmx = ["--vendor", "vmx", "--emulator", "qemu", "--accel", "tcg"];
    refused(&[&["--disk", &disk], &vmx[..]].concat(), "use --emulator bochs");
    refused(&["--disk", &disk, "--wait", "-1"], "--wait -1: give a number");
    refused(&["--disk", &disk, "--vcpus", "-1"], "invalid value '-1'");
}

#[test]
fn a_wrong_configuration_is_refused_with_file_line_and_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let config = |text: &str| file(dir.path(), "a.cfg", text.as_bytes());
    for (text, wanted) in [
        ("memory = 64\nvcpu = 2\n", "a.cfg:2: vcpu: unknown key; did you mean vcpus?"),
        ("memory = 0\n", "a.cfg:1: memory: allowed is 1 to"),
        ("\nvcpus = 1000\n", "a.cfg:2: vcpus: allowed is 1 to 64"),
        ("disk = [ 'a.iso,hdc:cdrom,r'\n", "a.cfg:"),
        ("on_crash = 'explode'\n", "\"preserve\""),
        ("memory = 64\n", "nothing to boot"),
        ("disk = [ 'nowhere.iso,hdc:cdrom,r' ]\n", "cannot be opened"),
        ("disk = [ 'phy:/dev/sda,hda,w' ]\n", "name an image file"),
        ("\u{0}\n", "a.cfg:1:"),
        ("vcpus = 4\nmaxvcpus = 2\n", "a.cfg:2: maxvcpus: less than vcpus"),
        ("serial = [ 'pty', 'pty' ]\n", "a.cfg:1: serial: only one port"),
        ("vga = 'none'\n", "\"stdvga\": it is part of the board"),
    ] {
        refused(&["--guest", &config(text)], wanted);
    }
    refused(&["--guest", "/nowhere/a.cfg"], "cannot be read");
    let one = config("memory = 64\nname = 'x'\n");
    refused(&["--guest", &one, "--guest", &one], "two guests are called x");
    refused(&["--guest", &one, "--iso", "x.iso"], "leave out --iso");
    let mut bootable = vec![0; 65_536];
    bootable[510..512].copy_from_slice(&[0x55, 0xaa]);
    let disk = file(dir.path(), "disk", &bootable);
    let guest = |name: &str, mode: &str| {
        let text = format!("name = '{name}'\nmemory = 16\ndisk = [ '{disk},hda,{mode}' ]\n");
        file(dir.path(), &format!("{name}.cfg"), text.as_bytes())
    };
    let (writer, reader) = (guest("writer", "w"), guest("reader", "r"));
    refused(&["--guest", &writer, "--guest", &reader], "guests writer and reader have the disk");
}
