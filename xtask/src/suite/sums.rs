//! Checksums that a guest must find: `{sha256 NAME}` in a step is that of a file on the first guest's ISO image, so that
//! a case holds for whatever version of a package there is.

use crate::config::Source;
use crate::guests::iso;
use crate::paths;
use crate::plan::{Guest, Step};
use anyhow::{Context, Result, bail};
use std::fs;

const MARK: &str = "{sha256 ";

/// Puts the sums in the steps' texts.
pub fn fill_in(steps: &mut [Step], guests: &[Guest]) -> Result<()> {
    for text in steps.iter_mut().filter_map(texts).flatten() {
        if let Some((before, rest)) = text.split_once(MARK) {
            let (name, after) = rest.split_once('}').context("`{sha256 ` wants a name and `}`")?;
            *text = format!("{before}{}{after}", sum(name, guests)?);
        }
    }
    Ok(())
}

fn texts(step: &mut Step) -> Option<&mut [String]> {
    match step {
        Step::Until(texts) => Some(texts),
        _ => None,
    }
}

/// The sum of the file on that one of the first guest's media that has it.
fn sum(name: &str, guests: &[Guest]) -> Result<String> {
    for drive in guests.iter().take(1).flat_map(|guest| &guest.drives) {
        if let Source::File(path) = &drive.source {
            let image = fs::read(path).with_context(|| paths::show(path))?;
            if let Some(file) = iso::file(&image, name) {
                return Ok(iso::sha256(file));
            }
        }
    }
    bail!("no medium of the case's guest has a file {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::Media;

    #[test]
    fn a_steps_sum_is_that_of_the_file_on_the_guests_medium() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a.iso");
        let mut image = vec![0; 4 * 2048];
        // ECMA-119 "Format of a Directory Record": place and size in both orders of bytes, the name's length and name.
        image[2048..][..18]
            .copy_from_slice(&[44, 0, 3, 0, 0, 0, 0, 0, 0, 3, 5, 0, 0, 0, 0, 0, 0, 5]);
        image[2048 + 32..][..12].copy_from_slice(b"\x0aword.lst;1\0");
        image[3 * 2048..][..5].copy_from_slice(b"words");
        fs::write(&place, &image).unwrap();
        let guest = Guest::new("a", 64, 1, Media { iso: Some(place), ..Media::default() });
        let guests = [guest];
        let until = |text: &str| Step::Until(vec!["grub>".into(), text.into()]);
        let mut steps = [until("is {sha256 word.lst} ")];
        fill_in(&mut steps, &guests).unwrap();
        // `printf words | sha256sum`
        let sum = "dba36bffa5cab0f922d087a3aeb179f9d4e745df40b323e1b1471402848c8a3e";
        assert_eq!(steps, [until(&format!("is {sum} "))]);
        assert!(fill_in(&mut [until("{sha256 other.lst}")], &guests).is_err());
        assert!(fill_in(&mut [until("{sha256 word.lst")], &guests).is_err());
    }
}
