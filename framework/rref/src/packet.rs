//! A packet: a buffer of the packet pool (or a chain of them) and what is known of the frame in it.
//!
//! In a batch a packet is one 16-byte [`Entry`]; taken out it is a [`Packet`], an owned shared object
//! whose header carries its owner. Dropping it gives its buffers back.

use core::mem::ManuallyDrop;
use core::slice;

use bitflags::bitflags;
use sumac_device::Whole;
use sumac_device::ring::{BufferId, Entry};

use crate::pool::BUFFER_BYTES;
use crate::{DomainId, Header, PacketPool};

bitflags! {
    /// What is known of a received frame, and what is asked for on transmit. The receive bits lie
    /// where the 82599 reports them, so that its driver masks instead of translating.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PacketFlags: u32 {
        /// The frame goes on in further buffers.
        const CHAINED = Entry::CHAINED;
        /// Received: the VLAN tag was stripped and is in the metadata.
        const VLAN_STRIPPED = 1 << 3;
        /// Received: the device checked the TCP or UDP checksum.
        const L4_CHECKED = 1 << 5;
        /// Received: the device checked the IPv4 header checksum.
        const IP_CHECKED = 1 << 6;
        /// Received: over which fields the hash is, zero for no hash (82599 datasheet, table 7-13).
        const RSS_TYPE = 0xf << 8;
        /// Received: the TCP or UDP checksum is wrong.
        const L4_BAD = 1 << 30;
        /// Received: the IPv4 header checksum is wrong.
        const IP_BAD = 1 << 31;
        /// Transmit: insert the VLAN tag in the metadata.
        const INSERT_VLAN = 1 << 16;
        /// Transmit: compute the IPv4 header checksum.
        const INSERT_IP_CHECKSUM = 1 << 17;
        /// Transmit: compute the TCP checksum (the field holds the pseudo header's sum).
        const INSERT_TCP_CHECKSUM = 1 << 18;
        /// Transmit: compute the UDP checksum (the field holds the pseudo header's sum).
        const INSERT_UDP_CHECKSUM = 1 << 19;
        /// Transmit: the frame is IPv4; needed with any checksum above, clear for IPv6.
        const IS_IPV4 = 1 << 20;
    }
}

impl PacketFlags {
    /// Everything asked for on transmit.
    pub const OFFLOADS: Self = Self::INSERT_VLAN
        .union(Self::INSERT_IP_CHECKSUM)
        .union(Self::INSERT_TCP_CHECKSUM)
        .union(Self::INSERT_UDP_CHECKSUM);
}

/// Header lengths for checksum insertion, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLengths {
    /// From the frame's first byte to the IP header.
    pub l2: u8,
    /// The IP header with options or extension headers.
    pub l3: u16,
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMeta(Entry);

impl PacketMeta {
    pub(crate) fn of(entry: Entry) -> Self {
        Self(entry)
    }

    /// The flags.
    pub fn flags(self) -> PacketFlags {
        PacketFlags::from_bits_retain(self.0.flags())
    }

    /// The receive-side scaling hash, if the device computed one.
    pub fn rss_hash(self) -> Option<u32> {
        self.flags()
            .intersects(PacketFlags::RSS_TYPE)
            .then_some(self.0.note())
    }

    /// The VLAN tag control information the device took out of the frame.
    pub fn vlan_tag(self) -> Option<u16> {
        self.flags()
            .contains(PacketFlags::VLAN_STRIPPED)
            .then_some(self.0.tag())
    }

    /// Whether the IPv4 header checksum is right; none if it was not checked.
    pub fn ip_checksum_good(self) -> Option<bool> {
        let flags = self.flags();
        flags
            .contains(PacketFlags::IP_CHECKED)
            .then_some(!flags.contains(PacketFlags::IP_BAD))
    }

    /// Whether the TCP or UDP checksum is right; none if it was not checked.
    pub fn l4_checksum_good(self) -> Option<bool> {
        let flags = self.flags();
        flags
            .contains(PacketFlags::L4_CHECKED)
            .then_some(!flags.contains(PacketFlags::L4_BAD))
    }
}

/// One packet, owned. Its frame is without FCS.
pub struct Packet {
    pool: &'static PacketPool,
    entry: Entry,
}

impl Packet {
    /// An empty packet from the pool, owned by the host; none when the pool is exhausted.
    pub fn allocate(pool: &'static PacketPool) -> Option<Self> {
        // SAFETY: one buffer, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let id = pool.take()?;
        pool.set_owner(id, (pool.heap().hooks().current)());
        pool.end(id);
        Some(Self {
            pool,
            entry: Entry::new(id, [0, 0]),
        })
    }

    /// A packet that holds `frame`, over as many buffers as it takes; none when the pool is
    /// exhausted.
    pub fn from_frame(pool: &'static PacketPool, frame: &[u8]) -> Option<Self> {
        let mut packet = Self::allocate(pool)?;
        let (first, rest) = frame.split_at(frame.len().min(usize::from(BUFFER_BYTES)));
        packet.resize(first.len() as u16);
        packet.data_mut().copy_from_slice(first);
        let mut last = packet.entry.id();
        for chunk in rest.chunks(usize::from(BUFFER_BYTES)) {
            // SAFETY: one buffer and a copy, and nothing in it fails.
            let _whole = unsafe { Whole::begin() };
            let id = pool.take()?;
            pool.link(last, id, chunk.len() as u16);
            packet.entry = packet
                .entry
                .with_flags(packet.entry.flags() | Entry::CHAINED);
            // SAFETY: `id` was just taken from the pool and is nobody else's.
            unsafe { bytes_mut(pool, id, chunk.len() as u16) }.copy_from_slice(chunk);
            last = id;
        }
        Some(packet)
    }

    /// # Safety
    /// The caller owns the buffers of `entry`, which are of `pool`, and gives them up.
    pub(crate) unsafe fn from_entry(
        pool: &'static PacketPool,
        entry: Entry,
        owner: DomainId,
    ) -> Self {
        pool.set_owner(entry.id(), owner);
        if entry.flags() & Entry::CHAINED == 0 {
            // Whoever finds the packet by its owner finds no more than this buffer.
            pool.end(entry.id());
        }
        Self { pool, entry }
    }

    /// The entry; its buffers now are the caller's, as children of something else.
    pub(crate) fn into_entry(self) -> Entry {
        let this = ManuallyDrop::new(self);
        this.pool.set_owner(this.entry.id(), DomainId::NONE);
        this.entry
    }

    /// The pool the packet's buffers are of.
    pub fn pool(&self) -> &'static PacketPool {
        self.pool
    }

    /// The header of the packet's first buffer.
    pub fn header(&self) -> Option<&Header> {
        self.pool.header(self.entry.id())
    }

    /// What is known of the frame.
    pub fn meta(&self) -> PacketMeta {
        PacketMeta::of(self.entry)
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        self.segments().map(<[u8]>::len).sum()
    }

    /// The bytes in the first buffer.
    pub fn data(&self) -> &[u8] {
        // SAFETY: this packet owns its buffers.
        unsafe { bytes(self.pool, self.entry.id(), self.entry.len()) }
    }

    /// The bytes in the first buffer.
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: this packet owns its buffers and is borrowed mutably.
        unsafe { bytes_mut(self.pool, self.entry.id(), self.entry.len()) }
    }

    /// The frame, buffer by buffer.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        // SAFETY: this packet owns its buffers.
        segments(self.pool, self.entry).map(|(id, len)| unsafe { bytes(self.pool, id, len) })
    }

    /// Sets how many bytes of the first buffer the frame takes, at most [`BUFFER_BYTES`].
    pub fn resize(&mut self, len: u16) {
        self.entry = self.entry.with_len(len.min(BUFFER_BYTES));
    }

    /// Asks the device that transmits the frame to insert checksums, as `flags` say.
    pub fn request_checksums(&mut self, flags: PacketFlags, headers: HeaderLengths) {
        let keep = self.entry.flags()
            & (PacketFlags::CHAINED | PacketFlags::INSERT_VLAN | PacketFlags::VLAN_STRIPPED).bits();
        let asked = (flags & (PacketFlags::OFFLOADS | PacketFlags::IS_IPV4)).bits();
        let lengths = u32::from(headers.l2) | u32::from(headers.l3) << 8;
        self.entry = self.entry.with_flags(keep | asked).with_note(lengths);
    }

    /// Asks the device that transmits the frame to insert a VLAN tag.
    pub fn request_vlan(&mut self, tag: u16) {
        let flags = self.entry.flags() | PacketFlags::INSERT_VLAN.bits();
        self.entry = self.entry.with_flags(flags).with_tag(tag);
    }
}

/// The header lengths in an entry that asks for checksums, as a transmit format reads them.
pub fn header_lengths(entry: Entry) -> HeaderLengths {
    HeaderLengths {
        l2: entry.note() as u8,
        l3: (entry.note() >> 8) as u16,
    }
}

impl core::fmt::Debug for Packet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (id, len) = (self.entry.id(), self.frame_len());
        write!(f, "Packet({len} bytes from buffer {id} on)")
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: bounded by the frame, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        self.pool.set_owner(self.entry.id(), DomainId::NONE);
        // SAFETY: this packet owned its buffers and is gone.
        unsafe { give_frame(self.pool, self.entry) };
    }
}

/// The buffers of a frame and the bytes in each.
pub(crate) fn segments(
    pool: &PacketPool,
    entry: Entry,
) -> impl Iterator<Item = (BufferId, u16)> + '_ {
    let chained = entry.flags() & Entry::CHAINED != 0;
    core::iter::successors(Some((entry.id(), entry.len())), move |(id, _)| {
        if chained {
            pool.continuation(*id)
        } else {
            None
        }
    })
}

/// Gives a frame's buffers back to the pool.
///
/// # Safety
/// The caller owns them and gives them up.
pub(crate) unsafe fn give_frame(pool: &PacketPool, entry: Entry) {
    let mut buffer = Some((entry.id(), 0));
    while let Some((id, _)) = buffer {
        buffer = if entry.flags() & Entry::CHAINED != 0 {
            pool.continuation(id)
        } else {
            None
        };
        pool.give(&[id]);
    }
}

/// # Safety
/// The caller owns buffer `id`, and nobody changes it while the bytes are looked at.
pub(crate) unsafe fn bytes(pool: &PacketPool, id: BufferId, len: u16) -> &[u8] {
    let len = usize::from(len.min(BUFFER_BYTES));
    // SAFETY: `data` is the start of `BUFFER_BYTES` bytes that live as long as the pool, initialised
    // since DMA memory is zeroed when made; the caller answers for who uses them.
    unsafe { slice::from_raw_parts(pool.data(id).as_ptr(), len) }
}

/// # Safety
/// The caller owns buffer `id`, and nobody else looks at it meanwhile.
#[expect(
    clippy::mut_from_ref,
    reason = "a pool lends buffers to those who own their ids"
)]
pub(crate) unsafe fn bytes_mut(pool: &PacketPool, id: BufferId, len: u16) -> &mut [u8] {
    let len = usize::from(len.min(BUFFER_BYTES));
    // SAFETY: as in `bytes`, and the caller answers for nobody else using them.
    unsafe { slice::from_raw_parts_mut(pool.data(id).as_ptr(), len) }
}
