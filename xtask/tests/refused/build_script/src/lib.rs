//! A crate with a program that runs when it is built.
#![no_std]
#![forbid(unsafe_code)]
