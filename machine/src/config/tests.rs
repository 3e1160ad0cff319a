//! Configurations as people write them, right and wrong.

use super::*;
use std::string::ToString;
use std::vec;

fn good(text: &str) -> GuestConfig {
    let text = std::format!("name = \"t\"\n{text}");
    GuestConfig::parse("t.cfg", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn bad(text: &str) -> std::string::String {
    let text = std::format!("name = \"t\"\n{text}");
    GuestConfig::parse("t.cfg", &text).expect_err(&text).to_string()
}

#[test]
fn a_configuration_as_xl_has_it_is_read_whole() {
    let text = r#"
# A Debian installer.
name    = "debian-12"   ; type = 'hvm'
uuid    = "01234567-89ab-cdef-0123-456789abcdef"
memory  = 1024; maxmem = 0x800
vcpus   = 2
maxvcpus = '4'
cpus    = [ "0-3,^1", 2 ]
disk = [
    'module:debian.iso,raw,hdc,r,devtype=cdrom',  # the CD
    "format=raw, vdev=xvda, access=rw, target=/dev/vda,with,commas",
    "host:1,,sdb,w",
    ',,hdd,cdrom',
]
floppy = [ "module:dos.img,r", "" ]
boot = "dca"
bootmenu = 3000
firmware = "seabios"
serial = [ "none", "pty" ]
vga = "stdvga"
videoram = 8
on_poweroff = "preserve"
on_reboot = "destroy"
on_crash = "coredump-restart"
on_watchdog = "restart"
xen_platform_pci = 0
xen = 0
viridian = 0
hpet = 0
acpi = 0
apic = 1
pae = 1
nx = 0
hap = 1
rtc_timeoffset = -3600
vif = [ 'mac=00:16:3e:01:02:03,bridge=xenbr0,model=e1000,script=vif-bridge', '' ]
cpu_weight = 512
snapshot = 1"#;
    let config = GuestConfig::parse("debian.cfg", text).unwrap();
    assert_eq!(config.name, "debian-12");
    assert_eq!(config.uuid.unwrap()[..4], [0x01, 0x23, 0x45, 0x67]);
    assert_eq!((config.memory_mib, config.max_memory_mib), (1024, 2048));
    assert_eq!((config.vcpus, config.max_vcpus), (2, 4));
    let members = |vcpu: usize| -> Vec<u32> {
        (0..8).filter(|cpu| config.affinity(vcpu).contains(*cpu)).collect()
    };
    assert_eq!((members(0), members(1), members(9)), (vec![0, 2, 3], vec![2], vec![2]));
    let disks: Vec<_> = config
        .disks
        .iter()
        .map(|d| (d.line, d.vdev.slot(), d.cdrom, d.writable, d.target.clone()))
        .collect();
    let module = |name: &str| Target::Module(name.into());
    assert_eq!(
        disks,
        [
            (10, Some(2), true, false, module("debian.iso")),
            (11, Some(0), false, true, Target::HostDevice("vda,with,commas".into())),
            (12, Some(1), false, true, Target::HostDisk(1)),
            (13, Some(3), true, false, Target::Empty),
            (15, Some(4), false, false, module("dos.img")),
            (15, Some(5), false, true, Target::Empty),
        ]
    );
    assert_eq!(config.boot, [BootFrom::Cdrom, BootFrom::Disk, BootFrom::Floppy]);
    assert_eq!(config.boot_menu_ms, 3000);
    assert_eq!(config.firmware, Firmware::SeaBios);
    assert_eq!(config.serial, [Serial::None, Serial::Console]);
    assert_eq!(config.video_mib, 8);
    assert_eq!(
        [config.on_poweroff, config.on_reboot, config.on_crash, config.on_watchdog],
        [Action::Preserve, Action::Destroy, Action::CoredumpRestart, Action::Restart]
    );
    let flags = [
        config.xen_platform_pci,
        config.xen,
        config.hpet,
        config.acpi,
        config.apic,
        config.pae,
        config.nx,
        config.snapshot,
    ];
    assert_eq!(flags, [false, false, false, false, true, true, false, true]);
    assert_eq!(config.rtc_offset_s, -3600);
    assert_eq!(config.vifs[0].mac, Some([0, 0x16, 0x3e, 1, 2, 3]));
    assert_eq!(config.vifs[0].others, [("script".into(), "vif-bridge".into())]);
    assert_eq!(config.vifs[1], VifConfig::default());
    assert_eq!(config.cpu_weight, 512);
    assert_eq!(config.modules().collect::<Vec<_>>(), ["debian.iso", "dos.img"]);
}

#[test]
fn only_a_name_is_needed_and_the_rest_is_as_documented() {
    assert_eq!(good(""), GuestConfig::new("t"));
    let config = GuestConfig::new("t");
    assert_eq!(config.affinity(7), CpuSet::ALL);
    assert_eq!(config.bios_boot_order().len(), 3);
    assert_eq!(
        GuestConfig::parse("t.cfg", "memory = 64").unwrap_err().to_string(),
        "t.cfg: name: missing; a guest needs it"
    );
}

#[test]
fn a_frame_buffer_is_asked_for_in_xls_words_and_a_keyboard_is_there_unless_refused() {
    let config = good("vfb = [ 'type=vnc, vnclisten=0.0.0.0' ]");
    assert!(config.vfb && config.vkb_device);
    let config = good("vfb = [ '' ]\nvkb_device = 0");
    assert!(config.vfb && !config.vkb_device);
    assert!(!good("vfb = []").vfb);
    assert!(bad("vfb = [ 'type=vnc', 'type=sdl' ]").starts_with("t.cfg:2: vfb: "));
    assert!(bad("vfb = [ 'size=large' ]").contains("\"size=large\" is not allowed"));
}

#[test]
fn a_kernel_takes_its_command_line_as_xl_joins_it() {
    let config = good("kernel='vmlinuz'\nramdisk='module:initrd'\nroot='/dev/sda1'\nextra='quiet'");
    assert_eq!(config.cmdline, "root=/dev/sda1 quiet");
    assert_eq!(config.modules().collect::<Vec<_>>(), ["vmlinuz", "initrd"]);
    assert_eq!(good("kernel='k'\ncmdline='a'\ncmdline += ' b'").cmdline, "a b");
    assert_eq!(good("kernel='k'\nroot='r'").cmdline, "root=r");
    assert_eq!(
        bad("kernel='k'\ncmdline='a'\nextra='b'"),
        "t.cfg:3: cmdline: give either cmdline, or root and extra"
    );
    assert_eq!(bad("\nramdisk='x'"), "t.cfg:3: ramdisk: needs kernel");
    assert_eq!(bad("extra='x'"), "t.cfg:2: cmdline: needs kernel");
    assert_eq!(bad("type='pvh'"), "t.cfg: kernel: missing; a guest needs it");
    assert_eq!(bad("type='pvh'\nkernel='k'\nxen=0"), "t.cfg:4: xen: must be 1 with type = \"pvh\"");
}

#[test]
fn viridian_is_a_number_or_a_list_of_groups() {
    assert_eq!(good("viridian = 0").viridian, None);
    assert_eq!(good("viridian = 1").viridian, Some(Groups::DEFAULTS));
    assert_eq!(good("viridian = []").viridian, None);
    assert_eq!(good("viridian = ['!all']").viridian, None);
    let all = good("viridian = ['all', '!crash_ctl']").viridian;
    assert_eq!(all, Some(Groups::all() - Groups::CRASH_CTL));
    let some = good("viridian = [ \"base\", \"reference_tsc\" ]").viridian;
    assert_eq!(some, Some(Groups::BASE | Groups::REFERENCE_TSC));
    assert_eq!(
        bad("viridian = ['base',\n'synic']"),
        "t.cfg:3: viridian: \"synic\" is not allowed; allowed is base, freq, time_ref_count, reference_tsc, \
         apic_assist, crash_ctl, defaults and all"
    );
    assert!(bad("viridian = ['freq']").ends_with("the other groups need \"base\""));
    assert!(bad("viridian = 2").contains("allowed is 0 to 1"));
    assert!(
        bad("type = 'pvh'\nkernel = 'x'\nviridian = 1").contains("t.cfg:4: viridian: not with")
    );
}

#[test]
fn limits_of_xen_s_interface_are_those_of_xl() {
    let limits =
        good("max_event_channels = 1023\nmax_grant_frames = 8\nmax_maptrack_frames = 2").limits;
    assert_eq!((limits.max_port, limits.grant_frames, limits.maps), (1023, 8, 1024));
    assert!(limits.grants_v2 && !good("max_grant_version = 1").limits.grants_v2);
    assert_eq!(good("max_event_channels = 2147483647").limits, Limits::default());
    assert!(bad("max_event_channels = 0").contains("allowed is 1 to"));
    assert!(bad("max_grant_frames = 65").contains("allowed is 1 to 64"));
    assert!(bad("max_maptrack_frames = 65").contains("allowed is 1 to 64"));
    assert!(bad("max_grant_version = 3").contains("allowed is 1 to 2"));
}

#[test]
fn devices_that_another_guest_serves_name_it() {
    let config = good(
        "disk=[ 'backend=storage,vdev=xvdb,access=ro,target=/dev/vg/a,b', 'x,raw,hda,w' ]\n\
         vif=[ 'backend=router,mac=02:00:00:00:00:01', '', 'backend=0' ]",
    );
    let served = &config.disks[0];
    let target = Target::Remote { guest: "storage".into(), params: "/dev/vg/a,b".into() };
    assert_eq!((&served.target, served.writable), (&target, false));
    assert_eq!(served.vdev.xen_disk(), Some((51728, "xvdb".into())));
    assert_eq!(Vdev::Paravirtual(16).xen_disk(), Some((0x1000_1000, "xvdq".into())));
    assert_eq!(Vdev::Floppy(0).xen_disk(), None);
    let old = good("disk=[ 'backend=storage,phy:/dev/vg/a,raw,xvdb,w' ]").disks[0].target.clone();
    assert_eq!(old, Target::Remote { guest: "storage".into(), params: "/dev/vg/a".into() });
    assert_eq!(good("vif=['backend=a,backend=0']").vifs[0].backend, None);
    let backends: Vec<_> = config.vifs.iter().map(|vif| vif.backend.as_deref()).collect();
    assert_eq!(backends, [Some("router"), None, None]);
    let names: Vec<_> = config.backends().collect();
    assert_eq!(names, [("disk", "storage"), ("vif", "router")]);
    for (text, message) in [
        ("vif=['backend=a']\nxen=0", "t.cfg:3: xen: must be 1 with backend="),
        (
            "disk=['backend=a,vdev=hdc,cdrom,target=x']",
            "t.cfg:2: disk: only hard disks can be on another guest's back end",
        ),
        (
            "disk=['backend=a,vdev=xvda']",
            "t.cfg:2: disk: expected target=, what the other guest serves, such as /dev/xvdb",
        ),
        (
            "disk=['backend=,vdev=xvda,target=x']",
            "t.cfg:2: disk: expected backend=, the name of another guest",
        ),
        (
            "vif=['backend=']",
            "t.cfg:2: vif: \"\" is not allowed; allowed is backend=, the name of another guest",
        ),
    ] {
        assert_eq!(bad(text), message, "{text}");
    }
}

#[test]
fn old_forms_of_disks_are_read() {
    let disk = |spec: &str| good(&std::format!("disk=[ '{spec}' ]")).disks[0].clone();
    let old = disk("file:/images/x.iso,hdc:cdrom,r");
    assert_eq!((old.cdrom, old.target), (true, Target::Module("/images/x.iso".into())));
    let old = disk("phy:/dev/sdb,xvdb,ro");
    assert_eq!((old.writable, old.target), (false, Target::HostDevice("sdb".into())));
    assert_eq!(disk("vdev=hda,target=a=b.img").target, Target::Module("a=b.img".into()));
    assert_eq!(disk("a,raw,xvde,rw").vdev, Vdev::Paravirtual(4));
    assert_eq!(disk("a,raw,xvde,rw").vdev.slot(), None);
    assert!(disk("empty.iso,empty,hdc,r,cdrom").target == Target::Empty);
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    assert_eq!(bad("vcpu = 2"), "t.cfg:2: vcpu: unknown key; did you mean vcpus?");
    assert_eq!(bad("\n\nMemory = 2"), "t.cfg:4: Memory: unknown key; did you mean memory?");
    let message = bad("flavour = 'x'");
    assert!(message.starts_with("t.cfg:2: flavour: unknown key; allowed are name, type,"));
    assert!(message.contains(", on_crash, "));
    assert_eq!(
        bad("vnc = 1"),
        "t.cfg:2: vnc: a key of xl that is not used here: the guest's screen is the hypervisor's"
    );
}

#[test]
fn a_key_of_xl_that_switches_off_what_is_not_there_is_no_fault() {
    let config = good("vnc = 0\nnestedhvm = \"0\"\npci = [ ]\nusbdevice = ''\nvcpus = 2");
    assert_eq!(config.vcpus, 2);
    assert!(bad("nestedhvm = 1").ends_with("not used here: not offered"));
    assert!(bad("pci = [ '01:00.0' ]").contains("host devices are not passed through"));
    assert!(bad("flavour = 0").contains("unknown key"), "a slip is one, whatever it says");
}

#[test]
fn wrong_values_are_refused_with_what_is_allowed() {
    for (text, message) in [
        ("memory = 0", "t.cfg:2: memory: allowed is 1 to 1048576 MiB"),
        ("memory = 99999999999999999999", "t.cfg:2: memory: allowed is 1 to 1048576 MiB"),
        ("memory = '1G'", "t.cfg:2: memory: expected a number"),
        ("memory = 0x", "t.cfg:2: memory: expected a number"),
        ("memory = 08", "t.cfg:2: memory: expected a number"),
        ("memory = [ 1 ]", "t.cfg:2: memory: expected a number"),
        ("vcpus = 0", "t.cfg:2: vcpus: allowed is 1 to 64"),
        ("vcpus = 1000", "t.cfg:2: vcpus: allowed is 1 to 64"),
        ("vcpus = -1", "t.cfg:2: vcpus: allowed is 1 to 64"),
        ("vcpus=4\nmaxvcpus=2", "t.cfg:3: maxvcpus: less than vcpus"),
        ("memory=4\nmaxmem=2", "t.cfg:3: maxmem: less than memory"),
        ("name = 't'", "t.cfg:2: name: given twice; first on line 1"),
        ("hpet = 2", "t.cfg:2: hpet: allowed is 0 to 1"),
        ("hap = 0", "t.cfg:2: hap: allowed is 1: guests always run on EPT or NPT"),
        (
            "boot = 'dd'",
            "t.cfg:2: boot: \"dd\" is not allowed; allowed is letters of a (floppy), \
                         c (disk), d (CD-ROM) and n (network), each once",
        ),
        ("videoram = 33", "t.cfg:2: videoram: allowed is 1 to 32 MiB"),
        (
            "videoram = 3",
            "t.cfg:2: videoram: \"3\" is not allowed; allowed is 1, 2, 4, 8, 16 or 32 \
                          MiB",
        ),
        (
            "vga = 'cirrus'",
            "t.cfg:2: vga: \"cirrus\" is not allowed; allowed is \"stdvga\": it is part of the \
             board",
        ),
        ("stdvga = 0", "t.cfg:2: stdvga: allowed is 1: there is no other display"),
        ("serial = ['pty','pty']", "t.cfg:2: serial: only one port can lead to the console"),
        (
            "type = 'hwm'",
            "t.cfg:2: type: \"hwm\" is not allowed; did you mean \"hvm\"?; allowed is \
                          \"hvm\" or \"pvh\"",
        ),
        (
            "firmware = 'seabois'",
            "t.cfg:2: firmware: \"seabois\" is not allowed; did you mean \
                                  \"seabios\"?; allowed is \"xenolith\", \"seabios\", \"ovmf\" or \
                                  a boot module's name",
        ),
        (
            "firmware='ovmf'\nbios='ovmf'",
            "t.cfg:3: bios: give one of firmware, bios and \
                                          firmware_override",
        ),
        ("disk = 'x'", "t.cfg:2: disk: expected a list, as in [ \"…\" ]"),
        ("disk = [\n'a,raw,hda',\n'b,raw,xvda' ]", "t.cfg:4: disk: two drives at hda"),
        ("disk = [ '\n' ]", "t.cfg:2: disk: expected the closing quote on the same line"),
        (
            "disk = [ 'a,qcow2,hda' ]",
            "t.cfg:2: disk: \"qcow2\" is not allowed; allowed is raw \
                                      (other image formats are converted with qemu-img convert)",
        ),
        ("disk = [ 'a' ]", "t.cfg:2: disk: expected vdev=, the place of the drive, such as hda"),
        (
            "disk = [ ',,hda' ]",
            "t.cfg:2: disk: expected target=; only CD-ROM and floppy drives \
                                may be empty",
        ),
        (
            "disk = [ 'a,raw,hde' ]",
            "t.cfg:2: disk: \"hde\" is not allowed; allowed is hda to hdd, \
                                    xvda to xvdz, sda to sdd, fda or fdb",
        ),
        (
            "serial = 'tcp:1'",
            "t.cfg:2: serial: \"tcp:1\" is not allowed; allowed is \"pty\" (the \
                              console) or \"none\"",
        ),
        (
            "vif = [ 'mac=1' ]",
            "t.cfg:2: vif: \"1\" is not allowed; allowed is \
                               mac=XX:XX:XX:XX:XX:XX, the first byte even",
        ),
        (
            "cpus = '3-1'",
            "t.cfg:2: cpus: \"3-1\" is not allowed; allowed is all, or numbers from \
                          0 to 255 as in 0-3,5,^1",
        ),
        (
            "localtime=1\nrtc_timeoffset=5",
            "t.cfg:2: localtime: give either localtime or \
                                           rtc_timeoffset",
        ),
    ] {
        assert_eq!(bad(text), message, "{text}");
    }
}

#[test]
fn broken_syntax_is_refused_where_it_breaks() {
    for (text, message) in [
        ("vcpus 2", "t.cfg:2: vcpus: expected = after the key"),
        ("vcpus = 2 memory = 3", "t.cfg:2: vcpus: expected the end of the line, or ;"),
        ("= 3", "t.cfg:2: expected a key, as in vcpus = 2"),
        ("vcpus =", "t.cfg:2: vcpus: expected a number, a string in quotes, or a list in [ ]"),
        ("type = hvm", "t.cfg:2: type: expected a number, a list, or a word in quotes"),
        ("disk = [ 'a'", "t.cfg:2: disk: expected , or ] after the list's element"),
        ("disk = [\n\n['a'] ]", "t.cfg:4: disk: expected a string or a number in the list"),
        (
            "extra = 'a\\q'",
            "t.cfg:2: extra: expected \\, a quote, n, r, t or xHH after the \
                            backslash",
        ),
        ("disk += 3\ndisk += ['a']", "t.cfg:3: disk: expected a string after +="),
    ] {
        assert_eq!(bad(text), message, "{text}");
    }
}

#[test]
fn a_message_is_one_line_without_control_characters() {
    for text in ["type = '\\x1b[2J\\n'", "boot = '\\n\\n'", "disk=[ '\\n,\\x07,hda' ]"] {
        assert!(!bad(text).chars().any(char::is_control), "{text}");
    }
}

#[test]
fn no_text_panics() {
    // xorshift64*: deterministic, and the seed of a failure is its message.
    let pieces = [
        "name",
        "disk",
        "=",
        "+=",
        "[",
        "]",
        ",",
        "'",
        "\"",
        "\n",
        ";",
        "#",
        "\\",
        "0x",
        "-",
        "9",
        "vcpus",
        "memory",
        "cpus",
        "^",
        "all",
        "hda",
        "raw",
        "target=",
        "module:",
        "host:",
        "/dev/",
        "uuid",
        "\u{e9}",
        "\u{1f5ff}",
        "boot",
        "floppy",
        "firmware",
        "vif",
        "mac=",
        ":",
        "\r",
        "\t",
        " ",
        "0",
        "18446744073709551616",
        "\\x",
        "cdrom",
        "serial",
    ];
    for seed in 1..4000u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
        };
        let mut text = std::string::String::new();
        for _ in 0..next() % 40 {
            match next() % 5 {
                0 => text.push(char::from(next() as u8)),
                _ => text.push_str(pieces[next() as usize % pieces.len()]),
            }
        }
        if let Err(error) = GuestConfig::parse("seed", &text) {
            assert!(!error.to_string().contains('\n'), "seed {seed}");
        }
    }
}

#[test]
fn a_disk_that_one_guest_writes_is_no_other_guests() {
    let number = |target: &Target| match target {
        Target::HostDisk(number) => Some(*number as usize),
        Target::HostDevice(name) => (name == "vda").then_some(0),
        _ => None,
    };
    let contends = |a: &str, b: &str| {
        let (a, b) = (good(a), good(b));
        let both = (a.contends(&b, number), b.contends(&a, number));
        assert_eq!(both.0, both.1);
        both.0
    };
    let (reads, writes) = ("disk=['phy:/dev/vda,hda,r']", "disk=['module:x,hda,w','host:0,hdb,w']");
    assert_eq!(contends(reads, reads), None);
    assert_eq!(contends(writes, reads), Some(0));
    assert_eq!(contends(writes, writes), Some(0));
    assert_eq!(contends(writes, "disk=['module:x,hda,w','host:1,hdb,w']"), None);
    let thrown = "disk=['host:0,hda,w']\nsnapshot=1";
    assert_eq!(contends(thrown, thrown), None);
    assert_eq!(contends(thrown, writes), Some(0), "it would see the other's writes");
}
