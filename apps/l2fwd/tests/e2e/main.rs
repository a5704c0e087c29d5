//! End-to-end tests: the built `l2fwd`, run as a user runs it, judged by what a user sees.
//!
//! Nothing here links the code under test: files are read and written as raw bytes, results come
//! from exit codes, standard output and the JSON object. What cannot run here (not root, a program
//! missing) writes `SKIP name: reason` to standard error, which `cargo xtask test` counts.
#![forbid(unsafe_code)]

mod application;
mod bad_input;
mod capture;
mod frames;
mod generator;
mod interrupt;
mod isolation;
mod namespaces;
mod program;
mod removal;
mod scripts;
mod served;
