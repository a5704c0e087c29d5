//! Benchmarks of the parts, and of peers on the same device.
