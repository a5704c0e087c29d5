//! Where a program shows what this crate, drivers and domains log.

use std::io::Write;

use env_logger::Builder;
use log::LevelFilter;

/// Shows warnings and errors on standard error from now on, each as a line that begins with the program's name; more or
/// less if the environment variable `SUMAC_LOG` says so: `off`, `error`, `warn`, `info`, `debug`, `trace`, or
/// `sumac_linux::domains=info` for a part.
pub fn to_stderr(program: &'static str) {
    let first = Builder::new()
        .filter_level(LevelFilter::Warn)
        .parse_env("SUMAC_LOG")
        .format(move |line, record| writeln!(line, "{program}: {}", record.args()))
        .try_init();
    // A second call finds the logger of the first.
    let _ = first;
}
