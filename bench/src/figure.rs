//! The figure: two bars a row, ours and the peer's, in ticks a packet.

use std::path::Path;

use plotters::prelude::*;

use crate::report::{Report, Row};

const WIDTH: u32 = 900;
const ROW: u32 = 34;
const OURS: RGBColor = RGBColor(0xb0, 0x24, 0x18);
const PEER: RGBColor = RGBColor(0x8a, 0x8f, 0x98);

/// Draws the rows that have a peer into an SVG file.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(report: &Report, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let rows: Vec<&Row> = report
        .rows
        .iter()
        .filter(|row| row.peer.is_some())
        .collect();
    let count = rows.len().max(1);
    let height = 110 + ROW * count as u32;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let longest = rows.iter().map(|row| row.ours.max(row.peer.unwrap_or(0.0)));
    let longest = longest.fold(1.0, f64::max) * 1.25;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Ticks a packet on the same software 82599: ours and the peer",
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(170)
        .build_cartesian_2d(0.0..longest, 0.0..count as f64)?;
    let name = |at: f64| {
        let index = count as f64 - 1.0 - at.floor();
        let row = rows
            .get(index as usize)
            .filter(|_| (at.fract() - 0.5).abs() < 0.01);
        row.map_or(String::new(), |row| row.name.clone())
    };
    let format = |at: &f64| name(*at);
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(2 * count + 1)
        .y_label_formatter(&format)
        .x_desc("ticks of the time stamp counter a packet (less is better)")
        .draw()?;
    for (index, row) in rows.iter().enumerate() {
        let top = (count - index) as f64 - 0.12;
        let bars = [(row.ours, OURS, 0.0), (row.peer.unwrap_or(0.0), PEER, 0.38)];
        for (value, colour, below) in bars {
            let (y0, y1) = (top - below - 0.36, top - below);
            let bar = Rectangle::new([(0.0, y0), (value, y1)], colour.filled());
            chart.draw_series([bar])?;
            let label = Text::new(format!("{value:.1}"), (value, y1), ("sans-serif", 12));
            chart.draw_series([label])?;
        }
    }
    legend(&root, report)?;
    root.present()?;
    Ok(())
}

fn legend(
    root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    report: &Report,
) -> Result<(), Box<dyn std::error::Error>> {
    let peer = report.rows.iter().find_map(|row| row.peer_name.clone());
    let peer = peer.unwrap_or_else(|| "peer".to_owned());
    let entries = [("Sumac".to_owned(), OURS), (peer, PEER)];
    for (index, (name, colour)) in entries.into_iter().enumerate() {
        let x = WIDTH as i32 - 200;
        let y = 44 + 18 * index as i32;
        root.draw(&Rectangle::new([(x, y), (x + 12, y + 10)], colour.filled()))?;
        root.draw(&Text::new(name, (x + 18, y), ("sans-serif", 13)))?;
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
        draw(&report, &path).unwrap();
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
