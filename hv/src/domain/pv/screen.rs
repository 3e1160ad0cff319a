//! A guest's paravirtual screen, keyboard and pointer: the back ends' state machines. While a front end is connected,
//! its picture is what the guest shows, and keys and motions go to it instead of the 8042.

use alloc::sync::Arc;

use devmodel::ps2kbd::Key;
use devmodel::vga::Picture;
use machine::xen::Hub;
use pvdrivers::blkback::abi::Layout;
use pvdrivers::bus::{BackEnd, DeviceNodes};
use pvdrivers::fbback::{self, FbBack};
use pvdrivers::grant::LocalGrants;
use pvdrivers::kbdback::{self, KbdBack, RAW_MAX, keys};
use pvdrivers::{DomId, Errno, Port};

use super::block::bind;
use super::{Context, Target};
use crate::cpu::lock::IrqLock;

/// The picture's size where no front end has said another.
const USUAL: (u32, u32) = (800, 600);
/// Events of a ring that one doorbell takes: more than fit.
const EVENTS: u32 = 64;

/// Which of the devices a guest has.
#[derive(Clone, Copy, Debug)]
pub struct ScreenConfig {
    /// The frame buffer.
    pub frame_buffer: bool,
    /// Keyboard and pointer.
    pub keyboard: bool,
}

/// Both devices of a guest.
pub struct Screen {
    owner: DomId,
    picture: Option<(FbBack, Port)>,
    input: Option<(KbdBack, Port)>,
    /// Counts what is drawn.
    generation: u64,
    /// Where the pointer is, from 0 to [`RAW_MAX`].
    pointer: (u32, u32),
    /// Left, right and middle button.
    buttons: [bool; 3],
}

impl Screen {
    /// Without front ends.
    pub fn new(owner: DomId) -> Screen {
        let pointer = (RAW_MAX / 2, RAW_MAX / 2);
        Screen { owner, picture: None, input: None, generation: 0, pointer, buttons: [false; 3] }
    }

    /// What a front end has drawn so far; `None` where none is connected.
    pub fn generation(&mut self) -> Option<u64> {
        let (back, _) = self.picture.as_mut()?;
        let area = back.take_dirty();
        self.generation += u64::from(area.width > 0 && area.height > 0);
        Some(self.generation)
    }

    fn size(&self) -> (u32, u32) {
        let shape = self.picture.as_ref().map(|(back, _)| back.shape());
        shape.map_or(USUAL, |shape| (shape.width, shape.height))
    }

    /// Takes what the front ends say.
    pub fn serve(&mut self) {
        let reshaped = self.picture.as_mut().is_some_and(|(back, _)| {
            back.serve(EVENTS);
            back.take_reshaped()
        });
        let (width, height) = self.size();
        if let Some((back, _)) = &mut self.input {
            back.serve();
            if reshaped {
                back.set_size(width, height);
            }
        }
    }

    /// Whether a front end draws.
    pub fn is_drawn(&self) -> bool {
        self.picture.is_some()
    }

    /// Whether a front end takes keys and motions.
    pub fn listens(&self) -> bool {
        self.input.is_some()
    }

    /// A key. `None` where no front end listens.
    pub fn key(&mut self, key: Key, down: bool, context: &mut Context) -> Option<()> {
        let (back, port) = self.input.as_mut()?;
        if number(key).is_some_and(|number| back.key(number, down)) {
            notify(*port, context);
        }
        Some(())
    }

    /// The host's mouse moved by so many steps, to the right and up, and has these buttons down: left, right and
    /// middle. `None` where no front end listens.
    pub fn motion(
        &mut self,
        (right, up): (i32, i32),
        buttons: [bool; 3],
        context: &mut Context,
    ) -> Option<()> {
        let (width, height) = self.size();
        let (back, port) = self.input.as_mut()?;
        let moved = |at: u32, by: i32, side: u32| {
            let by = i64::from(by) * i64::from(RAW_MAX) / i64::from(side.max(1));
            (i64::from(at) + by).clamp(0, RAW_MAX.into()) as u32
        };
        let mut told = false;
        if (right, up) != (0, 0) {
            self.pointer =
                (moved(self.pointer.0, right, width), moved(self.pointer.1, -up, height));
            told |= back.point(self.pointer.0, self.pointer.1, 0);
        }
        for ((old, new), code) in self.buttons.iter_mut().zip(buttons).zip(keys::BUTTONS) {
            if core::mem::replace(old, new) != new {
                told |= back.key(code, new);
            }
        }
        if told {
            notify(*port, context);
        }
        Some(())
    }
}

/// A key's number for the front end, by its scan code.
fn number(key: Key) -> Option<u32> {
    match key {
        // Their codes are sequences.
        Key::Pause => Some(119),
        Key::PrintScreen => Some(99),
        _ => key.set1().and_then(|(code, extended)| keys::from_set_1(code, extended)),
    }
}

fn notify(port: Port, context: &mut Context) {
    let deliver = context.hub.events.lock().notify(port);
    context.news.push(deliver);
}

/// A guest's picture, locked for a line at a time: its doorbell must not wait for a whole one.
pub struct Drawn(pub Arc<IrqLock<Screen>>);

impl Picture for Drawn {
    fn size(&self) -> (u32, u32) {
        self.0.lock().size()
    }

    fn row(&self, y: u32, line: &mut [u32]) -> usize {
        self.0.lock().picture.as_ref().map_or(0, |(back, _)| back.row(y, line))
    }
}

/// The frame buffer on the bus.
pub struct FbPort(pub Arc<IrqLock<Screen>>);

/// Keyboard and pointer on the bus.
pub struct KbdPort(pub Arc<IrqLock<Screen>>);

fn open(screen: &Arc<IrqLock<Screen>>, port: Port, context: &mut Context) -> Result<Port, Errno> {
    let owner = screen.lock().owner;
    let port = bind(&mut context.hub.events.lock(), owner, port)?;
    context.bound.push((port, Target::Screen(screen.clone())));
    Ok(port)
}

fn close(port: Port, context: &mut Context) {
    // It was bound: closing it cannot fail.
    let _ = context.hub.events.lock().close(DomId::BACKEND, port);
    context.closed.push(port);
}

fn with_grants<R>(
    hub: &Hub,
    work: impl FnOnce(&mut LocalGrants<'_, machine::xen::Memories>) -> R,
) -> R {
    let mut tables = hub.grants.lock();
    work(&mut LocalGrants { tables: &mut tables, frames: &hub.memories })
}

impl BackEnd<Context> for FbPort {
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, _: &mut Context) -> Result<(), Errno> {
        nodes.write_all(fbback::NODES.iter().copied()).map_err(|_| Errno::EINVAL)
    }

    fn connect(&mut self, nodes: &mut DeviceNodes<'_>, context: &mut Context) -> Result<(), Errno> {
        let front = fbback::FrontEnd::read(&mut |path| nodes.front(path), Layout::X86_64)?;
        self.offer(nodes, context)?;
        let port = open(&self.0, front.port, context)?;
        let mut screen = self.0.lock();
        match FbBack::connect(&mut &context.hub.memories, screen.owner, &front) {
            Ok(back) => screen.picture = Some((back, port)),
            Err(error) => {
                close(port, context);
                return Err(error);
            }
        }
        screen.serve();
        Ok(())
    }

    fn disconnect(&mut self, _: &mut DeviceNodes<'_>, context: &mut Context) {
        let picture = self.0.lock().picture.take();
        if let Some((back, port)) = picture {
            back.disconnect(&mut &context.hub.memories);
            close(port, context);
        }
    }
}

impl BackEnd<Context> for KbdPort {
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, _: &mut Context) -> Result<(), Errno> {
        let (width, height) = self.0.lock().size();
        nodes.write_all(kbdback::nodes(width, height, false)).map_err(|_| Errno::EINVAL)
    }

    fn connect(&mut self, nodes: &mut DeviceNodes<'_>, context: &mut Context) -> Result<(), Errno> {
        let front = kbdback::FrontEnd::read(&mut |path| nodes.front(path))?;
        let port = open(&self.0, front.port, context)?;
        let mut screen = self.0.lock();
        let (owner, hub) = (screen.owner, context.hub);
        let connect = |grants: &mut LocalGrants<'_, _>| {
            KbdBack::connect(grants, &mut &hub.memories, owner, DomId::BACKEND, &front)
        };
        match with_grants(hub, connect) {
            Ok(mut back) => {
                let (width, height) = screen.size();
                back.set_size(width, height);
                screen.input = Some((back, port));
                screen.buttons = [false; 3];
                Ok(())
            }
            Err(error) => {
                close(port, context);
                Err(error)
            }
        }
    }

    fn disconnect(&mut self, _: &mut DeviceNodes<'_>, context: &mut Context) {
        let input = self.0.lock().input.take();
        if let Some((back, port)) = input {
            let hub = context.hub;
            with_grants(hub, |grants| back.disconnect(grants, &mut &hub.memories));
            close(port, context);
        }
    }
}
