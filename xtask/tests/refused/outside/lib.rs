//! A root outside `src`. //~ outside
#![no_std]
#![forbid(unsafe_code)]
