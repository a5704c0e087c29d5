//! From device specs to devices a driver can take.

mod plug;
