//! The Intel 82599 (and X540, X550) driver.
#![no_std]
