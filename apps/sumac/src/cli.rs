//! What a person types.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use sumac_runtime::load::Key;

use crate::serve::ServeOptions;
use crate::{bind, devices, doctor, hugepages};

/// Sets up devices for Sumac's applications, serves software devices, and looks at what hosts load.
#[derive(Debug, Parser)]
#[command(
    name = "sumac",
    version,
    after_help = "Examples:\n  \
        sumac devices                                  # which cards there are\n  \
        sumac doctor                                   # what is missing, and the command that mends it\n  \
        sudo sumac bind --user $USER 0000:03:00.0      # from the kernel to an application\n  \
        sudo sumac unbind 0000:03:00.0                 # and back\n  \
        sudo sumac hugepages --for-pool 4096           # memory for packets\n  \
        sumac serve 82599 --socket /tmp/nic.sock --wire tap=tap0\n  \
        sumac domain verify target/domains/*.domain\n\n\
        Exit status: 0 if all is well, 1 if the machine is at fault, 2 if a file or an argument is."
)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List network and NVMe controllers: driver, IOMMU group, NUMA node, link, interface.
    Devices(devices::Options),
    /// Say what keeps devices from being used, and the command that mends it.
    Doctor(doctor::Options),
    /// Take devices from the kernel and give them to vfio-pci, for an application to open.
    Bind(bind::BindOptions),
    /// Give devices back to the kernel's drivers.
    Unbind(bind::UnbindOptions),
    /// Show huge pages, reserve them, or give them back.
    Hugepages(hugepages::Options),
    /// Domain files: signed images of drivers and applications, built by `cargo xtask domains`.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Serve a software device to other processes.
    #[command(subcommand)]
    Serve(ServeCommand),
}

/// Which device to serve.
#[derive(Debug, Subcommand)]
pub enum ServeCommand {
    /// An Intel 82599 (10 GbE), over vfio-user: QEMU's `vfio-user-pci` plugs it into a guest, `l2fwd
    /// vfio-user:SOCKET` takes it as well.
    #[command(name = "82599")]
    Ixgbe(ServeOptions),
}

/// What to do with domain files.
#[derive(Debug, Subcommand)]
pub enum DomainCommand {
    /// Check files as a host does before it loads them: the signature, by a trusted key; compiler and
    /// layouts, against this program's; every segment and relocation. The first that fails is named.
    #[command(
        after_help = "Trusted keys are in ~/.config/sumac/trusted-keys (or below $XDG_CONFIG_HOME), one a line;\n\
            `cargo xtask domains` adds the development key that it makes there."
    )]
    Verify {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Trust this public key (64 hexadecimal digits) and no other; may be given more than once.
        #[arg(long, value_name = "KEY", value_parser = key)]
        trust: Vec<Key>,
    },
    /// Show what a file says of itself: who signed it, what it offers, how it was built, what goes where
    /// in memory. The signature must fit; whether the signer is trusted does not matter here.
    Inspect {
        /// The file.
        file: PathBuf,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn key(text: &str) -> Result<Key, String> {
    Key::from_hex(text).ok_or_else(|| "64 hexadecimal digits make a public key".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn test_definitions_are_sound() {
        Options::command().debug_assert();
    }
}
