//! What VFIO says of a device's region: where it is, and which parts of it can be mapped. The kernel and the
//! processes that serve devices say it in the same words (linux/vfio.h, `struct vfio_region_info`).
//!
//! Nothing here is believed: offsets that lead nowhere, chains that go round and areas beyond the region are
//! left out.

use std::io;
use std::ops::Range;

use vfio_bindings::bindings::vfio;

/// Bytes of `struct vfio_region_info` before capabilities.
pub(crate) const HEADER: usize = 32;
/// No information is longer: thousands of areas would fit.
pub(crate) const LONGEST: usize = 64 << 10;
/// Links of a chain that are followed.
const MOST_CAPABILITIES: usize = 16;
/// Granularity of mappings.
const PAGE: u64 = 4096;

/// A region of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegionInfo {
    /// `VFIO_REGION_INFO_FLAG_..`.
    pub flags: u32,
    /// Length in bytes; 0 for a region that is not there.
    pub size: u64,
    /// Where it begins in the file that stands for it.
    pub offset: u64,
    /// Parts that can be mapped, in whole pages, in order and apart.
    pub areas: Vec<Range<u64>>,
    /// What it is, if it is no BAR: type and number within the type.
    pub kind: Option<(u32, u32)>,
}

impl RegionInfo {
    /// Takes it from the bytes of the answer; `None` if there are too few.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let flags = word(bytes, 4)?;
        let mut info = Self {
            flags,
            size: double(bytes, 16)?,
            offset: double(bytes, 24)?,
            areas: Vec::new(),
            kind: None,
        };
        let first = match flags & vfio::VFIO_REGION_INFO_FLAG_CAPS {
            0 => 0,
            _ => word(bytes, 12)?,
        };
        let kind = capability(bytes, first, vfio::VFIO_REGION_INFO_CAP_TYPE);
        info.kind = kind.and_then(|at| Some((word(bytes, at + 8)?, word(bytes, at + 12)?)));
        if flags & vfio::VFIO_REGION_INFO_FLAG_MMAP != 0 {
            let sparse = capability(bytes, first, vfio::VFIO_REGION_INFO_CAP_SPARSE_MMAP);
            let areas = match sparse {
                Some(at) => sparse_areas(bytes, at),
                None => vec![0..info.size],
            };
            info.areas = whole_pages(areas, info.size);
        }
        Some(info)
    }

    /// Whether a register BAR can be there: readable, writable, not empty, below 4 GiB.
    pub fn is_registers(&self) -> bool {
        let access = vfio::VFIO_REGION_INFO_FLAG_READ | vfio::VFIO_REGION_INFO_FLAG_WRITE;
        self.flags & access == access && self.size > 0 && u32::try_from(self.size).is_ok()
    }

    /// Where byte `within` of the region is in its file.
    pub fn position(&self, within: u64) -> io::Result<u64> {
        let position = self.offset.checked_add(within);
        position.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The 32-bit number at `at`.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// The 64-bit number at `at`.
pub(crate) fn double(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

/// Where the capability `id` is, in the chain that begins at `first` (`struct vfio_info_cap_header`).
pub(crate) fn capability(bytes: &[u8], first: u32, id: u32) -> Option<usize> {
    let mut at = first as usize;
    for _ in 0..MOST_CAPABILITIES {
        let header = word(bytes, at).filter(|_| at != 0)?;
        if header & 0xFFFF == id {
            return Some(at);
        }
        at = word(bytes, at + 4)? as usize;
    }
    None
}

/// The areas of the capability at `at` (`struct vfio_region_info_cap_sparse_mmap`).
fn sparse_areas(bytes: &[u8], at: usize) -> Vec<Range<u64>> {
    let count = word(bytes, at + 8).unwrap_or(0) as usize;
    let area = |index: usize| {
        let at = at + 16 + 16 * index;
        let (start, size) = (double(bytes, at)?, double(bytes, at + 8)?);
        Some(start..start.checked_add(size)?)
    };
    (0..count.min(LONGEST / 16)).map_while(area).collect()
}

/// What of `areas` is whole pages of a region of `size` bytes, in order; areas that overlap others are left out.
fn whole_pages(mut areas: Vec<Range<u64>>, size: u64) -> Vec<Range<u64>> {
    areas.sort_by_key(|area| area.start);
    let mut end = 0;
    let fits = |area: &Range<u64>| {
        let start = area.start.checked_next_multiple_of(PAGE)?;
        let stop = area.end.min(size) / PAGE * PAGE;
        (end <= start && start < stop).then(|| {
            end = stop;
            start..stop
        })
    };
    let mut fits = fits;
    areas.iter().filter_map(&mut fits).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAPPABLE: u32 = 0xF;

    /// The answer for a region with these areas, behind another capability.
    fn answer(flags: u32, size: u64, areas: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [0, flags, 0, HEADER as u32] {
            bytes.extend(u32::to_ne_bytes(number));
        }
        bytes.extend(size.to_ne_bytes());
        bytes.extend((1_u64 << 40).to_ne_bytes());
        // VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version 1; the next is 8 bytes on.
        bytes.extend([3_u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend(u32::to_ne_bytes(HEADER as u32 + 8));
        bytes.extend([1_u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend([0, areas.len() as u32, 0].map(u32::to_ne_bytes).concat());
        for (start, len) in areas {
            bytes.extend([*start, *len].map(u64::to_ne_bytes).concat());
        }
        bytes
    }

    #[test]
    fn only_what_is_offered_is_mapped() {
        let areas = [(0x8000, 0x2000), (0x1000, 0x1000)];
        let info = RegionInfo::parse(&answer(MAPPABLE, 0x1_0000, &areas)).unwrap();
        assert_eq!(info.areas, [0x1000..0x2000, 0x8000..0xa000]);
        assert_eq!((info.size, info.offset), (0x1_0000, 1 << 40));
        assert!(info.is_registers());
        let whole = RegionInfo::parse(&answer(0x7, 0x1_0800, &areas)).unwrap();
        assert_eq!(whole.areas, [0..0x1_0000]);
        let none = RegionInfo::parse(&answer(0x3, 0x1_0000, &areas)).unwrap();
        assert_eq!(none.areas, []);
        let nothing = RegionInfo::parse(&answer(MAPPABLE, 0x1_0000, &[])).unwrap();
        assert_eq!(nothing.areas, []);
    }

    #[test]
    fn areas_that_cannot_be_are_left_out() {
        let areas = [
            (0xf000, 0x9000),
            (u64::MAX, 2),
            (0x20_0000, 0x1000),
            (0xf800, 0x800),
            (0x1800, 0x1000),
            (0, 0),
        ];
        let info = RegionInfo::parse(&answer(MAPPABLE, 0x1_0000, &areas[..1])).unwrap();
        assert_eq!(info.areas, [0xf000..0x1_0000]);
        let info = RegionInfo::parse(&answer(MAPPABLE, 0x1_0000, &areas[1..])).unwrap();
        assert_eq!(info.areas, []);
    }

    #[test]
    fn a_chain_that_goes_round_ends() {
        let mut bytes = answer(MAPPABLE, 0x1_0000, &[]);
        let at = HEADER + 4;
        bytes[at..at + 4].copy_from_slice(&(HEADER as u32).to_ne_bytes());
        assert_eq!(capability(&bytes, HEADER as u32, 1), None);
        assert_eq!(capability(&bytes, HEADER as u32, 3), Some(HEADER));
        assert_eq!(capability(&bytes, u32::MAX, 3), None);
        assert_eq!(capability(&bytes, 0, 0), None);
    }

    proptest! {
        #[test]
        fn any_answer_makes_areas_within_the_region(bytes in proptest::collection::vec(any::<u8>(), 0..200), flags in 0_u8..16) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.get_mut(4) {
                *byte = flags;
            }
            let Some(info) = RegionInfo::parse(&bytes) else {
                prop_assert!(bytes.len() < HEADER);
                return Ok(());
            };
            let mut end = 0;
            for area in &info.areas {
                prop_assert!(area.start % PAGE == 0 && area.end % PAGE == 0);
                prop_assert!(end <= area.start && area.start < area.end && area.end <= info.size);
                end = area.end;
            }
        }
    }
}
