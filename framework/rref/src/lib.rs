//! The shared heap: RRef, RRefDeque and packet buffers.
#![no_std]
