//! Whole messages over a socket, with the descriptors that come with them.
//!
//! Invariant: whatever a peer sends, what is taken is whole messages: a body too long to be kept, or
//! that nobody wants, is read to its end and dropped, and descriptors nobody takes are closed. After an
//! [`Err`] the stream is of no more use.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use sumac_device::Patience;

use super::message::{Header, MAX_BODY, MAX_FDS};

/// A message that has arrived; its body is in the caller's buffer.
#[derive(Debug)]
pub struct Received {
    /// Its header.
    pub header: Header,
    /// The body was longer than any of this protocol and is gone.
    pub oversize: bool,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
    /// Some more came than a message may have, and are closed.
    pub lost_fds: bool,
}

/// One end of a vfio-user connection.
#[derive(Debug)]
pub struct Socket {
    stream: UnixStream,
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { stream }
    }
}

impl Socket {
    /// The stream underneath: to shut it down from elsewhere, or to set its timeouts.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Lets sending and receiving fail with [`ErrorKind::TimedOut`] when nothing moves for so long.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.set_write_timeout(Some(timeout))
    }

    /// Sends a message of header, body and data, with descriptors.
    ///
    /// # Errors
    /// What the system says; [`ErrorKind::TimedOut`] when the peer takes nothing for too long.
    pub fn send(&self, header: &Header, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut start = Vec::with_capacity(Header::SIZE);
        header.put(&mut start);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fits = fds.len() <= MAX_FDS
            && (fds.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        if !fits {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "too many descriptors",
            ));
        }
        let mut sent = 0;
        let whole = start.len() + body.len();
        while sent < whole {
            let parts = match sent.checked_sub(start.len()) {
                None => [IoSlice::new(&start[sent..]), IoSlice::new(body)],
                Some(sent) => [IoSlice::new(&body[sent..]), IoSlice::new(&[])],
            };
            match sendmsg(&self.stream, &parts, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                // Descriptors go with the first byte.
                Ok(count) => {
                    sent += count;
                    ancillary.clear();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(timed_out(error.into())),
            }
        }
        Ok(())
    }

    /// Waits for a message; its body is left in `body`. `None`: the peer has closed the connection, after
    /// a whole message.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] for a message shorter than its own header, [`ErrorKind::UnexpectedEof`]
    /// for a connection closed within one, [`ErrorKind::TimedOut`], and what the system says.
    pub fn receive(&self, body: &mut Vec<u8>) -> io::Result<Option<Received>> {
        self.receive_into(body, Taken::default())
    }

    /// As [`receive`](Self::receive), but waits for each part of the message as `wait` says, which is asked again when
    /// that time is over, or something has come: `None` is no longer. What is there by then is taken, however late
    /// this thread comes to it. Changes the timeout for receiving.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_while(
        &self,
        body: &mut Vec<u8>,
        wait: &mut dyn FnMut() -> Option<Duration>,
    ) -> io::Result<Option<Received>> {
        let wait = Some(wait);
        self.receive_into(
            body,
            Taken {
                wait,
                ..Taken::default()
            },
        )
    }

    fn receive_into(
        &self,
        body: &mut Vec<u8>,
        mut taken: Taken<'_>,
    ) -> io::Result<Option<Received>> {
        body.clear();
        let mut start = [0; Header::SIZE];
        if !self.fill(&mut start, &mut taken, true)? {
            return Ok(None);
        }
        let Some(header) = Header::parse(&start) else {
            return Err(ErrorKind::InvalidData.into());
        };
        let Some(len) = header.body() else {
            let error = "a message shorter than its header";
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        };
        let oversize = len > MAX_BODY;
        if oversize {
            self.skip(len, &mut taken)?;
        } else {
            body.resize(len, 0);
            self.fill(body, &mut taken, false)?;
        }
        Ok(Some(Received {
            header,
            oversize,
            fds: taken.fds,
            lost_fds: taken.lost,
        }))
    }

    /// Fills `bytes`; `false` if the stream ends before the first, where that is allowed.
    fn fill(&self, bytes: &mut [u8], taken: &mut Taken<'_>, may_end: bool) -> io::Result<bool> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.take(&mut bytes[filled..], taken)? {
                0 if filled == 0 && may_end => return Ok(false),
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(true)
    }

    fn skip(&self, mut len: usize, taken: &mut Taken<'_>) -> io::Result<()> {
        let mut bytes = [0; 4096];
        while len > 0 {
            let want = len.min(bytes.len());
            match self.take(&mut bytes[..want], taken)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => len -= count,
            }
        }
        Ok(())
    }

    fn take(&self, bytes: &mut [u8], taken: &mut Taken<'_>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(bytes)];
        let message = loop {
            let mut flags = RecvFlags::CMSG_CLOEXEC;
            let mut again = false;
            if let Some(wait) = &mut taken.wait {
                let left = wait();
                again = left.is_some();
                match left {
                    Some(_) => self.stream.set_read_timeout(left)?,
                    None => flags |= RecvFlags::DONTWAIT,
                }
            }
            match recvmsg(self.stream.as_fd(), &mut parts, &mut ancillary, flags) {
                Ok(message) => break message,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) if again => {}
                Err(error) => return Err(timed_out(error.into())),
            }
        };
        taken.lost |= message.flags.contains(ReturnFlags::CTRUNC);
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                for fd in fds {
                    if taken.fds.len() < MAX_FDS {
                        taken.fds.push(fd);
                    } else {
                        taken.lost = true;
                    }
                }
            }
        }
        Ok(message.bytes)
    }
}

/// Descriptors of one message.
#[derive(Default)]
struct Taken<'a> {
    fds: Vec<OwnedFd>,
    lost: bool,
    /// How long more of the message is waited for, if not for good.
    wait: Option<&'a mut dyn FnMut() -> Option<Duration>>,
}

/// For [`Socket::receive_while`]: as long as `limit` for the whole message, as [`Patience`] counts.
pub fn for_at_most(limit: Duration) -> impl FnMut() -> Option<Duration> {
    let start = Instant::now();
    let mut patience = Patience::new(nanoseconds(limit), 0);
    move || {
        let left = patience.look(nanoseconds(start.elapsed()))?;
        Some(Duration::from_nanos(left))
    }
}

/// As many as fit: five centuries.
fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// A socket's timeout shows as "would block".
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::vfio_user::message::{Command, flag};

    fn pair() -> (Socket, Socket) {
        let (a, b) = UnixStream::pair().unwrap();
        (a.into(), b.into())
    }

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (a, b) = pair();
        let header = Header::request(3, Command::DmaMap, 5);
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send(&header, b"12345", &[file.as_fd(), file.as_fd()])
            .unwrap();
        a.send(&Header::request(4, Command::DeviceReset, 0), &[], &[])
            .unwrap();
        let mut body = Vec::new();
        let message = b.receive(&mut body).unwrap().unwrap();
        assert_eq!((message.header, &body[..]), (header, &b"12345"[..]));
        assert_eq!((message.fds.len(), message.lost_fds), (2, false));
        let message = b.receive(&mut body).unwrap().unwrap();
        assert_eq!(
            (message.header.id, message.fds.len(), body.len()),
            (4, 0, 0)
        );
        drop(a);
        assert!(b.receive(&mut body).unwrap().is_none());
    }

    #[test]
    fn a_body_too_long_is_dropped_and_the_next_message_is_good() {
        let (a, b) = pair();
        let sender = std::thread::spawn(move || {
            let long = vec![7; MAX_BODY + 1];
            a.send(
                &Header::request(1, Command::RegionWrite, long.len()),
                &long,
                &[],
            )?;
            a.send(&Header::request(2, Command::DeviceReset, 0), &[], &[])
        });
        let mut body = Vec::new();
        let message = b.receive(&mut body).unwrap().unwrap();
        assert!(message.oversize && body.is_empty());
        assert_eq!(b.receive(&mut body).unwrap().unwrap().header.id, 2);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn too_many_descriptors_are_noticed() {
        let (a, b) = pair();
        let header = Header::request(3, Command::SetIrqs, 4);
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut start = Vec::new();
        header.put(&mut start);
        let fds = [file.as_fd(); MAX_FDS];
        for piece in [&start[..], b"1234"] {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
            let parts = [IoSlice::new(piece)];
            sendmsg(a.stream(), &parts, &mut ancillary, SendFlags::empty()).unwrap();
        }
        let message = b.receive(&mut Vec::new()).unwrap().unwrap();
        assert!(message.lost_fds);
        assert_eq!(message.fds.len(), MAX_FDS);
        assert!(
            a.send(&header, b"1234", &[file.as_fd(); MAX_FDS + 1])
                .is_err()
        );
    }

    #[test]
    fn a_stream_that_ends_within_a_message_is_an_error() {
        let header = Header {
            flags: flag::NO_REPLY,
            ..Header::request(3, Command::SetIrqs, 4)
        };
        let mut whole = Vec::new();
        header.put(&mut whole);
        whole.extend_from_slice(b"1234");
        for len in 1..whole.len() {
            let (a, b) = pair();
            a.stream().write_all(&whole[..len]).unwrap();
            drop(a);
            let error = b.receive(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "after {len} bytes");
        }
    }

    #[test]
    fn waiting_ends() {
        let (_a, b) = pair();
        b.set_timeout(Duration::from_millis(20)).unwrap();
        let error = b.receive(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_message_that_trickles_in_ends_in_time() {
        let (mut a, b) = UnixStream::pair().unwrap();
        // Byte by byte, far slower than the limit; and longer than whatever may come while this thread does not run.
        let mut start = Vec::new();
        Header::request(1, Command::Version, MAX_BODY).put(&mut start);
        let trickle = std::thread::spawn(move || {
            let mut bytes = start.into_iter().chain(std::iter::repeat(0));
            while bytes
                .next()
                .is_some_and(|byte| a.write_all(&[byte]).is_ok())
            {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let b = Socket::from(b);
        let mut wait = for_at_most(Duration::from_millis(60));
        let error = b.receive_while(&mut Vec::new(), &mut wait).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(b);
        trickle.join().unwrap();
    }

    #[test]
    fn what_is_there_when_the_time_is_over_is_taken() {
        let (a, b) = pair();
        let header = Header::request(3, Command::Version, 5);
        a.send(&header, b"12345", &[]).unwrap();
        let late = |body: &mut Vec<u8>| b.receive_while(body, &mut || None);
        let mut body = Vec::new();
        let message = late(&mut body).unwrap().unwrap();
        assert_eq!((message.header, &body[..]), (header, &b"12345"[..]));
        assert_eq!(late(&mut body).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
