//! Target `config`: any text is a configuration or a list of clear lines.
//!
//! Input: the text, or two texts with a NUL byte between, the second of which is loaded over the first.

use switch::config::{Config, ConfigErrors};

/// The cores that the texts may name.
const CORES: [usize; 4] = [0, 1, 2, 3];

/// Longest message about one error, in bytes: quoted input is cut.
const MESSAGE_MAX: usize = 2_000;

/// See the module text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, second) = text.split_once('\0').unwrap_or((text, ""));
    let config = match Config::parse("fuzz.toml", first, &CORES) {
        Ok(config) => config,
        Err(errors) => return check_errors(&errors),
    };
    check_round_trip(&config);
    match Config::parse_reload("fuzz.toml", second, &config) {
        Ok((reloaded, diff)) => {
            check_round_trip(&reloaded);
            assert_eq!(diff, Config::diff(&config, &reloaded));
            assert!(diff.restart_needed.is_empty(), "a reload that needs a restart is an error");
        }
        Err(errors) => check_errors(&errors),
    }
}

/// What is written reads back as the same configuration, and differs from it in nothing.
fn check_round_trip(config: &Config) {
    let text = config.to_toml();
    let again = Config::parse("fuzz.toml", &text, &CORES).unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"));
    assert_eq!(*config, again, "written as\n{text}");
    assert!(Config::diff(config, &again).is_empty());
    let (reloaded, diff) = Config::parse_reload("fuzz.toml", &text, config).expect("a configuration over itself");
    assert!(reloaded == *config && diff.is_empty());
}

/// Every error is one line of bounded length that names the file.
fn check_errors(errors: &ConfigErrors) {
    assert!(!errors.all().is_empty());
    for error in errors.all() {
        let line = error.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.len() <= MESSAGE_MAX && line.starts_with("fuzz.toml:"), "{line:?}");
    }
    assert!(!errors.to_string().is_empty());
}
