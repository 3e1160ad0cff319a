//! What each state of a front end leads to, from each state of the back end.

use super::*;
use XenbusState::{Closed, Closing, Connected, InitWait, Initialised, Initialising, Unknown};

#[test]
fn states_are_read_from_text_and_unknown_ones_are_unknown() {
    for (number, state) in XenbusState::ALL.into_iter().enumerate() {
        assert_eq!(XenbusState::from_text(Some(&number.to_string())), state);
        assert_eq!(usize::from(state.number()), number);
    }
    assert_eq!(XenbusState::from_text(Some("4\0")), Connected);
    for text in [None, Some(""), Some("9"), Some("-1"), Some("4x"), Some("99999999999999999999")] {
        assert_eq!(XenbusState::from_text(text), Unknown);
    }
}

#[test]
fn a_front_end_that_has_given_its_details_is_connected_only_if_waited_for() {
    for front in [Initialised, Connected] {
        assert_eq!(step(InitWait, front, true), Step::Connect);
        for back in [Initialising, Connected, Closing, Closed] {
            assert_eq!(step(back, front, true), Step::Stay, "{back:?}");
        }
    }
}

#[test]
fn a_front_end_that_begins_again_is_offered_the_device_from_any_state() {
    for back in [Initialising, Connected, Closing, Closed] {
        assert_eq!(step(back, Initialising, true), Step::Offer, "{back:?}");
        assert_eq!(step(back, Initialising, false), Step::Closed, "{back:?}");
    }
    assert_eq!(step(InitWait, Initialising, true), Step::Stay);
}

#[test]
fn a_front_end_that_closes_or_is_gone_is_let_go() {
    for back in [Initialising, InitWait, Connected] {
        assert_eq!(step(back, Closing, true), Step::Closing);
        assert_eq!(step(back, Closed, true), Step::Closed);
        assert_eq!(step(back, Unknown, true), Step::Closed);
    }
    assert_eq!(step(Closing, Closing, true), Step::Stay);
    assert_eq!(step(Closed, Closed, true), Step::Stay);
    assert_eq!(step(Closed, Closed, false), Step::Closed, "not online: gone");
}
