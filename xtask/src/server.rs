//! A web server for guests, on this machine's own address only: QEMU's network shows it at 10.0.2.2.
//! `GET /data` gives 64 MiB without pattern, `GET /sum` their SHA-256, `POST` answers with the SHA-256 of
//! what came, and other paths are files below a directory. One request a connection.

use crate::guests::iso::hex;
use crate::guests::selfcheck::fill;
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of `/data`.
const DATA: usize = 64 << 20;
/// How long a connection may be silent. The emulator may be slow, but not this slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest line, and most lines, of a request.
const LINE: u64 = 4096;
const LINES: usize = 64;

struct Content {
    data: Vec<u8>,
    files: Option<PathBuf>,
}

/// Starts serving; gives the port. The server lives as long as this process.
pub fn start(files: Option<&Path>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let mut data = vec![0; DATA];
    fill(&mut data);
    let content = Arc::new(Content { data, files: files.map(Path::to_owned) });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let content = Arc::clone(&content);
            // A guest that hangs up in the middle is its own affair.
            std::thread::spawn(move || serve(stream, &content));
        }
    });
    Ok(port)
}

fn serve(stream: TcpStream, content: &Content) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = || -> Result<String> {
        let mut text = String::new();
        (&mut reader).take(LINE).read_line(&mut text)?;
        Ok(text.trim_end().to_owned())
    };
    let request = line()?;
    let mut length = 0;
    for _ in 0..LINES {
        let header = line()?.to_ascii_lowercase();
        match header.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut words = request.split(' ');
    match (words.next(), words.next()) {
        (Some("POST"), _) => {
            let sum = sum_of(reader.take(length), length)?;
            answer(stream, Some(sum.as_bytes()))
        }
        (Some("GET"), Some("/data")) => answer(stream, Some(&content.data)),
        (Some("GET"), Some("/sum")) => {
            answer(stream, Some(hex(&Sha256::digest(&content.data)).as_bytes()))
        }
        (Some("GET"), Some(path)) => answer(stream, file(content, path).as_deref()),
        _ => answer(stream, None),
    }
}

/// The sum of all that comes, which must be `length` bytes.
fn sum_of(mut from: impl Read, length: u64) -> Result<String> {
    let mut hash = Sha256::new();
    let got = std::io::copy(&mut from, &mut hash)?;
    Ok(if got == length { hex(&hash.finalize()) } else { format!("only {got} bytes came") })
}

fn file(content: &Content, path: &str) -> Option<Vec<u8>> {
    let path = plain(path.strip_prefix('/')?)?;
    let path = Path::new(&path);
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    let below = path.components().all(inside);
    std::fs::read(content.files.as_ref().filter(|_| below)?.join(path)).ok()
}

/// A path without percent-encoding, which apt has for the `+` of a version. RFC 3986,
/// "Percent-Encoding".
fn plain(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn answer(mut stream: TcpStream, body: Option<&[u8]>) -> Result<()> {
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(port: u16, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        answer.split_off(at + 4)
    }

    #[test]
    fn sums_go_with_what_is_sent_and_files_stay_below_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/a"), b"text").unwrap();
        std::fs::write(dir.path().join("below/b+c"), b"plus").unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        let port = start(Some(&dir.path().join("below"))).unwrap();
        let data = ask(port, b"GET /data HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(data.len(), DATA);
        let sum = hex(&Sha256::digest(&data));
        assert_eq!(ask(port, b"GET /sum HTTP/1.1\r\n\r\n"), sum.as_bytes());
        assert_eq!(ask(port, b"GET /./a HTTP/1.1\r\n\r\n"), b"text");
        assert_eq!(ask(port, b"GET /b%2bc HTTP/1.1\r\n\r\n"), b"plus");
        for refused in ["/../secret", "/%2e%2e/secret", "/a%", "/a%zz", "/%ff"] {
            assert_eq!(ask(port, format!("GET {refused} HTTP/1.1\r\n\r\n").as_bytes()), b"");
        }
        let text = hex(&Sha256::digest(b"text"));
        let posted = ask(port, b"POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\ntext");
        assert_eq!(posted, text.as_bytes());
    }
}
