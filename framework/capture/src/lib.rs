//! Capture files: reading and writing pcap.
