//! The kernel calls behind TAP and packet sockets: the only unsafe code of the wires.
//!
//! Every function takes and returns safe types and leaves nothing open when it fails. Names have
//! been checked by [`interface_name`] and fit `ifreq` with their terminating zero.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use libc::{c_int, c_short, c_void, ifreq, sockaddr_ll, tpacket_auxdata};

/// An interface name that the kernel could accept.
#[derive(Debug, Clone)]
pub(super) struct InterfaceName([u8; libc::IFNAMSIZ]);

/// Checks an interface name; `None` if no interface can have it.
pub(super) fn interface_name(name: &str) -> Option<InterfaceName> {
    let bytes = name.as_bytes();
    let odd = |byte: &u8| matches!(byte, 0 | b'/' | b':') || byte.is_ascii_whitespace();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.iter().any(odd) {
        return None;
    }
    // A pattern for the kernel to number, or a directory entry.
    if name.contains('%') || name == "." || name == ".." {
        return None;
    }
    let mut fixed = [0; libc::IFNAMSIZ];
    fixed[..bytes.len()].copy_from_slice(bytes);
    Some(InterfaceName(fixed))
}

impl InterfaceName {
    fn request(&self) -> ifreq {
        // SAFETY: ifreq is plain data; all zeroes is a valid value of it.
        let mut request: ifreq = unsafe { zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.0) {
            *to = from as libc::c_char;
        }
        request
    }
}

/// The result of a call that returns -1 on failure.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Attaches to the TAP interface `name`, creating it if there is none. Reads and writes of the file
/// are frames and do not block.
pub(super) fn open_tap(name: &InterfaceName) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let mut request = name.request();
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as c_short;
    // SAFETY: the descriptor is open, TUNSETIFF reads and writes one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
    Ok(file)
}

fn socket(domain: c_int, kind: c_int) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let descriptor = check(unsafe { libc::socket(domain, kind, 0) })?;
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The number of an interface.
pub(super) fn interface_index(name: &InterfaceName) -> io::Result<c_int> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    let mut request = name.request();
    // SAFETY: SIOCGIFINDEX reads and writes one ifreq, which outlives the call, and on success has
    // set the integer member of the union.
    unsafe {
        check(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFINDEX as _,
            &raw mut request,
        ))?;
        Ok(request.ifr_ifru.ifru_ifindex)
    }
}

/// Sets an interface up, unless it is.
pub(super) fn set_up(name: &InterfaceName) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    let mut request = name.request();
    // SAFETY: both requests read and write one ifreq, which outlives the calls; after the first one
    // the flags are the union's valid member.
    unsafe {
        check(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &raw mut request,
        ))?;
        let up = libc::IFF_UP as c_short;
        if request.ifr_ifru.ifru_flags & up == 0 {
            request.ifr_ifru.ifru_flags |= up;
            check(libc::ioctl(
                socket.as_raw_fd(),
                libc::SIOCSIFFLAGS as _,
                &raw mut request,
            ))?;
        }
    }
    Ok(())
}

/// Sets one socket option to a plain value.
fn set_option<T: Copy>(socket: &OwnedFd, level: c_int, option: c_int, value: T) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    let value = (&raw const value).cast::<c_void>();
    // SAFETY: the kernel reads `length` bytes of `value`, which is alive and that long.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) })?;
    Ok(())
}

/// A packet socket that sends and receives all frames of one interface but its own. As a file:
/// every write sends a frame, without blocking.
pub(super) fn open_packet_socket(index: c_int) -> io::Result<File> {
    // Without a protocol nothing is received until the socket is bound to its interface.
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW)?;
    // SAFETY: packet_mreq is plain data; all zeroes is a valid value of it.
    let mut membership: libc::packet_mreq = unsafe { zeroed() };
    membership.mr_ifindex = index;
    membership.mr_type = libc::PACKET_MR_PROMISC as _;
    set_option(
        &socket,
        libc::SOL_PACKET,
        libc::PACKET_ADD_MEMBERSHIP,
        membership,
    )?;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1 as c_int)?;
    set_option(
        &socket,
        libc::SOL_PACKET,
        libc::PACKET_IGNORE_OUTGOING,
        1 as c_int,
    )?;
    // Room for bursts; the kernel takes less if its limit is lower.
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 8 << 20 as c_int)?;
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value of it.
    let mut address: sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as _;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let length = size_of::<sockaddr_ll>() as libc::socklen_t;
    let pointer = (&raw const address).cast();
    // SAFETY: the kernel reads `length` bytes of `address`, which is alive and that long.
    check(unsafe { libc::bind(socket.as_raw_fd(), pointer, length) })?;
    Ok(File::from(socket))
}

/// A frame from a packet socket, and what the kernel says of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    /// Bytes of the frame, which may be more than the buffer had room for.
    pub(super) length: usize,
    /// EtherType and control information of a VLAN tag that the kernel has taken out.
    pub(super) vlan: Option<(u16, u16)>,
    /// The sender has left the transport checksum to hardware.
    pub(super) checksum_missing: bool,
}

/// Room for one control message with auxiliary data, aligned as control messages are.
#[repr(C, align(8))]
struct Control([u8; 128]);

/// Receives a frame from a packet socket. `WouldBlock`: there is none.
pub(super) fn receive(socket: &File, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; 128]);
    let mut place = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain data; all zeroes is a valid value of it.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut place;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the message describes two live buffers with their true lengths, and both outlive the
    // call. MSG_TRUNC asks for the frame's true length.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut received = Received {
        length,
        ..Received::default()
    };
    // SAFETY: recvmsg has filled the control buffer and set its length; the macros walk within it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: the macros return headers that lie within the control buffer, whose alignment is
        // theirs; the data of a PACKET_AUXDATA message is a tpacket_auxdata, and its length is
        // checked before it is read, without asking for alignment.
        unsafe {
            let wanted = libc::CMSG_LEN(size_of::<tpacket_auxdata>() as u32) as usize;
            let kind = ((*header).cmsg_level, (*header).cmsg_type);
            if kind == (libc::SOL_PACKET, libc::PACKET_AUXDATA)
                && (*header).cmsg_len as usize >= wanted
            {
                received.note(
                    libc::CMSG_DATA(header)
                        .cast::<tpacket_auxdata>()
                        .read_unaligned(),
                );
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(received)
}

impl Received {
    fn note(&mut self, auxiliary: tpacket_auxdata) {
        let has = |flag| auxiliary.tp_status & flag != 0;
        self.checksum_missing = has(libc::TP_STATUS_CSUMNOTREADY);
        if has(libc::TP_STATUS_VLAN_VALID) {
            let named = has(libc::TP_STATUS_VLAN_TPID_VALID);
            let ether_type = if named {
                auxiliary.tp_vlan_tpid
            } else {
                0x8100
            };
            self.vlan = Some((ether_type, auxiliary.tp_vlan_tci));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["a", "eth0", "enp3s0f1", "fifteen-letters"] {
            assert!(interface_name(name).is_some(), "{name}");
        }
        for name in [
            "",
            "sixteen-letters-",
            "a b",
            "a/b",
            ".",
            "..",
            "tap%d",
            "eth0:1",
            "a\0",
        ] {
            assert!(interface_name(name).is_none(), "{name}");
        }
    }
}
