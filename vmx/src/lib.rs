//! The Intel VT-x back end: a VMCS behind [`arch::Vcpu`].
//!
#![no_std]
