//! `sumac domain` on files that are wrong, and on one that is right.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use sumac_testbed::domains::BuiltDomains;

/// The probe's and the application's domain files, and a configuration that trusts them.
fn built() -> &'static BuiltDomains {
    static BUILT: OnceLock<BuiltDomains> = OnceLock::new();
    BUILT.get_or_init(|| BuiltDomains::build(&["probe", "l2fwd"]))
}

fn sumac(arguments: &[&str], config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sumac"))
        .args(arguments)
        .env("XDG_CONFIG_HOME", config)
        .output()
        .expect("sumac runs")
}

/// Exit status 2 and one line.
#[track_caller]
fn assert_refused(output: &Output, text: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains(text), "{told}");
    assert!(output.stdout.is_empty());
}

#[test]
fn test_a_built_file_verifies_and_tells_of_itself() {
    let (config, file) = (built().folder(), built().path("probe"));
    let file = file.to_str().expect("a plain path");
    let verified = sumac(&["domain", "verify", file], config);
    let told = String::from_utf8_lossy(&verified.stdout);
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    assert!(
        told.contains("sound, signed by ") && told.contains("offers Probe "),
        "{told}"
    );

    let shown = sumac(&["domain", "inspect", file], config);
    let told = String::from_utf8_lossy(&shown.stdout);
    for text in [
        "(trusted)",
        "(as this program)",
        "read, execute",
        "imports      none",
    ] {
        assert!(told.contains(text), "{told}");
    }
    let shown = sumac(&["domain", "inspect", file, "--json"], config);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(json["root"]["name"], "Probe");
    assert_eq!(json["trusted"], true);
    assert_eq!(json["bytes"], fs::metadata(file).expect("the file").len());
    assert_eq!(json["imports"], serde_json::json!([]));
    assert_eq!(json["segments"].as_array().map(Vec::len), Some(4));
}

/// What a domain may be given is told by its root interface: here queue pairs and packets, and no device.
#[test]
fn test_an_application_is_shown_to_get_queue_pairs_and_no_device() {
    let file = built().path("l2fwd");
    let file = file.to_str().expect("a plain path");
    let shown = sumac(&["domain", "inspect", file, "--json"], built().folder());
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(json["root"]["name"], "CreateForward");
    assert_eq!(json["imports"], serde_json::json!([]));
    let methods = json["root"]["methods"].to_string();
    for given in ["PoolGrant", "NetLane"] {
        assert!(methods.contains(given), "{methods}");
    }
    for not_given in ["DeviceGrant", "NetDevice", "Clock"] {
        assert!(!methods.contains(not_given), "{methods}");
    }
}

#[test]
fn test_wrong_files_are_refused_in_one_line() {
    let (config, sound) = (built().folder(), built().file("probe"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let wrong = folder.path().join("wrong.domain");
    let path = wrong.to_str().expect("a plain path");
    let verify = |contents: &[u8]| {
        fs::write(&wrong, contents).expect("a file");
        sumac(&["domain", "verify", path], config)
    };
    let mut flipped = sound.clone();
    flipped[0x1234] ^= 1;
    assert_refused(&verify(&flipped), "was changed after it was signed");
    assert_refused(&verify(&sound[..sound.len() - 1]), "not signed");
    assert_refused(&verify(b"no domain file"), "not signed");
    assert_refused(&verify(&[]), "wrong.domain: not signed");
    let other = "01".repeat(32);
    fs::write(&wrong, &sound).expect("a file");
    assert_refused(
        &sumac(&["domain", "verify", path, "--trust", &other], config),
        "not among the trusted keys",
    );
    assert_refused(
        &sumac(&["domain", "verify", path], folder.path()),
        "`cargo xtask domains` makes it",
    );
    assert_refused(
        &sumac(&["domain", "inspect", "/no/such"], config),
        "/no/such: ",
    );
    assert_refused(&sumac(&["domain", "inspect", "/"], config), "directory");
}

#[test]
fn test_wrong_arguments_are_refused_in_one_line() {
    let config = Path::new("/");
    assert_refused(
        &sumac(&["domain", "verify"], config),
        "not provided: <FILE>...; see sumac domain verify --help",
    );
    assert_refused(
        &sumac(&["domain", "sign"], config),
        "see sumac domain --help",
    );
    assert_refused(
        &sumac(&["domain", "verify", "x", "--trust", "12"], config),
        "64 hexadecimal digits",
    );
    let help = sumac(&["domain", "verify", "--help"], config);
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("trusted-keys"));
}
