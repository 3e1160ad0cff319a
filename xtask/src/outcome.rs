//! What a run has found: how it ended, and what was heard from each guest.

use crate::control::{ExitCount, GuestVerdict};
use crate::screen::{Picture, TextScreen};
use std::collections::BTreeMap;

/// How a run ended; `code` gives the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last `--until` was seen, or all guests powered off as they should.
    Passed(String),
    /// A guest crashed.
    Crashed(String),
    /// The hypervisor does not build a guest: its configuration or its media cannot be.
    Refused(String),
    /// Time ran out.
    TimedOut(String),
    /// The hypervisor or the emulator failed.
    HostFailed(String),
    /// The guests ended before what was waited for came.
    EndedEarly(String),
    /// The person ended it.
    Interrupted,
}

impl Verdict {
    /// The exit status.
    pub fn code(&self) -> u8 {
        match self {
            Verdict::Passed(_) => 0,
            Verdict::Refused(_) => 2,
            Verdict::Crashed(_) => 3,
            Verdict::TimedOut(_) => 4,
            Verdict::HostFailed(_) => 5,
            Verdict::EndedEarly(_) => 6,
            Verdict::Interrupted => 130,
        }
    }

    /// One word for tables and JSON, and the words for people.
    pub fn words(&self) -> (&'static str, &str) {
        match self {
            Verdict::Passed(why) => ("passed", why),
            Verdict::Refused(why) => ("refused", why),
            Verdict::Crashed(why) => ("crashed", why),
            Verdict::TimedOut(why) => ("timeout", why),
            Verdict::HostFailed(why) => ("host-failed", why),
            Verdict::EndedEarly(why) => ("ended-early", why),
            Verdict::Interrupted => ("interrupted", "interrupted"),
        }
    }
}

/// What is known about one guest.
#[derive(Default, Debug)]
pub struct GuestLog {
    /// All bytes of its serial port.
    pub serial: Vec<u8>,
    /// Its text screen.
    pub screen: TextScreen,
    /// Its picture.
    pub picture: Option<Picture>,
    /// Its exits.
    pub exits: Vec<ExitCount>,
    /// Its state: (section, line).
    pub dump: Vec<(String, String)>,
    /// How it ended.
    pub verdict: Option<GuestVerdict>,
    /// Times it has restarted.
    pub reboots: u32,
}

/// A measured operation.
#[derive(Clone, Debug, serde::Serialize, PartialEq, Eq)]
pub struct Measured {
    /// `svm` or `vmx`.
    pub vendor: String,
    /// Which operation.
    pub op: String,
    /// Instructions in root mode.
    pub root: u64,
    /// Instructions in all.
    pub total: u64,
}

/// All that a run has found.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// Seconds it took.
    pub seconds: f64,
    /// The machine's console.
    pub console: Vec<u8>,
    /// By guest.
    pub guests: BTreeMap<String, GuestLog>,
    /// The hypervisor's log.
    pub log: Vec<String>,
    /// What the monitor answered to commands; it is in the log, too.
    pub answers: Vec<String>,
    /// Whether the picture that was asked for has been written.
    pub pictured: anyhow::Result<()>,
    /// Instructions executed, where they were counted.
    pub instructions: Option<u64>,
    /// The same at each step that asked for it.
    pub counts: Vec<u64>,
}
