//! QEMU's machine protocol (QEMU, "QMP Reference Manual"): keys, screen and pictures of a guest
//! that runs without hypervisor.

use super::Stream;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

/// A connection to QEMU.
pub struct Qmp {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
    scratch: tempfile::NamedTempFile,
}

impl Qmp {
    /// Greets QEMU.
    pub fn open(stream: Stream) -> Result<Self> {
        let scratch = tempfile::NamedTempFile::new()?;
        let reader = BufReader::new(stream.reader);
        let mut qmp = Qmp { reader, writer: stream.writer, scratch };
        let mut hello = String::new();
        qmp.reader.read_line(&mut hello)?;
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Carries out one command; events in between are dropped.
    pub fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.writer.write_all(line.as_bytes())?;
        self.writer.write_all(b"\n")?;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).context("QEMU does not answer")? == 0 {
                bail!("QEMU has ended");
            }
            let answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"].as_str().unwrap_or("?"));
            }
            if let Some(result) = answer.get("return") {
                return Ok(result.clone());
            }
        }
    }

    /// The text screen: all of the text buffer, as Linux scrolls within it.
    pub fn screen(&mut self) -> Result<Vec<String>> {
        let file = self.scratch.path().to_owned();
        self.ask("pmemsave", json!({ "val": 0xb_8000, "size": 0x8000, "filename": file }))?;
        Ok(rows(&std::fs::read(&file)?))
    }

    /// A picture of the screen.
    pub fn screenshot(&mut self, place: &Path) -> Result<()> {
        self.ask("screendump", json!({ "filename": place, "format": "png" }))?;
        Ok(())
    }

    /// Presses one chord.
    pub fn chord(&mut self, keys: &[String]) -> Result<()> {
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({ "type": "qcode", "data": qcode(key) })).collect();
        self.ask("send-key", json!({ "keys": keys, "hold-time": 20 }))?;
        // QEMU queues keys but the guest's buffer is small: keep a person's pace.
        std::thread::sleep(std::time::Duration::from_millis(45));
        Ok(())
    }

    /// Types a text.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        for c in text.chars() {
            let Some(chord) = chord_for(c) else { bail!("no key types {c:?}") };
            self.chord(&chord)?;
        }
        Ok(())
    }
}

/// QEMU's name of one of our keys.
fn qcode(key: &str) -> &str {
    match key {
        "enter" => "ret",
        "space" => "spc",
        "del" => "delete",
        "ins" => "insert",
        "altgr" => "alt_r",
        "meta" => "meta_l",
        "grave" => "grave_accent",
        other => other,
    }
}

/// The keys that type a character on a US keyboard.
fn chord_for(c: char) -> Option<Vec<String>> {
    const SHIFTED: &[(char, &str)] = &[
        ('!', "1"),
        ('@', "2"),
        ('#', "3"),
        ('$', "4"),
        ('%', "5"),
        ('^', "6"),
        ('&', "7"),
        ('*', "8"),
        ('(', "9"),
        (')', "0"),
        ('_', "minus"),
        ('+', "equal"),
        ('<', "comma"),
        ('>', "dot"),
        ('?', "slash"),
        (':', "semicolon"),
        ('"', "apostrophe"),
        ('|', "backslash"),
        ('~', "grave"),
        ('{', "bracket_left"),
        ('}', "bracket_right"),
    ];
    const PLAIN: &[(char, &str)] = &[
        ('\n', "enter"),
        ('\t', "tab"),
        (' ', "space"),
        ('-', "minus"),
        ('=', "equal"),
        (',', "comma"),
        ('.', "dot"),
        ('/', "slash"),
        (';', "semicolon"),
        ('\'', "apostrophe"),
        ('\\', "backslash"),
        ('`', "grave"),
        ('[', "bracket_left"),
        (']', "bracket_right"),
        ('\x1b', "esc"),
        ('\x08', "backspace"),
    ];
    let named = |table: &[(char, &str)]| {
        table.iter().find(|(known, _)| *known == c).map(|(_, key)| (*key).to_owned())
    };
    if c.is_ascii_lowercase() || c.is_ascii_digit() {
        return Some(vec![c.to_string()]);
    }
    if c.is_ascii_uppercase() {
        return Some(vec!["shift".into(), c.to_ascii_lowercase().to_string()]);
    }
    named(PLAIN)
        .map(|key| vec![key])
        .or_else(|| named(SHIFTED).map(|key| vec!["shift".into(), key]))
}

/// Characters of a VGA text buffer as rows of 80, without what is empty at the end.
fn rows(buffer: &[u8]) -> Vec<String> {
    let mut rows: Vec<String> = buffer
        .chunks(160)
        .map(|row| {
            let text: String = row
                .chunks(2)
                .map(|cell| match cell[0] {
                    byte @ 0x20..0x7f => byte as char,
                    0 => ' ',
                    // Box drawing and other letters of code page 437.
                    0xb3 | 0xba => '|',
                    0xc4 | 0xcd => '-',
                    0xb0..=0xdf => '+',
                    _ => '?',
                })
                .collect();
            text.trim_end().to_owned()
        })
        .collect();
    while rows.last().is_some_and(String::is_empty) {
        rows.pop();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_a_key() {
        for byte in 0x20..0x7f_u8 {
            assert!(chord_for(byte as char).is_some(), "{:?}", byte as char);
        }
    }

    #[test]
    fn a_text_buffer_becomes_rows() {
        let mut buffer = vec![0; 4000];
        buffer[160] = b'H';
        buffer[162] = b'i';
        assert_eq!(rows(&buffer), ["", "Hi"]);
    }
}
