//! A pgbouncer of one test: loopback only, gone with it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Hands out sessions of the server: by transaction, or by client.
pub(crate) struct PgBouncer {
    /// To be connected to instead of the server's.
    pub(crate) url: String,
    process: Child,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Before the database of this URL, which must have the form `postgres://user:password@host:port/database`;
    /// in this `pool_mode`, with so many sessions of the server for however many clients.
    pub(crate) fn before(program: &Path, url: &str, mode: &str, sessions: u32) -> Self {
        let (_, rest) = url.split_once("://").unwrap();
        let (user, rest) = rest.rsplit_once('@').unwrap();
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let (server, database) = rest.split_once('/').unwrap();
        let (host, server_port) = server.rsplit_once(':').unwrap_or((server, "5432"));
        let database = database.split('?').next().unwrap();
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("pgbouncer.ini");
        std::fs::write(
            &settings,
            format!(
                "[databases]
                 {database} = host={host} port={server_port} user={user} password='{password}'
                 [pgbouncer]
                 listen_addr = 127.0.0.1
                 listen_port = {port}
                 unix_socket_dir =
                 auth_type = any
                 pool_mode = {mode}
                 default_pool_size = {sessions}
                 max_client_conn = 200
                "
            )
            .replace("\n                 ", "\n"),
        )
        .unwrap();
        let mut command = Command::new(program);
        // It refuses to run as root.
        if nix::unistd::Uid::effective().is_root() {
            command.args(["--user", "nobody"]);
            // A password that opens a server of tests on loopback.
            for path in [folder.path(), &settings] {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let process = command
            .arg("--quiet")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut started = Self {
            url: format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable"),
            process,
            _folder: folder,
        };
        started.await_listening(port);
        started
    }

    fn await_listening(&mut self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "pgbouncer ended: {ended:?}");
            assert!(Instant::now() < deadline, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
