//! What the hypervisor reports on its control channel.

use super::Session;
use crate::control::Report;
use crate::outcome::Verdict;
use crate::screen::Picture;
use std::time::Instant;

impl Session<'_> {
    pub(super) fn report(&mut self, report: Report) -> Option<Verdict> {
        match report {
            Report::Hello { .. } => self.ready_since = Some(Instant::now()),
            Report::Log(line) => {
                self.news();
                self.outcome.log.push(line);
            }
            Report::Guest { name, state } => {
                self.news();
                if state == "rebooted" {
                    let guest = self.guest(&name);
                    guest.reboots += 1;
                    // The monitor's `reset` also starts one that had ended.
                    guest.verdict = None;
                }
            }
            Report::Serial { name, bytes } => {
                self.news();
                self.guest(&name).serial.extend_from_slice(&bytes);
            }
            Report::Screen { name, row, text } => self.guest(&name).screen.row(row, text),
            Report::ScreenEnd { name, .. } => {
                if self.guest(&name).screen.end() {
                    self.news();
                }
            }
            Report::Exits(count) => {
                let exits = &mut self.guest(&count.guest.clone()).exits;
                exits.retain(|old| old.kind != count.kind);
                exits.push(count);
            }
            Report::Dump { name, section, text } => {
                self.guest(&name).dump.push((section, text));
            }
            Report::Framebuffer { name, width, height } => {
                self.guest(&name).picture = Picture::new(width, height);
            }
            Report::Pixels { name, row, runs } => {
                if let Some(picture) = &mut self.guest(&name).picture {
                    picture.row(row, &runs);
                }
            }
            Report::Verdict { name, verdict } => {
                self.news();
                self.tell(&name, &verdict);
                self.guest(&name).verdict = Some(verdict);
            }
            Report::Panic(text) => {
                self.panicking = true;
                self.outcome.log.push(format!("panic: {text}"));
            }
            Report::Out(line) => {
                self.outcome.answers.push(line.clone());
                self.outcome.log.push(line);
            }
            Report::Refused(text) => {
                let line = format!("refused: {text}");
                self.outcome.answers.push(line.clone());
                self.outcome.log.push(line);
            }
            Report::ExitsEnd { .. }
            | Report::DumpEnd { .. }
            | Report::FramebufferEnd { .. }
            | Report::Done(_)
            | Report::Bye
            | Report::Other(_) => {}
        }
        None
    }
}
