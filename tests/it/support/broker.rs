//! A private RabbitMQ: its own data, names and loopback ports, ended with the test binary however
//! that ends. Nothing of an installed, running broker is touched.
//!
//! There is no stand-in and no skipping: without RabbitMQ installed these tests fail.

mod installation;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
};

use super::ports;

/// It takes eight seconds on an idle machine with two cores.
const STARTED_WITHIN: Duration = Duration::from_secs(120);

/// The register is saved some seconds after it changed.
const REMEMBERED_WITHIN: Duration = Duration::from_secs(60);

/// A running broker, or one that was killed and can be restarted.
pub struct Broker {
    home: PathBuf,
    port: u16,
    tls_port: u16,
    epmd_port: u16,
    dist_port: u16,
    server: Mutex<Option<Guarded>>,
    /// Of all nodes of its cluster; its end removes their files.
    epmd: Arc<Guarded>,
}

/// A process that is killed when this is dropped, when this process ends, and when the watchdog
/// does.
struct Guarded {
    watchdog: Child,
    /// The watchdog kills its charge when this pipe closes.
    pipe: Option<ChildStdin>,
}

impl Broker {
    /// The one for all tests that leave it alive, started at first use.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Broker> = LazyLock::new(Broker::start_own);
        &SHARED
    }

    /// One for a test that kills it. Waits until it accepts connections.
    pub fn start_own() -> Self {
        Self::start_with("[].\n", "")
    }

    /// The same, with the stream protocol at the port that is returned too.
    pub fn start_with_stream_protocol() -> (Self, u16) {
        let [port] = ports::free();
        let listener = format!("stream.listeners.tcp.1 = 127.0.0.1:{port}\n");
        (Self::start_with("[rabbitmq_stream].\n", &listener), port)
    }

    /// The same, with these plugins and further lines of `rabbitmq.conf`.
    pub fn start_with(plugins: &str, more: &str) -> Self {
        installation::check();
        let home = tempfile::Builder::new().prefix("blockcast-broker-").tempdir();
        let home = home.expect("a temporary directory").keep();
        let [port, tls_port, epmd_port, dist_port] = ports::free();
        let mut epmd = installation::program(&home, OsStr::new("epmd"));
        epmd.args(["-address", "127.0.0.1", "-port", &epmd_port.to_string()]);
        let epmd = Guarded::start(&epmd, Some(&home));
        let broker = Self {
            home,
            port,
            tls_port,
            epmd_port,
            dist_port,
            server: Mutex::new(None),
            epmd: Arc::new(epmd),
        };
        broker.write_files(more);
        std::fs::write(broker.file("enabled_plugins"), plugins).expect("a file is written");
        broker.restart();
        broker
    }

    /// A cluster of three for a test that kills one.
    pub fn start_cluster() -> [Self; 3] {
        let first = Self::start_own();
        let [second, third] = [(); 2].map(|()| first.start_beside());
        [first, second, third]
    }

    /// Another node of this one's cluster.
    fn start_beside(&self) -> Self {
        let [port, tls_port, dist_port] = ports::free();
        let node = Self {
            home: self.home.join(format!("beside-{port}")),
            port,
            tls_port,
            epmd_port: self.epmd_port,
            dist_port,
            server: Mutex::new(None),
            epmd: Arc::clone(&self.epmd),
        };
        std::fs::create_dir(&node.home).expect("a directory");
        // What proves to the others that it belongs to them.
        let cookie = ".erlang.cookie";
        std::fs::copy(self.file(cookie), node.file(cookie)).expect("the first one's cookie");
        node.write_files(&format!(
            "cluster_formation.peer_discovery_backend = classic_config\n\
             cluster_formation.classic_config.nodes.1 = {}\n\
             cluster_formation.classic_config.nodes.2 = {}\n",
            self.node(),
            node.node()
        ));
        node.restart();
        node
    }

    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The same, in a virtual host of its own whose queues have this type unless they name another.
    pub fn uri_of_new_host(&self, default_queue_type: &str) -> String {
        let host = unique(default_queue_type);
        self.rabbitmqctl(&["add_vhost", &host, "--default-queue-type", default_queue_type]);
        self.rabbitmqctl(&["set_permissions", "--vhost", &host, "guest", ".*", ".*", ".*"]);
        format!("amqp://guest:guest@127.0.0.1:{}/{host}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// For `localhost`, with a certificate of [`Broker::file`]`("ca.pem")`. It asks for one of the
    /// client's: `client.pem`, with `client.key`.
    pub fn tls_uri(&self) -> String {
        format!("amqps://guest:guest@localhost:{}/%2f", self.tls_port)
    }

    /// A file that the broker's certificates are in.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    ///
    /// Waits, before, until a broker with streams would know them again: in its first seconds with a
    /// stream RabbitMQ 3.10 has the register of its stream coordinator only in memory, and a kill
    /// then leaves streams that answer 404, "home node is down", for good.
    pub fn kill(&self) {
        let data = self.home.join("mnesia").join(self.node());
        let has_streams = || Some(std::fs::read_dir(data.join("stream")).ok()?.next().is_some());
        if has_streams() == Some(true) {
            let register = data.join("coordination").join(self.node()).join("names.dets");
            let coordinator = b"rabbit_stream_coordinator";
            let deadline = Instant::now() + REMEMBERED_WITHIN;
            while !std::fs::read(&register).is_ok_and(|names| {
                names.windows(coordinator.len()).any(|window| window == coordinator)
            }) {
                assert!(Instant::now() < deadline, "the broker does not save its register");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        drop(self.server().take());
    }

    /// Starts the broker that was killed: the same data, the same ports. Waits until it accepts
    /// connections, with TLS too.
    pub fn restart(&self) {
        let mut command = self.command("rabbitmq-server");
        command.env("RUNNING_UNDER_SYSTEMD", "1"); // one process instead of a shell around it
        *self.server() = Some(Guarded::start(&command, None));
        let deadline = Instant::now() + STARTED_WITHIN;
        // They do not open at the same time, nor in the same order in each version.
        for port in [self.port, self.tls_port] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < deadline, "the broker does not start\n{}", self.log());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        installation::announce(&self.log());
    }

    /// What `rabbitmqctl` prints, with tabs between columns. Takes about two seconds.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        self.operate("rabbitmqctl", arguments)
    }

    /// Takes this node's replica of a stream away, as operators do who move it.
    pub fn delete_stream_replica(&self, queue: &str) {
        self.operate("rabbitmq-streams", &["delete_replica", queue, &self.node()]);
    }

    fn operate(&self, script: &str, arguments: &[&str]) -> String {
        let mut command = self.command(script);
        command.args(["--quiet", "--node", &self.node()]).args(arguments);
        let output = command.output().expect("rabbitmqctl runs");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script} {arguments:?}: {out}{err}");
        out.into_owned()
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Guarded>> {
        self.server.lock().expect("no test panicked while it held this lock")
    }

    fn node(&self) -> String {
        format!("blockcast-{}@localhost", self.port)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = installation::script(&self.home, script);
        let file = |name: &str| self.home.join(name);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.home)
            .env("RABBITMQ_NODENAME", self.node())
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", file("none"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
            )
            .env(
                "RABBITMQ_CTL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
            );
        command
    }

    /// `more`: further lines of `rabbitmq.conf`.
    fn write_files(&self, more: &str) {
        let write = |name: &str, text: &str| {
            std::fs::write(self.home.join(name), text).expect("a file is written");
        };
        let home = self.home.display();
        write("enabled_plugins", "[].\n");
        write(
            "rabbitmq.conf",
            &format!(
                "listeners.tcp.1 = 127.0.0.1:{}\n\
                 listeners.ssl.1 = 127.0.0.1:{}\n\
                 ssl_options.cacertfile = {home}/ca.pem\n\
                 ssl_options.certfile = {home}/server.pem\n\
                 ssl_options.keyfile = {home}/server.key\n\
                 ssl_options.verify = verify_peer\n\
                 ssl_options.fail_if_no_peer_cert = true\n\
                 disk_free_limit.absolute = 1MB\n{more}",
                self.port, self.tls_port
            ),
        );
        let mut authority = CertificateParams::new([]).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("an authority");
        write("ca.pem", &authority.pem());
        for (name, purpose) in [
            ("server", ExtendedKeyUsagePurpose::ServerAuth),
            ("client", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let mut params = CertificateParams::new(["localhost".into()]).expect("parameters");
            params.extended_key_usages = vec![purpose];
            // Not the authority's own name: Erlang would take it for self-signed.
            params.distinguished_name.push(DnType::CommonName, format!("blockcast {name}"));
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
            write(&format!("{name}.pem"), &certificate.pem());
            write(&format!("{name}.key"), &key.serialize_pem());
        }
    }

    fn log(&self) -> String {
        let log = self.home.join("log").join(format!("{}.log", self.node()));
        std::fs::read_to_string(log).unwrap_or_default()
    }
}

impl Guarded {
    /// `home`: a directory that is removed when the process has been killed.
    fn start(command: &Command, home: Option<&Path>) -> Self {
        let script = r#"trap '' INT TERM HUP
            home=$1; shift
            setpriv --pdeathsig KILL "$@" </dev/null >/dev/null 2>&1 & charge=$!
            echo started; read -r never
            kill -9 $charge; wait
            [ -z "$home" ] || rm -rf "$home" || { sleep 1; rm -rf "$home"; }"#;
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", script, "sh"]).arg(home.unwrap_or(Path::new("")));
        watchdog.arg(command.get_program()).args(command.get_args());
        // Only what the command names: an inherited variable must not steer the broker.
        watchdog.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        watchdog.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        std::os::unix::process::CommandExt::process_group(&mut watchdog, 0);
        let mut watchdog =
            watchdog.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
        let stdout = watchdog.stdout.take().expect("its output is a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the shell says that it started");
        Self { pipe: watchdog.stdin.take(), watchdog }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.watchdog.wait().expect("the watchdog ends");
    }
}

/// A name that no other test uses.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}.{:016x}", fastrand::u64(..))
}
