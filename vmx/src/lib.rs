//! vmx.
#![no_std]
