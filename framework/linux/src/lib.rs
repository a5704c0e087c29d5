//! The Linux host: memory, cores, signals, device specs.
