//! Programs in C that measure DPDK's tables: compiled where DPDK's library is, left out where it is not.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What pkg-config says of DPDK's library, in words; why there is nothing to say.
fn flags(which: &str) -> Result<Vec<String>, String> {
    let output = Command::new("pkg-config").args([which, "libdpdk"]).output();
    let output = output.map_err(|error| format!("pkg-config: {error}: run make bench-deps"))?;
    if !output.status.success() {
        return Err("libdpdk-dev is not installed: run make bench-deps".to_owned());
    }
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(words.split_whitespace().map(str::to_owned).collect())
}

/// Compiles `bench/yardstick/NAME.c` into `directory`. `None`, after a line that says why, without DPDK's library.
///
/// # Errors
/// The library is there, and the program cannot be made: what the compiler said.
pub fn build(name: &str, directory: &Path) -> Result<Option<PathBuf>, String> {
    let (compile, link) = match flags("--cflags").and_then(|compile| Ok((compile, flags("--libs")?))) {
        Ok(flags) => flags,
        Err(why) => {
            println!("SKIPPED: {name}: {why}");
            return Ok(None);
        }
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("yardstick").join(name).with_extension("c");
    let program = directory.join(name);
    let mut compiler = Command::new("cc");
    compiler.args(["-O3", "-std=gnu11", "-Wall", "-Wextra"]).args(compile);
    compiler.arg("-o").arg(&program).arg(&source).args(link);
    let output = compiler.output().map_err(|error| format!("cc: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cc does not compile {}:\n{}", source.display(), said.trim()));
    }
    Ok(Some(program))
}
