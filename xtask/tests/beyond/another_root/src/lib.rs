//! A root object that is not of the interface that the domain says it offers.
#![no_std]
#![forbid(unsafe_code)]

use sumac_interface::Object;
use sumac_interface::domain::{CreateLane, CreateNet};

pub type Root = dyn CreateLane;

pub fn root() -> Object<dyn CreateNet> {
    loop {}
}
