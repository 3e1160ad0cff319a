//! Both ends of a console over one page.

use super::*;
use crate::front::console::ConsoleFront;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

fn page() -> SharedPage {
    SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])))
}

fn drain(console: &mut ConBack, budget: usize) -> (Vec<u8>, Moved) {
    let mut all = Vec::new();
    let moved = console.output(budget, &mut |bytes| all.extend_from_slice(bytes));
    (all, moved)
}

#[test]
fn what_is_written_comes_out_in_order_over_many_rounds_and_index_wraps() {
    let page = page();
    for at in [OUT_CONS, OUT_PROD, IN_CONS, IN_PROD] {
        page.write(at, 4, 0xffff_ff00).unwrap();
    }
    let front = ConsoleFront::new(page);
    let mut back = ConBack::primary(page);
    let text: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
    let (mut sent, mut seen) = (0, Vec::new());
    while seen.len() < text.len() {
        sent += front.write(&text[sent..]);
        let (bytes, moved) = drain(&mut back, 700);
        assert!(moved.notify && moved.bytes == bytes.len() && bytes.len() <= 700);
        seen.extend(bytes);
    }
    assert_eq!(seen, text);
    assert_eq!(drain(&mut back, 700).1, Moved::default());
    let (mut typed, mut read) = (0, Vec::new());
    while read.len() < text.len() {
        typed += back.input(&text[typed..]).bytes;
        let mut buffer = [0; 300];
        let len = front.read(&mut buffer);
        read.extend_from_slice(&buffer[..len]);
    }
    assert_eq!(read, text);
    assert_eq!(back.runaways(), 0);
}

#[test]
fn a_full_ring_takes_no_more_and_a_budget_leaves_the_rest() {
    let page = page();
    let front = ConsoleFront::new(page);
    let mut back = ConBack::primary(page);
    assert_eq!(front.write(&[b'x'; 3000]), 2048);
    assert_eq!(front.write(b"y"), 0);
    let (bytes, moved) = drain(&mut back, 100);
    assert_eq!((bytes.len(), moved.more), (100, true));
    assert_eq!(front.write(&[b'y'; 3000]), 100);
    assert_eq!(drain(&mut back, 5000).1, Moved { bytes: 2048, notify: true, more: false });
    assert_eq!(back.input(&[b'k'; 2000]), Moved { bytes: 1024, notify: true, more: true });
    assert_eq!(back.input(b"k"), Moved { bytes: 0, notify: false, more: true });
}

#[test]
fn bytes_written_before_anybody_listened_are_not_lost_and_the_page_tells_who_listens() {
    let page = page();
    page.write(CONNECTION, 1, 1).unwrap();
    assert_eq!(ConsoleFront::new(page).write(b"early"), 5);
    let mut back = ConBack::primary(page);
    assert_eq!(page.read_u8(CONNECTION), Some(0));
    assert_eq!(drain(&mut back, 100).0, b"early");
}

#[test]
fn indices_that_run_away_cost_bytes_only() {
    let page = page();
    let mut back = ConBack::primary(page);
    page.write(OUT_PROD, 4, 2049).unwrap();
    page.write(OUT_CONS, 4, 0x8000_0000).unwrap();
    assert_eq!(drain(&mut back, 5000).1, Moved::default());
    assert_eq!((page.read_u32(OUT_CONS), back.runaways()), (Some(2049), 1));
    let front = ConsoleFront::new(page);
    assert_eq!(front.write(b"again"), 5);
    assert_eq!(drain(&mut back, 100).0, b"again");
    page.write(IN_CONS, 4, 77).unwrap();
    assert_eq!(back.input(b"key").bytes, 3);
    assert_eq!(back.runaways(), 2);
    let mut buffer = [0; 8];
    assert_eq!(front.read(&mut buffer), 3);
    assert_eq!(&buffer[..3], b"key");
}

#[test]
fn a_front_end_that_begins_anew_in_a_cleared_page_is_heard() {
    let page = page();
    let front = ConsoleFront::new(page);
    let mut back = ConBack::primary(page);
    for _ in 0..3 {
        assert_eq!(front.write(&[1; 2000]), 2000);
        let _ = drain(&mut back, 2000);
    }
    for at in [OUT_CONS, OUT_PROD] {
        page.write(at, 4, 0).unwrap();
    }
    assert_eq!(front.write(b"new kernel"), 10);
    assert_eq!(drain(&mut back, 100).0, b"new kernel");
}

#[test]
fn a_further_console_needs_its_page_and_its_port() {
    let read = |nodes: &[(&str, &str)]| {
        let nodes = Vec::from(nodes);
        let find = |path: &str| nodes.iter().find(|node| node.0 == path);
        FrontEnd::read(&mut |path| find(path).map(|node| String::from(node.1)))
    };
    let expected = FrontEnd { reference: GrantRef(9), port: Port(4) };
    assert_eq!(read(&[("ring-ref", "9"), ("port", "4")]), Ok(expected));
    assert_eq!(read(&[("ring-ref", "9")]), Err(Errno::ENOENT));
    assert_eq!(read(&[("ring-ref", "9"), ("port", "0")]), Err(Errno::EINVAL));
    assert_eq!(read(&[("ring-ref", "x"), ("port", "1")]), Err(Errno::EINVAL));
}
