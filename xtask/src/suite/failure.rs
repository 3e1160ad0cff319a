//! What a failed boot leaves: everything that the guest and the hypervisor said last.

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::run;
use anyhow::Result;
use std::fs;
use std::path::Path;

/// Writes `target/failures/<guest>-<vendor>/`. The picture is there already.
pub fn write(folder: &Path, plan: &Plan, outcome: &Outcome) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("console.log"), &outcome.console)?;
    fs::write(folder.join("hypervisor.log"), outcome.log.join("\n") + "\n")?;
    let json = serde_json::to_string_pretty(&run::json(plan, outcome))?;
    fs::write(folder.join("result.json"), json + "\n")?;
    let several = outcome.guests.len() > 1;
    for (name, guest) in &outcome.guests {
        let place = |file: &str| match several {
            true => folder.join(format!("{name}-{file}")),
            false => folder.join(file),
        };
        fs::write(place("serial.log"), &guest.serial)?;
        fs::write(place("screen.txt"), guest.screen.rows().join("\n") + "\n")?;
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
