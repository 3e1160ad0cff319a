//! Runs against a hypervisor of which there is only the control channel, and says what it is told to.

use super::Session;
use crate::config::Value;
use crate::emulator::{Machine, Stream};
use crate::guests::Media;
use crate::outcome::{Outcome, Verdict};
use crate::plan::{Ending, Guest, Plan, Step};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub fn plan(guests: &[&str], steps: Vec<Step>) -> Plan {
    let guests = guests.iter().map(|name| Guest::new(name, 64, 1, Media::default())).collect();
    Plan { steps, timeout: Some(Duration::from_secs(20)), ..Plan::for_tests(guests) }
}

/// What comes of a run in which the hypervisor says these lines.
fn outcome(plan: &Plan, attended: bool, lines: &[&str]) -> Outcome {
    let (ours, theirs) = UnixStream::pair().expect("two ends");
    let reader = Box::new(ours.try_clone().expect("a second handle"));
    let mut machine = Machine::idle(Stream { reader, writer: Box::new(ours) });
    let banner = Box::new(&b"Xenolith, a hypervisor\n"[..]);
    machine.console = Some(Stream { reader: banner, writer: Box::new(std::io::sink()) });
    let mut session = Session::new(plan, machine, Default::default());
    session.attended = attended;
    let said = [&["@hello xenolith 1 svm 1 512"], lines, &[""]].concat().join("\n");
    (&theirs).write_all(said.as_bytes()).expect("the session reads");
    std::thread::spawn(move || {
        let asked = BufReader::new(&theirs).lines().map_while(Result::ok);
        if asked.into_iter().any(|line| line == "quit") {
            let _ = (&theirs).write_all(b"@bye\n");
        }
    });
    session.run()
}

const REFUSED: &str = "@verdict a refused:a: there is no host disk 77";

#[test]
fn a_guest_that_the_hypervisor_does_not_build_ends_the_run_at_once() {
    let refused = Verdict::Refused("a: there is no host disk 77".into());
    for steps in [vec![], vec![Step::Until(vec!["x".into()])], vec![Step::Ended(Ending::Any)]] {
        let plan = plan(&["b", "a"], steps.clone());
        let verdict = outcome(&plan, false, &["@guest b started", REFUSED]).verdict;
        match steps[..] {
            [Step::Ended(_)] => assert!(matches!(verdict, Verdict::Crashed(_)), "{verdict:?}"),
            _ => assert_eq!((verdict.code(), verdict), (2, refused.clone())),
        }
    }
}

#[test]
fn a_guest_that_is_there_to_be_refused_ends_nothing() {
    let mut plan =
        plan(&["b"], vec![Step::Log("no host disk 77".into()), Step::Until(vec!["hi".into()])]);
    plan.raw.push(("a".into(), String::new()));
    let log = "@log a: there is no host disk 77";
    let verdict = outcome(&plan, false, &[log, REFUSED, "@serial b aGk="]).verdict;
    assert_eq!(verdict, Verdict::Passed("seen: \"hi\" on b's serial port".into()));
}

#[test]
fn a_crash_ends_a_run_but_before_a_person_the_other_guests_go_on() {
    let plan = plan(&["a", "b"], vec![]);
    let crash = "@verdict a crash:triple fault";
    let crashed = Verdict::Crashed("guest a: triple fault".into());
    assert_eq!(outcome(&plan, false, &[crash]).verdict, crashed);
    let lines = [crash, "@serial b aGk=", "@verdict b poweroff"];
    let seen = outcome(&plan, true, &lines);
    assert_eq!((seen.verdict, &seen.guests["b"].serial[..]), (crashed, &b"hi"[..]));
    // The monitor's `reset` gives it another chance.
    let lines = [crash, "@guest a rebooted", "@verdict b poweroff", "@verdict a poweroff"];
    assert_eq!(outcome(&plan, true, &lines).verdict.code(), 0);
}

#[test]
fn a_guest_that_is_kept_when_it_crashes_stays_for_the_person() {
    let mut plan = plan(&["a"], vec![]);
    plan.guests[0].settings.push(("on_crash".into(), Value::Text("preserve".into())));
    plan.timeout = Some(Duration::from_secs(1));
    let crash = ["@verdict a crash:triple fault"];
    assert!(matches!(outcome(&plan, true, &crash).verdict, Verdict::TimedOut(_)));
    assert!(matches!(outcome(&plan, false, &crash).verdict, Verdict::Crashed(_)));
}

#[test]
fn what_the_hypervisor_says_is_not_taken_for_a_guests_words() {
    let mut plan = plan(&["a"], vec![Step::Until(vec!["Xenolith".into()])]);
    plan.timeout = Some(Duration::from_secs(1));
    let log = ["@log Xenolith: a started"];
    assert!(matches!(outcome(&plan, false, &log).verdict, Verdict::TimedOut(_)));
    let serial = ["@serial a WGVub2xpdGgK"];
    assert_eq!(outcome(&plan, false, &serial).verdict.code(), 0);
}
