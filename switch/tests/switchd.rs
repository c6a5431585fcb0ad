//! The switchd command as scripts see it: exit codes, and one clear line for everything that is wrong.
//!
//! Nothing here needs rights or touches an interface: each run ends before the first port is attached.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

fn switchd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchd"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").output().expect("switchd starts")
}

/// Runs switchd on a configuration with `arguments`; answers the exit code and what it wrote to stderr.
fn on_text(text: &str, arguments: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("switch.toml");
    std::fs::write(&file, text).unwrap();
    let mut all = vec!["--config", file.to_str().unwrap()];
    all.extend(arguments);
    let output = switchd(&all);
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

const GOOD: &str = "[[bridge]]\nname = \"pods\"\n[[port]]\ninterface = \"web0\"\nbridge = \"pods\"\n";

#[test]
fn a_good_configuration_passes_the_check_silently() {
    assert_eq!(on_text(GOOD, &["--check"]), (0, String::new()));
}

#[test]
fn the_demo_configuration_passes_the_check() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/demo.toml");
    let output = switchd(&["--check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn everything_wrong_is_one_line_each_and_exit_code_1() {
    for (text, expected) in [
        ("[[bridge]]\nname = \"pods\"\n[[port]]\ninterface = \"web0\"\nbrige = \"pods\"\n", "unknown key \"brige\""),
        ("[[port]]\ninterface = \"web0\"\nbridge = \"pods\"\n", "which does not exist"),
        ("[switch]\nworkers = [9999]\n", "9999"),
        ("[[bridge]]\nname = 7\n", "\"name\" is"),
        ("[switch", "not valid TOML"),
    ] {
        for arguments in [&["--check"][..], &[]] {
            let (code, stderr) = on_text(text, arguments);
            assert_eq!(code, 1, "{stderr}");
            assert!(stderr.contains(expected) && stderr.contains("switch.toml:"), "{stderr}");
            assert!(stderr.lines().all(|line| line.starts_with("switchd: ")), "{stderr}");
        }
    }
    let output = switchd(&["--config", "/no/such/file.toml"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1));
    assert!(stderr.starts_with("switchd: cannot read /no/such/file.toml: "), "{stderr}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [&[][..], &["--config"], &["--config", "x", "--nonsense"], &["extra"]] {
        assert_eq!(switchd(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let version = switchd(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("switchd {}\n", env!("CARGO_PKG_VERSION")));
}

/// Someone who may do nothing; a copy of the program and the file that he may read.
#[test]
fn missing_rights_are_named_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (file, program) = (dir.path().join("switch.toml"), dir.path().join("switchd"));
    let socket = dir.path().join("closed/control.sock");
    std::fs::write(&file, format!("[switch]\ncontrol_socket = \"{}\"\n{GOOD}", socket.display())).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_switchd"), &program).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new(&program);
    command.arg("--config").arg(&file).current_dir("/").env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().expect("switchd starts");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.starts_with("switchd: switchd needs CAP_NET_ADMIN, CAP_BPF and CAP_NET_RAW (missing: "), "{stderr}");
}

#[test]
fn a_socket_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let _live = UnixListener::bind(&socket).unwrap();
    let text = format!("[switch]\ncontrol_socket = \"{}\"\n{GOOD}", socket.display());
    let (code, stderr) = on_text(&text, &[]);
    if stderr.contains("CAP_") {
        eprintln!("SKIPPED: without rights the socket is not even looked at");
        return;
    }
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(stderr.contains("is in use by a running switchd"), "{stderr}");
    assert!(socket.exists());
    let (code, stderr) = on_text(&text, &["--log", "nonsense=nonsense"]);
    assert!(code == 1 && stderr.starts_with("switchd: --log nonsense=nonsense: "), "{stderr}");
}
