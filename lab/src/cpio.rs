//! The archive that a kernel unpacks as its first file system: cpio, in the format called newc.
//!
//! Each member is a header of hexadecimal fields, a name and the content, each padded to four bytes
//! (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive under construction.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    members: u32,
}

impl Archive {
    /// Adds a folder.
    pub fn directory(&mut self, name: &str) {
        self.member(name, DIRECTORY | 0o755, &[], (0, 0));
    }

    /// Adds a file with its permissions.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.member(name, FILE | permissions, content, (0, 0));
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.member(name, LINK | 0o777, target.as_bytes(), (0, 0));
    }

    /// Adds a character device.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.member(name, CHARACTER_DEVICE | 0o600, &[], (major, minor));
    }

    /// The archive, closed by its trailer.
    pub fn finish(mut self) -> Vec<u8> {
        self.member("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn member(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.members += 1;
        let length = u32::try_from(content.len()).expect("a guest's files are below 4 GiB");
        let name_length = u32::try_from(name.len() + 1).expect("names are short");
        let fields = [
            self.members,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            length,
            0, // device of the file system
            0,
            device.0,
            device.1,
            name_length,
            0, // checksum, which this format has none of
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_members_are_aligned_and_closed() {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.file("bin/a", 0o755, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        // A header of 110 bytes and "bin\0" are 114: the next member is at 116.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[116..122], b"070701");
        assert_eq!(&bytes[116 + 54..116 + 62], b"00000005");
        assert_eq!(&bytes[116 + 110..116 + 116], b"bin/a\0");
        assert_eq!(&bytes[116 + 116..116 + 121], b"12345");
        let end = bytes.windows(11).position(|part| part == b"TRAILER!!!\0");
        assert!(end.is_some());
    }
}
