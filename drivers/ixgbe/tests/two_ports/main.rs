//! Two ports of the real driver on two software 82599s, back to back.
#![forbid(unsafe_code)]

mod cable;
mod hostile;
mod offloads;
