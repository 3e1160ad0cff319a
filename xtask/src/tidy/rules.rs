//! The rules that look at one file's text.

use super::Finding;

/// Files may have this many lines, and are pointed out from the lower number on.
const MOST_LINES: usize = 1000;
const MANY_LINES: usize = 600;
const WIDEST_LINE: usize = 100;

/// Where `unsafe` may stand as it is: habits.md, "Safety", 1.
const UNSAFE_PLACES: &[&str] = &[
    "vmx/src/hw.rs",
    "vmx/src/hw/",
    "svm/src/hw.rs",
    "svm/src/hw/",
    "hv/src/boot/",
    "hv/src/cpu/",
    "hv/src/mem/",
    "hv/src/drivers/",
    "tests/guests/",
    "tests/programs/",
];

/// Where a file may opt in by a line that begins with `// UNSAFETY:` and says why.
const UNSAFE_BY_NOTE: &[&str] = &["hv/src/", "vmx/src/", "svm/src/"];

/// Crates in which nothing may be unsafe.
const SAFE_CRATES: &[&str] = &["arch", "devmodel", "bios", "pvdrivers", "machine"];

/// Words that must not stay in the code; split so that this file does not hold them.
const BANNED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Directories that only one machine has.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

/// Checks one file.
pub fn check(file: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut found = |line: usize, fails: bool, words: String| {
        findings.push(Finding { file: file.to_owned(), line, words, fails });
    };
    for (index, line) in text.lines().enumerate() {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
            found(index + 1, true, format!("`{path}…` is a path of one machine"));
        }
    }
    if !file.ends_with(".rs") {
        return;
    }
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > MOST_LINES {
        found(0, true, format!("{} lines; {MOST_LINES} is too long: part it", lines.len()));
    } else if lines.len() > MANY_LINES {
        found(0, false, format!("{} lines; {MANY_LINES} need thought", lines.len()));
    }
    // A file of tests is told about by the file that it tests.
    let tests = file.ends_with("/tests.rs");
    if !tests && !lines.first().is_some_and(|line| line.starts_with("//!")) {
        found(1, true, "a file opens with `//!`: what it is".into());
    }
    let wide: Vec<usize> = (0..lines.len())
        .filter(|&index| lines[index].chars().count() > WIDEST_LINE)
        .map(|index| index + 1)
        .collect();
    if let Some(&first) = wide.first() {
        found(first, false, format!("{} lines wider than {WIDEST_LINE} columns", wide.len()));
    }
    let noted = lines.iter().any(|line| line.starts_with("// UNSAFETY:"))
        && UNSAFE_BY_NOTE.iter().any(|place| file.starts_with(place));
    let unsafe_is_allowed = noted || UNSAFE_PLACES.iter().any(|place| file.starts_with(place));
    for (index, line) in lines.iter().enumerate() {
        let number = index + 1;
        for word in BANNED.iter().filter(|word| line.contains(**word)) {
            found(number, true, format!("`{word}` must not stay"));
        }
        if is_allow_without_reason(&lines, index) {
            found(number, true, "`allow` needs `reason = \"…\"`".into());
        }
        if has_unsafe(line) {
            if !unsafe_is_allowed {
                let words = "unsafe code has its places: hw.rs, hv's boot, cpu, mem, drivers, or a \
                             file of hv, vmx, svm that says why in a line `// UNSAFETY: …`";
                found(number, true, words.into());
            } else if is_unsafe_block(line) && !has_safety_comment(&lines, index) {
                found(number, true, "an unsafe block stands under a `// SAFETY:`".into());
            }
        }
    }
    let root = SAFE_CRATES.iter().any(|name| file == format!("{name}/src/lib.rs"));
    if root {
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            if !text.contains(attribute) {
                found(1, true, format!("this crate's root has `{attribute}`"));
            }
        }
    }
}

/// The code of a line: no comment, no string.
fn code(line: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    let mut before = ' ';
    for c in line.chars() {
        match c {
            '"' if before != '\\' && before != '\'' => quoted = !quoted,
            '/' if !quoted && before == '/' => return code,
            c if !quoted => code.push(c),
            _ => {}
        }
        before = c;
    }
    code
}

fn has_unsafe(line: &str) -> bool {
    let code = code(line);
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
        && !code.trim_start().starts_with("#![")
}

fn is_unsafe_block(line: &str) -> bool {
    let code = code(line);
    code.contains("unsafe {") || code.trim_end().ends_with("unsafe")
}

/// The comment stands directly above, perhaps above the beginning of the statement.
fn has_safety_comment(lines: &[&str], index: usize) -> bool {
    if lines[index].contains("SAFETY:") {
        return true;
    }
    let above = lines[..index].iter().rev().take(12);
    let mut statement_lines = 0;
    for line in above {
        let line = line.trim();
        if line.starts_with("//") {
            if line.contains("SAFETY:") {
                return true;
            }
        } else {
            statement_lines += 1;
            let ends_before = line.ends_with(';') || line.ends_with('}') || line.is_empty();
            if ends_before || statement_lines > 3 {
                return false;
            }
        }
    }
    false
}

fn is_allow_without_reason(lines: &[&str], index: usize) -> bool {
    let line = code(lines[index]);
    let line = line.trim_start();
    let starts = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
    if !starts.iter().any(|start| line.starts_with(start)) {
        return false;
    }
    let end = lines[index..].iter().position(|line| line.trim_end().ends_with(")]"));
    let last = index + end.unwrap_or(0).min(8);
    !lines[index..=last].iter().any(|line| line.contains("reason = "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(file: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(file, text, &mut findings);
        findings.into_iter().filter(|it| it.fails).map(|it| it.words).collect()
    }

    #[test]
    fn unsafe_code_stays_in_its_places_and_under_its_reason() {
        let block = "//! x\n// SAFETY: y\nunsafe { z() };\n";
        assert!(errors("hv/src/cpu/a.rs", block).is_empty());
        assert_eq!(errors("machine/src/a.rs", block).len(), 1);
        assert_eq!(errors("hv/src/a.rs", block).len(), 1);
        let noted = format!("{block}// UNSAFETY: why\n");
        assert!(errors("hv/src/a.rs", &noted).is_empty());
        assert_eq!(errors("machine/src/a.rs", &noted).len(), 1);
        assert_eq!(errors("hv/src/cpu/a.rs", "//! x\nunsafe { z() };\n").len(), 1);
        let statement = "//! x\n// SAFETY: y\nlet a =\n    unsafe { z() };\n";
        assert!(errors("hv/src/cpu/a.rs", statement).is_empty());
        assert!(
            errors("machine/src/a.rs", "//! x\n// unsafe { }\nlet a = \"unsafe\";\n").is_empty()
        );
    }

    #[test]
    fn words_that_must_not_stay_are_found() {
        for word in BANNED {
            assert_eq!(errors("hv/src/a.rs", &format!("//! x\n{word}\n")).len(), 1, "{word}");
        }
    }

    #[test]
    fn a_lint_is_allowed_only_with_a_reason() {
        assert_eq!(errors("hv/src/a.rs", "//! x\n#[allow(dead_code)]\n").len(), 1);
        assert!(errors("hv/src/a.rs", "//! x\n#[allow(dead_code, reason = \"r\")]\n").is_empty());
        let long = "//! x\n#[allow(\n    dead_code,\n    reason = \"r\"\n)]\n";
        assert!(errors("hv/src/a.rs", long).is_empty());
    }

    #[test]
    fn long_files_headless_files_and_machine_paths_are_found() {
        assert_eq!(errors("hv/src/a.rs", &format!("//! x\n{}", "\n".repeat(1000))).len(), 1);
        assert_eq!(errors("hv/src/a.rs", "fn a() {}\n").len(), 1);
        let path = format!("see {}x\n", MACHINE_PATHS[0]);
        assert_eq!(errors("docs/a.md", &path).len(), 1);
    }

    #[test]
    fn safe_crates_say_so_in_their_root() {
        assert_eq!(errors("bios/src/lib.rs", "//! x\n").len(), 2);
        assert!(
            errors("bios/src/lib.rs", "//! x\n#![no_std]\n#![forbid(unsafe_code)]\n").is_empty()
        );
    }
}
