//! A block front end and back end over shared pages, with a disk behind them. Each side runs only
//! when the other has notified it, so that a lost notice shows as a request that is never answered.

use super::{FakeDisk, FakeGrants, page};
use pvdrivers::blkback::abi::{Layout, Response};
use pvdrivers::blkback::{BlkBack, BlkConfig, FrontEnd, Media, Served};
use pvdrivers::front::blk::{self, BlkFront};
use pvdrivers::ring::Pages;
use pvdrivers::{DomId, Errno, GrantRef, Port};
use std::collections::HashMap;

/// The guest of [`BlkPair`].
pub const GUEST: DomId = DomId(7);

/// How the front end connects.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its rings' layout.
    pub layout: Layout,
    /// Queues, 1 or more.
    pub queues: usize,
    /// Pages of each ring, a power of two.
    pub pages: usize,
    /// It promises to use the same grants again.
    pub persistent: bool,
}

impl Shape {
    /// One queue of one page of a 64-bit guest.
    pub const PLAIN: Shape =
        Shape { layout: Layout::X86_64, queues: 1, pages: 1, persistent: false };
}

/// Both ends and all around them.
#[derive(Debug)]
pub struct BlkPair {
    /// The guest's grants.
    pub grants: FakeGrants,
    /// The disk.
    pub disk: FakeDisk,
    /// The back end.
    pub back: BlkBack,
    /// The front end's queues.
    pub fronts: Vec<BlkFront>,
    /// The pages of each queue's ring, for a front end that does not keep to the rules.
    pub rings: Vec<Pages>,
    /// Answers that the front end has taken, by queue.
    pub answers: Vec<(usize, Response)>,
    /// How often the front end was notified.
    pub notices: u64,
    /// What it wrote to XenStore last.
    pub nodes: HashMap<String, String>,
    /// The disk had no room the last time.
    busy: bool,
}

impl BlkPair {
    /// A connected pair; the disk's sectors are its medium's.
    #[must_use]
    pub fn new(config: BlkConfig, disk: FakeDisk, shape: Shape) -> BlkPair {
        let mut back = BlkBack::new(config, GUEST, DomId::BACKEND);
        back.set_media(Some(Media::disk(disk.data.len() as u64 / 512)));
        let mut pair = BlkPair {
            grants: FakeGrants::new(),
            disk,
            back,
            fronts: Vec::new(),
            rings: Vec::new(),
            answers: Vec::new(),
            notices: 0,
            nodes: HashMap::new(),
            busy: false,
        };
        pair.connect(shape).expect("the pair connects");
        pair
    }

    /// A new front end, connected to the back end through XenStore's nodes.
    pub fn connect(&mut self, shape: Shape) -> Result<(), Errno> {
        let (mut fronts, mut rings, mut references) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..shape.queues {
            let pages: Vec<_> = (0..shape.pages).map(|_| page()).collect();
            let granted = pages.iter().map(|page| self.grants.grant(GUEST, *page, false));
            references.push(granted.collect::<Vec<GrantRef>>());
            let pages = Pages::new(pages).expect("few enough pages");
            let device = self.back.config().virtual_device;
            fronts.push(BlkFront::new(pages.clone(), shape.layout, device).expect("a ring fits"));
            rings.push(pages);
        }
        let queues: Vec<_> = references
            .iter()
            .enumerate()
            .map(|(n, references)| (&references[..], Port(n as u32 + 1)))
            .collect();
        self.nodes = blk::nodes(shape.layout, shape.persistent, &queues).into_iter().collect();
        let nodes = &self.nodes;
        let mut read = |path: &str| nodes.get(path).cloned();
        let most = self.back.config().max_queues;
        let front = FrontEnd::read(&mut read, Layout::X86_64, most)?;
        self.back.connect(&mut self.grants, &front)?;
        (self.fronts, self.rings) = (fronts, rings);
        Ok(())
    }

    /// Lets the front end push its requests, and both ends run until nothing is left to do but for
    /// the disk.
    pub fn run(&mut self) {
        let mut rings = false;
        for front in &mut self.fronts {
            rings |= front.push();
        }
        if rings {
            self.serve();
        }
    }

    /// Serves until the back end rests.
    pub fn serve(&mut self) {
        for _ in 0..100_000 {
            let served = self.back.serve(7, &mut self.grants, &mut self.disk);
            let served = served.expect("the rings are sound");
            self.notified(served);
            self.busy = served.busy;
            if !served.more {
                return;
            }
        }
        panic!("the back end never rests");
    }

    /// The front end takes its answers where it was notified.
    pub fn notified(&mut self, served: Served) {
        for (queue, front) in self.fronts.iter_mut().enumerate() {
            if served.notify >> queue & 1 == 0 {
                continue;
            }
            self.notices += 1;
            while let Some(answer) = front.answer().expect("the back end is sound") {
                self.answers.push((queue, answer));
            }
        }
    }

    /// Lets the disk do the waiting request number `which`, and both ends what follows. `false`
    /// where none waits.
    pub fn finish(&mut self, which: usize) -> bool {
        let Some((token, result)) = self.disk.finish(which) else { return false };
        let served = self.back.complete(token, result, &mut self.grants);
        self.notified(served);
        // A disk with room again is offered what it refused.
        if served.more || self.busy {
            self.serve();
        }
        true
    }

    /// All that can be done is done.
    pub fn settle(&mut self) {
        self.run();
        while self.finish(0) {
            self.run();
        }
    }

    /// The front end's page, granted.
    pub fn buffer(&mut self) -> (arch::SharedPage, GrantRef) {
        self.grants.page(GUEST)
    }
}
