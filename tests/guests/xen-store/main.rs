//! How does a guest read and write XenStore? Its own name and number, a key of its own, its
//! devices, a watch, and which domains there are.

#![no_std]
#![no_main]

use support::xenstore::Store;
use support::{guest, println, xen};

guest!("xen-store", main);

/// Domains that are looked for.
const DOMAINS: u16 = 16;

/// A path that begins at `/local/domain/NUMBER/name`, in a buffer.
fn path_of(domid: u16, buffer: &mut [u8; 32]) -> &str {
    let mut len = 0;
    let mut put = |text: &[u8]| {
        buffer[len..len + text.len()].copy_from_slice(text);
        len += text.len();
    };
    put(b"/local/domain/");
    let digits = [domid / 100 % 10, domid / 10 % 10, domid % 10].map(|digit| b'0' + digit as u8);
    let skip = if domid >= 100 { 0 } else { 2 - usize::from(domid >= 10) };
    put(&digits[skip..]);
    put(b"/name");
    core::str::from_utf8(&buffer[..len]).expect("digits")
}

/// What is named relatively lies below the guest's own `/local/domain/NUMBER`.
fn own_nodes(store: &mut Store, domid: u16) {
    let told = store.read("domid").expect("domid");
    println!("domid {told}");
    assert_eq!(told.parse(), Ok(domid), "CPUID and store agree");
    println!("name {}", store.read("name").expect("name"));
    println!("vm {}", store.read("vm").expect("vm"));
    let devices = store.list("device").expect("device");
    devices.split_terminator('\0').for_each(|name| println!("device/{name}"));
}

fn own_keys(store: &mut Store) {
    assert_eq!(store.read("data/exercise"), Err("ENOENT"));
    store.write("data/exercise", "hello").expect("write");
    assert_eq!(store.read("data/exercise"), Ok("hello"));
    // Longer than the ring.
    let long = core::str::from_utf8(&[b'x'; 2000]).expect("text");
    store.write("data/exercise", long).expect("a long write");
    assert_eq!(store.read("data/exercise"), Ok(long));
    assert!(store.list("data").expect("data").split('\0').any(|name| name == "exercise"));
    // What is not ours.
    assert_eq!(store.write("name", "another"), Err("EACCES"), "its name is not its own");
    assert_eq!(store.write("/tool/exercise", "x"), Err("EACCES"));
    assert_eq!(store.read("data//exercise"), Err("EINVAL"), "no path");
}

fn watches(store: &mut Store) {
    store.watch("data", "token").expect("watch");
    assert_eq!(store.event(), "data\0token\0", "the first event comes at once");
    store.write("data/exercise", "again").expect("write");
    assert_eq!(store.event(), "data/exercise\0token\0");
    assert_eq!(store.watch("data", "token"), Err("EEXIST"));
    store.unwatch("data", "token").expect("unwatch");
    store.remove("data/exercise").expect("remove");
    assert_eq!(store.read("data/exercise"), Err("ENOENT"));
    assert!(!store.has_event(), "no event after the end");
}

fn domains(store: &mut Store, own: u16) {
    match store.list("/local/domain") {
        Ok(names) => names.split_terminator('\0').for_each(|name| println!("listed: {name}")),
        Err(error) => println!("/local/domain: {error}"),
    }
    let mut seen = 0;
    for domid in 0..DOMAINS {
        let mut buffer = [0; 32];
        match store.read(path_of(domid, &mut buffer)) {
            Ok(name) => {
                println!("domain {domid}: {name}");
                seen += u32::from(domid == own);
            }
            // Of another's node it is not even told whether it is there.
            Err(error) => assert!(matches!(error, "EACCES" | "ENOENT"), "{error}"),
        }
    }
    assert!(own >= DOMAINS || seen == 1, "its own name is there");
}

fn main() {
    let leaf = xen::init();
    let domid = xen::own_domid(leaf).expect("CPUID has the number");
    let mut store = Store::open();
    own_nodes(&mut store, domid);
    own_keys(&mut store);
    watches(&mut store);
    domains(&mut store, domid);
}
