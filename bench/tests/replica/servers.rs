//! A Postgres server of one test, and another that follows it.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Text;
use nix::unistd::{Uid, User};

const DATABASE: &str = "keys";

/// What connections call themselves that are counted.
pub(crate) const APPLICATION: &str = "engine";

/// A primary and its replica, which applies what it receives when it is told to.
pub(crate) struct Servers {
    pub(crate) primary: Server,
    pub(crate) replica: Server,
    /// Removed after the servers have ended.
    _folder: tempfile::TempDir,
}

pub(crate) struct Server {
    process: Child,
    port: u16,
}

impl Servers {
    /// None without the server's programs.
    pub(crate) fn start() -> Option<Self> {
        let programs = Programs::find()?;
        let folder = tempfile::tempdir().unwrap();
        programs.own(folder.path());
        let place = |name: &str| folder.path().join(name);
        programs.run(
            "initdb",
            &["--auth=trust", "--username=postgres", "--no-sync", "-D"],
            &place("primary"),
        );
        let primary = programs.serve(&place("primary"));
        primary.execute_in("postgres", &format!("create database {DATABASE}"));
        let port = primary.port.to_string();
        programs.run(
            "pg_basebackup",
            &[
                "--host=127.0.0.1",
                "--port",
                &port,
                "--username=postgres",
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
                "-D",
            ],
            &place("replica"),
        );
        let replica = programs.serve(&place("replica"));
        Some(Self {
            primary,
            replica,
            _folder: folder,
        })
    }

    /// From now on the replica stays as it is.
    pub(crate) fn hold(&self) {
        self.replica.execute("select pg_wal_replay_pause()");
        let paused = "pg_get_wal_replay_pause_state() = 'paused'";
        wait_until("it pauses", || self.replica.finds_true(paused));
    }

    /// The primary accepts no more writes, and keeps its connections; the replica has all that was committed, and
    /// becomes the primary.
    pub(crate) fn fail_over(&self) {
        self.primary
            .execute("alter system set default_transaction_read_only = on");
        self.primary.execute("select pg_reload_conf()");
        let ended = "current_setting('default_transaction_read_only') = 'on' and not exists \
                     (select from pg_stat_activity where backend_xid is not null)";
        wait_until("writes end", || self.primary.finds_true(ended));
        self.catch_up();
        self.replica.execute("select pg_promote()");
    }

    /// The replica is as the primary is now.
    pub(crate) fn catch_up(&self) {
        let position = self.primary.text_of("pg_current_wal_lsn()");
        self.replica.execute("select pg_wal_replay_resume()");
        let reached = format!("pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        wait_until("it catches up", || self.replica.finds_true(&reached));
    }
}

impl Server {
    pub(crate) fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    fn url_of(&self, database: &str) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }

    pub(crate) fn connection(&self) -> PgConnection {
        PgConnection::establish(&self.url()).unwrap()
    }

    fn execute(&self, sql: &str) {
        self.execute_in(DATABASE, sql);
    }

    fn execute_in(&self, database: &str, sql: &str) {
        PgConnection::establish(&self.url_of(database))
            .unwrap()
            .batch_execute(sql)
            .unwrap();
    }

    /// How many sessions of the engine's there are.
    pub(crate) fn sessions(&self) -> usize {
        let count = self.text_of(&format!(
            "(select count(*) from pg_stat_activity where application_name = '{APPLICATION}')"
        ));
        count.parse().unwrap()
    }

    /// What an expression is.
    fn text_of(&self, expression: &str) -> String {
        diesel::select(diesel::dsl::sql::<Text>(&format!("({expression})::text")))
            .get_result(&mut self.connection())
            .unwrap()
    }

    fn finds_true(&self, expression: &str) -> bool {
        self.text_of(expression) == "true"
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Postgres' programs, and the account that they run under: not root's.
struct Programs {
    folder: PathBuf,
    account: Option<User>,
}

impl Programs {
    fn find() -> Option<Self> {
        let told = Command::new("pg_config").arg("--bindir").output().ok();
        let told = told.map(|output| String::from_utf8_lossy(&output.stdout).trim().into());
        let packages = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        let packages = packages.flatten().map(|version| version.path().join("bin"));
        let complete = |folder: &PathBuf| {
            ["initdb", "postgres", "pg_basebackup"]
                .iter()
                .all(|program| folder.join(program).exists())
        };
        let folder = told.into_iter().chain(packages).find(complete)?;
        let account = Uid::effective().is_root().then(|| {
            let named = |name| User::from_name(name).unwrap();
            named("postgres").or_else(|| named("nobody")).unwrap()
        });
        Some(Self { folder, account })
    }

    fn own(&self, folder: &Path) {
        if let Some(user) = &self.account {
            chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        if let Some(user) = &self.account {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: &[&str], data: &Path) {
        let output = self.command(program).args(arguments).arg(data).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {said}");
    }

    fn serve(&self, data: &Path) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let process = self
            .command("postgres")
            .arg("-D")
            .arg(data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server { process, port };
        let url = server.url_of("postgres");
        wait_until("it answers", || PgConnection::establish(&url).is_ok());
        server
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}
