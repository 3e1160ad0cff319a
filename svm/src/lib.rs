//! svm.
#![no_std]
