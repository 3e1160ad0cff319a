//! The bare-metal core.
#![cfg_attr(not(test), no_std)]
