//! The grammar of xl.cfg(5): `key = value`, ended by a new line or `;`, comments from `#`.
//!
//! A value is a string in ' or ", a number, or a list of them in brackets, which may span lines and
//! end with a comma. `key += value` adds to what stands before. Lists within lists, which xl's
//! grammar has for keys that are not known here, are refused.

use super::error::Problem;
use alloc::string::String;
use alloc::vec::Vec;

/// Where and what.
pub(super) type Located = (u32, Problem);

/// A string or number as written, quotes and escapes resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom {
    /// Line of the file, from 1.
    pub line: u32,
    /// The text.
    pub text: String,
    /// Whether it stood in quotes.
    pub quoted: bool,
}

/// What stands behind `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One string or number.
    Atom(Atom),
    /// `[ … ]`.
    List(Vec<Atom>),
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Line of its key, from 1.
    pub line: u32,
    /// The key, known or not.
    pub key: String,
    /// Its value.
    pub value: Value,
}

struct Parser<'a> {
    rest: &'a str,
    line: u32,
}

/// All settings of a text, in order, `+=` resolved. An error carries the key that was being read.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, (String, Located)> {
    let mut parser = Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        parser.skip(true);
        while parser.take(';') {
            parser.skip(true);
        }
        if parser.rest.is_empty() {
            return Ok(entries);
        }
        let line = parser.line;
        let Some(key) = parser.word() else {
            return Err((String::new(), (line, Problem::Syntax("a key, as in vcpus = 2"))));
        };
        let key = String::from(key);
        match parser.setting(&mut entries, &key, line) {
            Ok(()) => {}
            Err(located) => return Err((key, located)),
        }
    }
}

impl Parser<'_> {
    fn setting(&mut self, entries: &mut Vec<Entry>, key: &str, line: u32) -> Result<(), Located> {
        self.skip(false);
        let adds = self.take('+');
        if !self.take('=') {
            return Err((self.line, Problem::Syntax("= after the key")));
        }
        self.skip(false);
        let value =
            if self.take('[') { Value::List(self.list()?) } else { Value::Atom(self.atom()?) };
        self.skip(false);
        if !self.rest.is_empty() && !self.rest.starts_with(['\n', ';']) {
            return Err((self.line, Problem::Syntax("the end of the line, or ;")));
        }
        let first = entries.iter_mut().find(|entry| entry.key == key);
        match first {
            None => entries.push(Entry { line, key: key.into(), value }),
            Some(first) if !adds => return Err((line, Problem::Repeated(first.line))),
            Some(first) => match (&mut first.value, value) {
                (Value::Atom(old), Value::Atom(new)) => old.text.push_str(&new.text),
                (Value::List(old), Value::List(new)) => old.extend(new),
                (Value::List(_), _) => return Err((line, Problem::WrongType("a list after +="))),
                (Value::Atom(_), _) => {
                    return Err((line, Problem::WrongType("a string after +=")));
                }
            },
        }
        Ok(())
    }

    /// The rest of a list, up to its closing bracket.
    fn list(&mut self) -> Result<Vec<Atom>, Located> {
        let mut items = Vec::new();
        loop {
            self.skip(true);
            if self.take(']') {
                return Ok(items);
            }
            if self.rest.starts_with('[') {
                return Err((self.line, Problem::Syntax("a string or a number in the list")));
            }
            items.push(self.atom()?);
            self.skip(true);
            if self.take(']') {
                return Ok(items);
            }
            if !self.take(',') {
                return Err((self.line, Problem::Syntax(", or ] after the list's element")));
            }
        }
    }

    fn atom(&mut self) -> Result<Atom, Located> {
        let line = self.line;
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.string(quote),
            Some('0'..='9' | '-') => {
                let len = self
                    .rest
                    .find(|c: char| c != '-' && !c.is_ascii_alphanumeric())
                    .unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at(len);
                self.rest = rest;
                Ok(Atom { line, text: text.into(), quoted: false })
            }
            Some(c) if c.is_ascii_alphabetic() => {
                Err((line, Problem::Syntax("a number, a list, or a word in quotes")))
            }
            _ => Err((line, Problem::Syntax("a number, a string in quotes, or a list in [ ]"))),
        }
    }

    /// A quoted string. A backslash escapes a quote, a backslash, or stands before n, r, t or xHH.
    fn string(&mut self, quote: char) -> Result<Atom, Located> {
        let line = self.line;
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.rest = self.rest.get(at + 1..).unwrap_or("");
                    return Ok(Atom { line, text, quoted: true });
                }
                '\n' => break,
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                    Some('n') => text.push('\n'),
                    Some('r') => text.push('\r'),
                    Some('t') => text.push('\t'),
                    Some('x') => {
                        let mut digit = || chars.next().and_then(|(_, c)| c.to_digit(16));
                        match (digit(), digit()) {
                            (Some(high), Some(low)) => text.push((high << 4 | low) as u8 as char),
                            _ => return Err((line, Problem::Syntax("two hex digits after \\x"))),
                        }
                    }
                    _ => {
                        let want = "\\, a quote, n, r, t or xHH after the backslash";
                        return Err((line, Problem::Syntax(want)));
                    }
                },
                c => text.push(c),
            }
        }
        Err((line, Problem::Syntax("the closing quote on the same line")))
    }

    /// An identifier. xl's begin with a small letter; others are read too, so that the error can
    /// name them.
    fn word(&mut self) -> Option<&str> {
        if !self.rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        Some(word)
    }

    fn take(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Skips blanks and comments, and with `lines` also line ends.
    fn skip(&mut self, lines: bool) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r']);
            if self.rest.starts_with('#') {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = self.rest.get(end..).unwrap_or("");
            } else if lines && self.take('\n') {
                self.line = self.line.saturating_add(1);
            } else {
                return;
            }
        }
    }
}
