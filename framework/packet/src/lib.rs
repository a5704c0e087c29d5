//! Views and builders for Ethernet, IP, UDP and TCP.
#![no_std]
