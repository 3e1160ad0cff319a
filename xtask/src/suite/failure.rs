//! What a failed boot leaves: everything that the guest and the hypervisor said last.

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::run;
use anyhow::Result;
use std::fs;
use std::path::Path;

/// Writes `target/failures/<guest>-<vendor>/`. The first guest's picture is there already.
pub fn write(folder: &Path, plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("console.log"), &outcome.console)?;
    fs::write(folder.join("hypervisor.log"), outcome.log.join("\n") + "\n")?;
    let json = serde_json::to_string_pretty(&run::json(plan, outcome))?;
    fs::write(folder.join("result.json"), json + "\n")?;
    let several = outcome.guests.len() > 1;
    for (name, guest) in &mut outcome.guests {
        let place = |file: &str| match several {
            true => folder.join(format!("{name}-{file}")),
            false => folder.join(file),
        };
        fs::write(place("serial.log"), &guest.serial)?;
        fs::write(place("screen.txt"), guest.screen.rows().join("\n") + "\n")?;
        if let (true, Some(picture)) = (several, &mut guest.picture) {
            picture.write(&place("screen.png"))?;
        }
        let mut sections: Vec<&str> = guest.dump.iter().map(|(name, _)| name.as_str()).collect();
        sections.sort_unstable();
        sections.dedup();
        for section in sections {
            let lines = guest.dump.iter().filter(|(name, _)| name == section);
            let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
            // A section's name comes from the hypervisor: it must not become a path.
            let clean: String = section.chars().filter(char::is_ascii_alphanumeric).collect();
            fs::write(place(&format!("{clean}.txt")), text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{GuestLog, Verdict};
    use crate::screen::Picture;

    #[test]
    fn each_of_several_guests_leaves_all_that_is_known_of_it() {
        let guest = |name: &str| {
            let dump = ["registers", "code", "exits"].map(|it| (it.to_owned(), name.to_owned()));
            GuestLog {
                serial: b"hi".to_vec(),
                picture: Picture::new(2, 2),
                dump: dump.to_vec(),
                ..GuestLog::default()
            }
        };
        let plan = crate::session::tests::plan(&["a", "b"], vec![]);
        let mut outcome = Outcome {
            verdict: Verdict::Crashed("x".into()),
            seconds: 1.0,
            console: Vec::new(),
            guests: ["a", "b"].map(|name| (name.to_owned(), guest(name))).into(),
            log: Vec::new(),
            answers: Vec::new(),
            pictured: Ok(()),
            instructions: None,
            counts: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &plan, &mut outcome).unwrap();
        for name in ["a", "b"] {
            for file in ["serial.log", "screen.txt", "screen.png", "registers.txt", "code.txt"] {
                assert!(dir.path().join(format!("{name}-{file}")).exists(), "{name}-{file}");
            }
        }
        for file in ["console.log", "hypervisor.log", "result.json"] {
            assert!(dir.path().join(file).exists(), "{file}");
        }
    }
}
