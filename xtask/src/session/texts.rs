//! Texts that are waited for, or must not come, on guests' serial ports and screens. What the hypervisor
//! itself says on the console is none of theirs.

use super::Session;

impl Session<'_> {
    /// A line with one of the plan's `never` texts that was seen.
    pub(super) fn forbidden(&self) -> Option<String> {
        let text = self.plan.never.iter().find(|text| self.find(text).is_some())?;
        let serial = self.outcome.guests.values().find_map(|guest| {
            let serial = String::from_utf8_lossy(&guest.serial);
            serial.lines().find(|line| line.contains(text.as_str())).map(str::to_owned)
        });
        Some(serial.unwrap_or_else(|| text.clone()))
    }

    pub(super) fn find(&self, text: &str) -> Option<String> {
        let from = |name: &str| self.searched_from.get(name).copied().unwrap_or(0);
        let seen = |bytes: &[u8], name: &str| contains(&bytes[from(name).min(bytes.len())..], text);
        for (name, guest) in &self.outcome.guests {
            if seen(&guest.serial, name) {
                return Some(format!("{name}'s serial port"));
            }
            if guest.screen.contains(text) {
                return Some(format!("{name}'s screen"));
            }
        }
        None
    }

    /// Those of the texts that were not seen, or not waited for yet, for a person.
    pub(super) fn unseen(&self, texts: &[String]) -> String {
        let quoted = |texts: &mut dyn Iterator<Item = &String>| {
            texts.map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" and ")
        };
        let left = quoted(&mut texts.iter().filter(|text| self.find(text).is_none()));
        if left.is_empty() { quoted(&mut texts.iter()) } else { left }
    }

    /// Texts count from here on. Keeps a few bytes that may be the beginning of the next text.
    pub(super) fn mark(&mut self) {
        let marks: Vec<(String, usize)> = self
            .outcome
            .guests
            .iter()
            .map(|(name, guest)| (name.clone(), guest.serial.len()))
            .collect();
        self.searched_from.extend(marks);
    }
}

/// The standard library's search is compiled with optimization even where we are not.
fn contains(bytes: &[u8], needle: &str) -> bool {
    !needle.is_empty() && String::from_utf8_lossy(bytes).contains(needle)
}
