//! The RabbitMQ that is under test: the one that is installed, or another release's, unpacked into
//! a root directory that `BLOCKCAST_TEST_BROKER_ROOT` names.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Once};

const ROOT: &str = "BLOCKCAST_TEST_BROKER_ROOT";

/// The scripts themselves, not those in `/usr/sbin`, which change to the user `rabbitmq`.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// Runs `$3...` in the root `$1`, which sees `$2` where it is outside. What is mounted here is seen
/// by this process and its children alone, and ends with the last of them; nothing is forked, so
/// whoever kills this kills the program.
const ENTER: &str = r#"
    root=$1 home=$2; shift 2
    mount -t tmpfs none "$root/tmp"
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mkdir -p "$root$home"
    mount --bind "$home" "$root$home"
    exec chroot "$root" "$@""#;

static OTHER_ROOT: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let root = std::env::var_os(ROOT)?;
    Some(std::fs::canonicalize(&root).unwrap_or_else(|error| panic!("{ROOT}={root:?}: {error}")))
});

/// Fails a test where there is no broker.
pub fn check() {
    let root = OTHER_ROOT.as_deref().unwrap_or(Path::new("/"));
    let server = root.join(&SCRIPTS[1..]).join("rabbitmq-server");
    assert!(server.exists(), "{} is missing; `make test` installs it", server.display());
}

/// One of RabbitMQ's own scripts.
pub fn script(home: &Path, name: &str) -> Command {
    program(home, Path::new(SCRIPTS).join(name).as_os_str())
}

/// A program of the same installation that sees the files of `home`.
pub fn program(home: &Path, program: &OsStr) -> Command {
    let Some(root) = &*OTHER_ROOT else { return Command::new(program) };
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", ENTER, "sh"]).args([root.as_os_str(), home.as_os_str()]);
    command.arg(program);
    command
}

/// Says once which broker this is, past what holds back the output of tests that pass.
pub fn announce(log: &str) {
    static ANNOUNCED: Once = Once::new();
    ANNOUNCED.call_once(|| {
        let banner = log.lines().find_map(|line| line.split_once(" Starting ")).map(|(_, it)| it);
        let banner = banner.unwrap_or("a broker that does not say its version");
        let root = OTHER_ROOT.as_deref().unwrap_or(Path::new("/"));
        let line = format!("\nbroker under test: {banner}, of {}\n", root.display());
        // A closed standard error is no reason to fail.
        let _ = std::io::stderr().write_all(line.as_bytes());
    });
}
