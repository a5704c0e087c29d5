//! The module in a card's cage, as the kernel's driver reads it (ethtool's `GMODULEINFO` and `GMODULEEEPROM`).
//!
//! What is read is the module's own identification (SFF-8472, table 4-1; SFF-8636 for QSFP), and nothing in it is
//! trusted: it is shown to people.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Bytes of identification that are read: all that SFF-8472 calls base ID fields, and a few more.
const LENGTH: usize = 96;

/// Commands of linux/ethtool.h.
const GMODULEINFO: u32 = 0x42;
const GMODULEEEPROM: u32 = 0x43;

/// `struct ethtool_modinfo`.
#[repr(C)]
struct ModuleInfo {
    command: u32,
    kind: u32,
    eeprom_bytes: u32,
    reserved: [u32; 8],
}

/// `struct ethtool_eeprom` with the bytes behind it.
#[repr(C)]
struct Eeprom {
    command: u32,
    magic: u32,
    offset: u32,
    bytes: u32,
    data: [u8; LENGTH],
}

/// Both are arguments of one ioctl, which writes within them and no further.
///
/// # Safety
/// The kernel takes any bytes of it, and answers to its command within it.
unsafe trait Request {}

// SAFETY: the command is `GMODULEINFO`, whose answer is this structure.
unsafe impl Request for ModuleInfo {}
// SAFETY: the command is `GMODULEEEPROM`, and `bytes`, how much comes after the header, is at most `LENGTH`.
unsafe impl Request for Eeprom {}

/// What a module says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transceiver([u8; LENGTH]);

impl Transceiver {
    /// Asks the driver of a network interface. Takes `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// What Linux said: `PermissionDenied` or `Unsupported` if nothing can be known; anything else if the cage
    /// does not answer, as an empty one does not.
    pub fn of_interface(name: &str) -> io::Result<Self> {
        let mut info = ModuleInfo {
            command: GMODULEINFO,
            kind: 0,
            eeprom_bytes: 0,
            reserved: [0; 8],
        };
        ask(name, &mut info)?;
        let mut eeprom = Eeprom {
            command: GMODULEEEPROM,
            magic: 0,
            offset: 0,
            bytes: info.eeprom_bytes.min(LENGTH as u32),
            data: [0; LENGTH],
        };
        ask(name, &mut eeprom)?;
        Ok(Self(eeprom.data))
    }

    /// From the bytes of the identification; missing ones count as zero.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut all = [0; LENGTH];
        all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(all)
    }

    /// The identification.
    pub fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// Who made an SFP module (bytes 20 to 35).
    pub fn vendor(&self) -> String {
        self.text(20)
    }

    /// What the maker calls it (bytes 40 to 55).
    pub fn part(&self) -> String {
        self.text(40)
    }

    /// Sixteen characters, of which the printable ones count.
    fn text(&self, at: usize) -> String {
        let text = self.0[at..at + 16].iter();
        let text: String = text
            .map(|byte| char::from(*byte))
            .filter(|letter| letter.is_ascii_graphic() || *letter == ' ')
            .collect();
        text.trim().to_owned()
    }
}

fn ask(name: &str, request: &mut impl Request) -> io::Result<()> {
    // Any socket will do; this one sends nothing.
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    let mut letters: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    if name.len() >= letters.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (letter, byte) in letters.iter_mut().zip(name.bytes()) {
        *letter = byte as libc::c_char;
    }
    let mut argument = libc::ifreq {
        ifr_name: letters,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: std::ptr::from_mut(request).cast(),
        },
    };
    // SAFETY: the socket is open; name and request are those of `SIOCETHTOOL`: a name that ends with a zero byte,
    // and a pointer to a request that lives on after the call and is borrowed by nobody else. What the kernel
    // writes stays within the request, says its trait.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut argument) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identification_is_shown_as_text() {
        let mut bytes = [0; 64];
        bytes[20..36].copy_from_slice(b"FINISAR CORP.   ");
        bytes[40..56].copy_from_slice(b"FTLX8571D3BCV\0\x1b\xff");
        let module = Transceiver::from_bytes(&bytes);
        assert_eq!(
            (module.vendor().as_str(), module.part().as_str()),
            ("FINISAR CORP.", "FTLX8571D3BCV")
        );
        assert_eq!(Transceiver::from_bytes(&[1; 500]).bytes(), &[1; LENGTH]);
    }

    #[test]
    fn interfaces_without_a_cage_say_so() {
        let loopback = Transceiver::of_interface("lo").expect_err("no cage");
        assert!(
            matches!(
                loopback.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ),
            "{loopback}"
        );
        assert!(Transceiver::of_interface("no-such-iface").is_err());
        assert!(Transceiver::of_interface(&"x".repeat(16)).is_err());
    }
}
