//! Opens devices as every application does, shows what there is, and times the mapping of memory for them:
//! `open_device SPEC... [--map MIB]`. A look behind VFIO without a driver.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sumac_linux::{Bell, DeviceSpec, OpenPorts};
use sumac_testbed::Register;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("open_device: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (specs, map) = match arguments.iter().position(|word| word == "--map") {
        Some(at) => (&arguments[..at], arguments.get(at + 1)),
        None => (&arguments[..], None),
    };
    let specs = specs
        .iter()
        .map(|word| word.parse())
        .collect::<Result<Vec<DeviceSpec>, _>>()?;
    let opened = sumac_linux::open::open(&specs, None)?;
    if let Some(access) = opened.access() {
        println!("taken by: {access}");
    }
    for range in opened.bus_addresses() {
        println!("bus addresses: {range:#x?}");
    }
    show(&opened)?;
    if let Some(mib) = map {
        time_mapping(&opened, mib.parse()?)?;
    }
    Ok(())
}

fn show(opened: &OpenPorts) -> Result<(), Box<dyn std::error::Error>> {
    for port in &opened.ports {
        let backing = &port.backing;
        let (id, bar) = (backing.id, &backing.bar);
        println!(
            "{}: {:04x}:{:04x}, {bar:?}",
            backing.name, id.vendor, id.device
        );
        println!(
            "  registers: {:08x} {:08x}",
            bar.read(Register(0)),
            bar.read(Register(8))
        );
        let memory = backing.dma.allocate(4096, 4096)?;
        println!("  memory: {memory:?}, 2 MiB pages: {}", memory.huge_pages());
        if let Some(interrupts) = &port.interrupts {
            let vectors = interrupts.vectors()?;
            let bells = (0..vectors.min(4)).map(|_| Bell::new().map(Arc::new));
            let bells = bells.collect::<Result<Vec<_>, _>>()?;
            interrupts.connect(&bells)?;
            let rung = bells
                .iter()
                .filter(|bell| bell.wait(Duration::ZERO))
                .count();
            interrupts.connect(&[])?;
            println!(
                "  vectors: {vectors}, {} connected, {rung} rung",
                bells.len()
            );
        }
        if !port.control.stop() {
            return Err("it does not stop".into());
        }
        port.control.start();
        println!("  stopped and started");
    }
    Ok(())
}

/// Maps that much memory, and says how long it took and in what pages.
fn time_mapping(opened: &OpenPorts, mib: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (start, before) = (Instant::now(), opened.mapping_time());
    let memory = opened.dma.allocate(mib << 20, 1 << 21)?;
    let (taken, mapped) = (start.elapsed(), opened.mapping_time() - before);
    let huge = memory.huge_pages();
    println!("{mib} MiB in {taken:?}, {mapped:?} of it for mapping; 2 MiB pages: {huge}");
    Ok(())
}
