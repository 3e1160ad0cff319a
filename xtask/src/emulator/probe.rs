//! Which emulator and which acceleration this machine can really give. KVM is asked by running a
//! boot sector under it: a `/dev/kvm` that exists may still not run guests, or not nest.

use crate::exec::{find, say};
use crate::plan::{Accel, Display, Emulator, Host, Vendor};
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::{Command, Stdio};

/// What a guest of KVM sees.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Kvm {
    /// It runs at all.
    pub runs: bool,
    /// SVM is offered and EFER.SVME can be set.
    pub svm: bool,
    /// VMX is offered.
    pub vmx: bool,
}

/// Real-mode code: CPUID's SVM and VMX bits, EFER.SVME set where there is SVM; the answer goes to
/// QEMU's exit port as 10h | SVM | VMX << 1.
const PROBE: &[u8] = &[
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x80, // mov eax, 80000001h
    0x0f, 0xa2, // cpuid
    0x66, 0xc1, 0xe9, 0x02, // shr ecx, 2
    0x80, 0xe1, 0x01, // and cl, 1
    0x51, // push cx
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
    0x0f, 0xa2, // cpuid
    0x66, 0xc1, 0xe9, 0x05, // shr ecx, 5
    0x58, // pop ax
    0x80, 0xe1, 0x01, // and cl, 1
    0xd0, 0xe1, // shl cl, 1
    0x08, 0xc8, // or al, cl
    0x0c, 0x10, // or al, 10h
    0xa8, 0x01, // test al, 1
    0x74, 0x0f, // jz +15
    0x50, // push ax
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, 0C0000080h (EFER)
    0x0f, 0x32, // rdmsr
    0x80, 0xcc, 0x10, // or ah, 10h (SVME)
    0x0f, 0x30, // wrmsr
    0x58, // pop ax
    0xe6, 0xf4, // out 0F4h, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
];

/// A boot sector of the probe.
fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..PROBE.len()].copy_from_slice(PROBE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Runs the probe under KVM.
pub fn kvm() -> Kvm {
    match run_probe("kvm", "host") {
        Some(status) => decode(status),
        None => Kvm::default(),
    }
}

/// QEMU's exit status is twice the byte plus 1.
fn decode(status: i32) -> Kvm {
    let byte = status >> 1;
    let runs = status & 1 == 1 && byte & !3 == 0x10;
    Kvm { runs, svm: runs && byte & 1 != 0, vmx: runs && byte & 2 != 0 }
}

fn run_probe(accel: &str, cpu: &str) -> Option<i32> {
    if accel == "kvm" && !std::path::Path::new("/dev/kvm").exists() {
        return None;
    }
    let dir = tempfile::tempdir().ok()?;
    let image = dir.path().join("probe");
    fs::write(&image, boot_sector()).ok()?;
    // A KVM that cannot run guests hangs or aborts; either is a "no" after at most 10 s.
    let status = Command::new("timeout")
        .args(["--signal=KILL", "10", "qemu-system-x86_64", "-nodefaults", "-display", "none"])
        .args(["-machine", "pc", "-accel", accel, "-cpu", cpu, "-m", "16", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .arg("-drive")
        .arg(format!("if=ide,format=raw,snapshot=on,file={}", image.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    status.code()
}

/// What `auto` has become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// QEMU or Bochs.
    pub emulator: Emulator,
    /// KVM or TCG; TCG for Bochs, which has neither.
    pub accel: Accel,
    /// SVM or VMX.
    pub vendor: Vendor,
}

/// Refuses what no machine could give, before anything is built or installed for it.
pub fn check(host: &Host) -> Result<()> {
    if host.emulator == Emulator::Bochs && host.accel == Accel::Kvm {
        bail!("--accel kvm is QEMU's: leave out --emulator bochs");
    }
    if host.emulator == Emulator::Bochs && host.vendor == Vendor::Svm {
        bail!("interrupts do not reach guests under SVM in Bochs: use --emulator qemu for svm");
    }
    if host.emulator == Emulator::Bochs && host.display != Display::None {
        bail!(NO_SCREEN);
    }
    if (host.emulator, host.vendor, host.accel) == (Emulator::Qemu, Vendor::Vmx, Accel::Tcg) {
        bail!("{NO_VMX}");
    }
    Ok(())
}

/// Why there is nothing to look at.
pub const NO_SCREEN: &str = "Bochs shows no screen here: leave out --display; Ctrl-A s brings a \
                             guest's text screen to the terminal, --screenshot its picture";

const NO_VMX: &str = "QEMU without KVM has no VMX: use --emulator bochs (or auto) for --vendor vmx";

/// Chooses, and says why when what was asked for cannot be had.
pub fn choose(host: &Host) -> Result<Choice> {
    check(host)?;
    let choice = |emulator, accel, vendor| Ok(Choice { emulator, accel, vendor });
    let wants_kvm = host.accel == Accel::Kvm
        || (host.accel == Accel::Auto
            && host.emulator != Emulator::Bochs
            && host.cpu_model.is_none()
            && !host.icount);
    if host.emulator == Emulator::Bochs {
        return choice(Emulator::Bochs, Accel::Tcg, Vendor::Vmx);
    }
    if wants_kvm && find("qemu-system-x86_64").is_some() {
        let kvm = kvm();
        let vendor = match host.vendor {
            Vendor::Svm | Vendor::Auto if kvm.svm => Some(Vendor::Svm),
            Vendor::Vmx | Vendor::Auto if kvm.vmx => Some(Vendor::Vmx),
            _ => None,
        };
        if let Some(vendor) = vendor {
            say(format!("KVM works here and nests: {}", vendor.name()));
            return choice(Emulator::Qemu, Accel::Kvm, vendor);
        }
        if host.accel == Accel::Kvm {
            bail!("{}", why_not(kvm, host.vendor));
        }
    } else if host.accel == Accel::Kvm {
        return Err(anyhow::anyhow!("qemu-system-x86_64 is not installed")).context("--accel kvm");
    }
    if host.vendor == Vendor::Vmx && host.display != Display::None {
        bail!(NO_SCREEN);
    }
    match (host.vendor, host.emulator) {
        (Vendor::Vmx, Emulator::Qemu) => bail!("{NO_VMX}"),
        (Vendor::Vmx, _) => choice(Emulator::Bochs, Accel::Tcg, Vendor::Vmx),
        _ => choice(Emulator::Qemu, Accel::Tcg, Vendor::Svm),
    }
}

fn why_not(kvm: Kvm, vendor: Vendor) -> String {
    if !kvm.runs {
        return "--accel kvm: KVM does not run guests here (/dev/kvm is missing, not permitted, or \
                does not work)"
            .into();
    }
    let nested = |module: &str| {
        fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).unwrap_or_default()
    };
    format!(
        "--accel kvm: KVM runs guests but offers them no {}: kvm_amd nested={:?}, kvm_intel \
         nested={:?}; load the module with nested=1",
        if vendor == Vendor::Auto { "SVM or VMX" } else { vendor.name() },
        nested("kvm_amd").trim(),
        nested("kvm_intel").trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_fits_a_sector_and_its_answers_are_told_from_a_crash() {
        assert!(PROBE.len() < 510);
        assert_eq!(decode(0x21), Kvm { runs: true, svm: false, vmx: false });
        assert_eq!(decode(0x23), Kvm { runs: true, svm: true, vmx: false });
        assert_eq!(decode(0x25), Kvm { runs: true, svm: false, vmx: true });
        for status in [0, 1, 124, 137, 255] {
            assert!(!decode(status).runs, "{status}");
        }
    }

    #[test]
    fn what_cannot_work_together_is_refused() {
        let host = |vendor, emulator, accel| Host {
            vendor,
            emulator,
            accel,
            cpus: 1,
            display: Display::None,
            icount: false,
            cpu_model: None,
            card: None,
        };
        assert!(choose(&host(Vendor::Svm, Emulator::Bochs, Accel::Auto)).is_err());
        assert!(choose(&host(Vendor::Vmx, Emulator::Qemu, Accel::Tcg)).is_err());
        assert!(choose(&host(Vendor::Auto, Emulator::Bochs, Accel::Kvm)).is_err());
        let seen = |host: Host| choose(&Host { display: Display::Curses, ..host });
        assert!(seen(host(Vendor::Vmx, Emulator::Auto, Accel::Tcg)).is_err());
        assert!(seen(host(Vendor::Auto, Emulator::Bochs, Accel::Auto)).is_err());
        assert!(seen(host(Vendor::Svm, Emulator::Auto, Accel::Tcg)).is_ok());
        let choice = choose(&host(Vendor::Vmx, Emulator::Auto, Accel::Tcg)).unwrap();
        assert_eq!(choice.emulator, Emulator::Bochs);
        let choice = choose(&host(Vendor::Auto, Emulator::Auto, Accel::Tcg)).unwrap();
        assert_eq!((choice.emulator, choice.vendor), (Emulator::Qemu, Vendor::Svm));
    }
}
