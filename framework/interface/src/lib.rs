//! The interfaces drivers and applications speak.
#![no_std]
