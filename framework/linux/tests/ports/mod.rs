//! What must hold of software devices after their drivers died.

use sumac_devices::ixgbe::Violation;
use sumac_linux::open::OpenPorts;

/// No DMA went outside of what lived, and no other rule was broken either.
pub fn assert_clean(opened: &OpenPorts) {
    for port in &opened.ports {
        let software = port.software.as_ref().expect("a software device");
        let strays = software.device().violations().count(Violation::DmaFault);
        assert_eq!(strays, 0, "DMA outside of what lives");
        assert_eq!(software.violations(), []);
    }
}
