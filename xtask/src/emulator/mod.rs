//! The machine under the hypervisor: an emulator's process and the streams to it.

pub mod bochs;
pub mod build_bochs;
pub mod probe;
pub mod qemu;
pub mod qmp;

use crate::plan::Plan;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// A stream to the machine, split into its two directions.
pub struct Stream {
    /// What the machine sends.
    pub reader: Box<dyn Read + Send>,
    /// What it gets.
    pub writer: Box<dyn Write + Send>,
}

/// A running emulator. Dropping it ends the process.
pub struct Machine {
    child: Child,
    /// The first serial port.
    pub console: Option<Stream>,
    /// The second serial port: control lines.
    pub control: Option<Stream>,
    /// QEMU's own control socket.
    pub qmp: Option<qmp::Qmp>,
    /// The emulator's words, shown when it fails.
    pub log: PathBuf,
    /// Lives as long as the process: its sockets are there.
    pub _dir: tempfile::TempDir,
    /// Keeps a pseudo-terminal open for emulators that want one.
    pub _terminal: Option<std::os::fd::OwnedFd>,
    /// Whether the exit status tells a good end from a bad one.
    pub says_how_it_ended: bool,
}

impl Machine {
    /// A process that does nothing, with the control channel to talk to it.
    #[cfg(test)]
    pub fn idle(control: Stream) -> Machine {
        let dir = tempfile::tempdir().expect("a directory");
        Machine {
            child: std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts"),
            console: None,
            control: Some(control),
            qmp: None,
            log: dir.path().join("log"),
            _dir: dir,
            _terminal: None,
            says_how_it_ended: true,
        }
    }

    /// QEMU's monitor, where it stands for the guest's keyboard and screen: without hypervisor.
    pub fn guest_qmp(&mut self, bare: bool) -> Option<&mut qmp::Qmp> {
        if bare { self.qmp.as_mut() } else { None }
    }

    /// Whether the emulator has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// How long the emulator wanted a CPU of this machine and had none: time in which nobody can
    /// expect anything of it. The CPU it emulates is one of its threads, so the worst counts
    /// (Linux' Documentation/scheduler/sched-stats.rst).
    pub fn starved(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let waited = |task: std::fs::DirEntry| -> Option<u64> {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().nth(1)?.parse().ok()
        };
        let worst = threads.into_iter().flatten().flatten().filter_map(waited).max();
        Duration::from_nanos(worst.unwrap_or(0))
    }

    /// Gives it a moment to end by itself, then ends it.
    pub fn end(&mut self, patience: Duration) {
        let limit = Instant::now() + patience;
        while self.ended().is_none() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Whether the emulator's log says that the machine was switched off by what ran in it.
    pub fn switched_itself_off(&self) -> bool {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).to_lowercase();
        ["soft power off", "shutdown requested"].iter().any(|words| log.contains(words))
    }

    /// The last lines the emulator itself wrote.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// The hypervisor's command line; `exit` says how it ends this kind of machine.
pub fn hypervisor_line(plan: &Plan, exit: &str) -> String {
    let mut line = format!("console=com1 control=com2 exit={exit}");
    if !plan.hv_append.is_empty() {
        line.push(' ');
        line.push_str(&plan.hv_append);
    }
    line
}

/// A socket that the emulator connects to, so that no byte is lost before we listen.
pub enum Listener {
    /// For QEMU.
    Unix(UnixListener),
    /// For Bochs.
    Tcp(TcpListener),
}

impl Listener {
    /// Waits for the emulator to connect; fails when it ends first.
    pub fn accept(&self, child: &mut Child, what: &str) -> Result<Stream> {
        match self {
            Listener::Unix(listener) => listener.set_nonblocking(true)?,
            Listener::Tcp(listener) => listener.set_nonblocking(true)?,
        }
        let limit = Instant::now() + Duration::from_secs(180);
        loop {
            let accepted = match self {
                Listener::Unix(listener) => listener.accept().map(|(stream, _)| {
                    stream.set_nonblocking(false)?;
                    let reader = stream.try_clone()?;
                    Ok::<_, std::io::Error>(Stream {
                        reader: Box::new(reader),
                        writer: Box::new(stream),
                    })
                }),
                Listener::Tcp(listener) => listener.accept().map(|(stream, _)| {
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay(true)?;
                    let reader = stream.try_clone()?;
                    Ok(Stream { reader: Box::new(reader), writer: Box::new(stream) })
                }),
            };
            match accepted {
                Ok(stream) => return stream.with_context(|| format!("the {what} does not work")),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).with_context(|| format!("no {what}")),
            }
            if let Some(status) = child.try_wait()? {
                bail!("the emulator ended at once ({status})");
            }
            if Instant::now() > limit {
                bail!("the emulator did not open its {what} within 180 s");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
