//! The figures: a panel for each kind of row, in it a bar a row, or two, ours and the peer's.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::{Report, Row};

const WIDTH: i32 = 900;
/// Where bars begin and how long the longest is.
const LEFT: i32 = 150;
const LENGTH: i32 = 560;
const TOP: i32 = 92;
const ROW: i32 = 34;
const BAR: i32 = 13;
/// Height of a panel's title, and the room below a panel.
const TITLE: i32 = 30;
const GAP: i32 = 14;
const FOOT: i32 = 48;
const OURS: RGBColor = RGBColor(0xb0, 0x24, 0x18);
const VECTOR: RGBColor = RGBColor(0x5f, 0x66, 0x70);
const OTHER: RGBColor = RGBColor(0xa9, 0xae, 0xb6);
/// The device alone is neither driver.
const DEVICE: RGBColor = RGBColor(0x2f, 0x6d, 0x9c);
const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);

/// What a figure says besides its rows.
pub struct Sheet {
    /// Above all.
    title: &'static str,
    /// What was measured, after the machine.
    about: &'static str,
    /// The panels in the order in which they are drawn: the beginning of their rows' names, and their titles.
    /// A row is in the one with the longest beginning that fits.
    panels: &'static [(&'static str, &'static str)],
    /// Below all.
    notes: [&'static str; 2],
    /// Whether a row's peer is a driver of others', with a bar of its own, and not another row.
    peers: bool,
}

/// Of drivers on the same software device.
pub const PEERS: Sheet = Sheet {
    title: "Ticks a packet on the same software 82599, less is better",
    about: "64-byte frames; name/packets a turn",
    panels: &[
        ("", "streaming: driver and device run freely on two cores"),
        (
            "phase/",
            "phase: the device stands still, the driver alone is timed",
        ),
        (
            "stepped/",
            "stepped: driver and device by turns on one core, the driver is timed",
        ),
        (
            "device/",
            "the device alone: no driver costs less than this while streaming",
        ),
    ],
    notes: [
        "x0.80: ours by the peer's. near, far: how far apart the cores were. Each group has a scale of its own.",
        "device-limited: the device was never idle and may have set the pace; such a row says little about drivers.",
    ],
    peers: true,
};

/// Of calls.
pub const CALLS: Sheet = Sheet {
    title: "Ticks a call, less is better",
    about: "medians",
    panels: &[
        (
            "",
            "pipelined: a call may begin before the one before has ended",
        ),
        (
            "serialised/",
            "serialised: a fence between calls, its own time included",
        ),
        (
            "process",
            "a round trip to another process on the same core",
        ),
        ("serialised/process", "the same, serialised"),
    ],
    notes: [
        "x0.05 of syscall: by the row beside it. paper: cycles that RedLeaf's authors measured, on their machine (OSDI 2020).",
        "Each group has a scale of its own.",
    ],
    peers: false,
};

/// Of packets through a port that does nothing.
pub const NULLNET: Sheet = Sheet {
    title: "Ticks a packet through a port that does nothing, less is better",
    about: "medians; name/packets a turn",
    panels: &[
        ("driver/", "driver: no boundary"),
        ("domain/", "domain: the port is in a domain of its own"),
        (
            "shadow/",
            "shadow: the same, and would be started again if it died",
        ),
    ],
    notes: [
        "x0.95 of driver: packets a second by those without a boundary. paper: what RedLeaf's authors measured (OSDI 2020).",
        "Each group has a scale of its own.",
    ],
    peers: false,
};

/// Of packets through the 82599 driver.
pub const FORWARD: Sheet = Sheet {
    title: "Ticks a packet that l2fwd forwards, less is better",
    about: "64-byte frames, software 82599s; name/packets a turn",
    panels: &[
        ("", "streaming: driver and device run freely on two cores"),
        (
            "phase/",
            "phase: the device stands still, the application alone is timed",
        ),
        (
            "stepped/",
            "stepped: application and device by turns on one core, the application is timed",
        ),
    ],
    notes: [
        "x1.05: by the driver linked in. driver-again: the same driver on another device, for what any ratio may be off.",
        "device-limited: the device may have set the pace; a faster driver then finds fewer frames at a time.",
    ],
    peers: true,
};

/// Of drivers that are started again.
pub const RESTART: Sheet = Sheet {
    title: "Microseconds until frames pass again, less is better",
    about: "medians",
    panels: &[(
        "",
        "a driver that died is started again, and the whole program is started",
    )],
    notes: [
        "x0.02: by the time that starting the program takes. reset: the device's own, by the waits that the datasheet has its driver make.",
        "less-reset: the rest of what a restart takes.",
    ],
    peers: true,
};

/// Of programs that have nothing to do.
pub const IDLE: Sheet = Sheet {
    title: "Percent of a core while nothing comes, less is better",
    about: "means over seconds; two ports",
    panels: &[
        ("sim/", "software cards, which have a thread in the program"),
        ("served/", "cards of another process, as real ones are"),
    ],
    notes: [
        "x0.002 of polling: by what the same program takes that polls. less-device: without the software cards' thread.",
        "Each group has a scale of its own.",
    ],
    peers: false,
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

impl Sheet {
    fn panel_of(&self, row: &Row) -> Option<usize> {
        let fits = |(_, (prefix, _)): &(usize, &(&str, &str))| row.name.starts_with(prefix);
        let panels = self.panels.iter().enumerate().filter(fits);
        let longest = panels.max_by_key(|(_, (prefix, _))| prefix.len());
        longest.map(|(panel, _)| panel)
    }
}

/// Draws all rows into an SVG file.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(sheet: &Sheet, report: &Report, path: &Path) -> Drawn {
    let panels: Vec<(&str, Vec<&Row>)> = sheet
        .panels
        .iter()
        .enumerate()
        .map(|(panel, (_, title))| {
            let rows = report.rows.iter();
            let rows = rows.filter(|row| sheet.panel_of(row) == Some(panel));
            (*title, rows.collect())
        })
        .filter(|(_, rows): &(_, Vec<_>)| !rows.is_empty())
        .collect();
    let height: i32 = panels.iter().map(|(_, rows)| height_of(rows)).sum();
    let size = (WIDTH as u32, (TOP + height + FOOT) as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    write(&root, sheet.title, (16, 12), 19, &BLACK)?;
    let machine = &report.machine;
    let machine = format!(
        "{}, {:.2} GHz time stamp counter, {}",
        machine.processor,
        machine.ticks_per_second / 1e9,
        sheet.about
    );
    write(&root, &machine, (16, 38), 12, &FAINT)?;
    if sheet.peers {
        legend(&root, report)?;
    }
    let mut top = TOP;
    for (title, rows) in &panels {
        write(&root, title, (16, top), 14, &BLACK)?;
        bars(sheet, &root, rows, top + TITLE)?;
        top += height_of(rows);
    }
    for (note, y) in sheet.notes.into_iter().zip((top + 2..).step_by(18)) {
        write(&root, note, (16, y), 12, &FAINT)?;
    }
    root.present()?;
    Ok(())
}

fn height_of(rows: &[&Row]) -> i32 {
    TITLE + ROW * rows.len() as i32 + GAP
}

fn write(root: &Area, text: &str, at: (i32, i32), size: i32, colour: &RGBColor) -> Drawn {
    let style = ("sans-serif", size).into_font().color(colour);
    Ok(root.draw(&Text::new(text.to_owned(), at, style))?)
}

/// The bars of a panel, on a scale of its own.
fn bars(sheet: &Sheet, root: &Area, rows: &[&Row], top: i32) -> Drawn {
    let peer = |row: &Row| row.peer.filter(|_| sheet.peers);
    let longest = rows
        .iter()
        .map(|row| row.ours.max(peer(row).unwrap_or(0.0)));
    let scale = f64::from(LENGTH) / longest.fold(1.0, f64::max);
    let bottom = top + ROW * rows.len() as i32 - 4;
    root.draw(&PathElement::new([(LEFT, top - 3), (LEFT, bottom)], BLACK))?;
    for (row, y) in rows.iter().zip((top..).step_by(ROW as usize)) {
        write(root, &row.name, (16, y + 5), 13, &BLACK)?;
        let single = if peer(row).is_some() { 0 } else { BAR / 2 };
        let own = if row.peer.is_some() { OURS } else { DEVICE };
        let end = bar(root, row.ours, scale, y + single, own)?;
        write(root, &remark(sheet, row), (end + 6, y + single), 12, &FAINT)?;
        if let Some(peer) = peer(row) {
            bar(root, peer, scale, y + BAR, colour(row.peer_name.as_deref()))?;
        }
    }
    Ok(())
}

/// One bar with its value; returns where the value's text ends.
fn bar(
    root: &Area,
    value: f64,
    scale: f64,
    y: i32,
    colour: RGBColor,
) -> Result<i32, Box<dyn std::error::Error>> {
    let end = LEFT + (value * scale) as i32;
    let shape = [(LEFT, y), (end, y + BAR - 1)];
    root.draw(&Rectangle::new(shape, colour.filled()))?;
    write(root, &format!("{value:.1}"), (end + 4, y), 12, &BLACK)?;
    Ok(end + 34)
}

/// What is to be known of a row besides its figures.
fn remark(sheet: &Sheet, row: &Row) -> String {
    let mut parts = Vec::new();
    match (row.ratio, &row.peer_name) {
        (Some(ratio), Some(name)) if !sheet.peers => parts.push(format!("x{ratio:.2} of {name}")),
        (Some(ratio), _) => parts.push(format!("x{ratio:.2}")),
        (None, Some(name)) => parts.push(name.clone()),
        (None, None) => {}
    }
    if row.device_idle.is_some() && row.limited_by == "device" {
        parts.push("device-limited".to_owned());
    }
    if row.class != "same core" {
        parts.push(row.class.to_owned());
    }
    if let Some(paper) = row.paper {
        parts.push(format!("paper {paper}"));
    }
    parts.join(", ")
}

fn colour(peer: Option<&str>) -> RGBColor {
    match peer {
        Some(name) if name.ends_with("vector") => VECTOR,
        _ => OTHER,
    }
}

fn legend(root: &Area, report: &Report) -> Drawn {
    let mut entries = vec![("Sumac".to_owned(), OURS)];
    for row in report.rows.iter().filter(|row| row.peer.is_some()) {
        let name = row.peer_name.clone().unwrap_or_default();
        if entries.iter().all(|(known, _)| *known != name) {
            let colour = colour(Some(&name));
            entries.push((name, colour));
        }
    }
    for ((name, colour), x) in entries.into_iter().zip((16..).step_by(180)) {
        let square = [(x, 62), (x + 12, 73)];
        root.draw(&Rectangle::new(square, colour.filled()))?;
        write(root, &name, (x + 18, 61), 13, &BLACK)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Machine;
    use crate::statistics::{Class, Figure};

    #[test]
    fn every_row_is_drawn() {
        let figure = |ticks| Figure {
            ticks,
            windows: 9,
            device_idle: 0.5,
            empty: 0.0,
        };
        let row = |name: &str, ours| {
            let peer = "DPDK 22.11 vector".to_owned();
            Row::compare(
                name.to_owned(),
                Class::Near,
                figure(ours),
                figure(20.0),
                peer,
                None,
            )
        };
        let report = Report {
            machine: Machine {
                processor: "test".to_owned(),
                cores: 2,
                ticks_per_second: 1e9,
            },
            rows: vec![row("forward/32", 11.9), row("macswap/32", 13.1)],
            tolerated: Vec::new(),
        };
        let path = std::env::temp_dir().join(format!("sumac-{}.svg", std::process::id()));
        draw(&PEERS, &report, &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for part in [
            "forward/32",
            "macswap/32",
            "11.9",
            "13.1",
            "Sumac",
            "DPDK 22.11 vector",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
