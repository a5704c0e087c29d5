//! Domains in a Linux process, without domain files: what stands for a domain's image is code in a
//! section of its own, so that it is told from trusted code as an image's is.
// UNSAFETY: the tests do on purpose what domains may not: faults, endless loops, stack overflows.
#![expect(unsafe_code)]

mod calls;
mod crashes;
mod crashy;
mod lives;
mod threads;
