//! Go's `CreateKeys` in a transaction of its own, for a scope whose row another transaction is just deleting.
//!
//! `CreateKeys` updates the collection version and then needs the row; the deletion has the row, and its trigger
//! updates the collection version. Here the two are made to meet: what a run at random shows once in thousands.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;

use crate::connection::Connection;
use crate::database::{Database, Dialect};
use crate::engine::LocalRoot;
use crate::go::{Go, Refusal};
use crate::table::Table;

const TOGETHER: &str = "Go creates, the scope's row goes";

const APPLICATION: &str = "
    create table organization (id text primary key);
    alter table kms_root_key
        add foreign key (scope_id) references organization (id) on delete cascade;
    insert into organization (id) values ('o_1');
";

const DELETE: &str = "delete from organization where id = 'o_1'";

/// What the documentation advises: the counter first, as everything else has it.
const DELETE_IN_ORDER: &str = "
    begin;
    update kms_collection_version set version = version + 1;
    delete from organization where id = 'o_1';
    commit;
";

pub(crate) async fn run(table: &mut Table, program: &Path) {
    table
        .check(
            TOGETHER,
            Dialect::Postgres,
            "in either order of locks: a deadlock, ended and counted by the server",
            async { a_deadlock_is_ended(program) },
        )
        .await;
    table
        .check(
            TOGETHER,
            Dialect::Postgres,
            "the collection version first in both: none",
            async { in_one_order(program) },
        )
        .await;
}

/// One of the two is told so and has changed nothing; done again, it succeeds.
fn a_deadlock_is_ended(program: &Path) -> Result<()> {
    let meeting = Meeting::new(program)?;
    let (created, deleted) = meeting.of_create_and(DELETE)?;
    // The session that saw it has added it up by the time that it is asked for something else.
    let told = |error: &anyhow::Error| format!("{error:#}").contains("deadlock");
    let deadline = Instant::now() + Duration::from_secs(30);
    while meeting.database.deadlocks()? == 0 {
        ensure!(
            Instant::now() < deadline,
            "the server counts no deadlock: {created:?}, {deleted:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
    match (created, deleted) {
        (Err(error), Ok(())) => {
            ensure!(told(&error), "{error:#}");
            meeting.nothing_is_left()
        }
        (Ok(()), Err(error)) => {
            ensure!(told(&error), "{error:#}");
            meeting.database.connect()?.execute(DELETE)?;
            meeting.nothing_is_left()
        }
        other => Err(anyhow!("not exactly one was ended: {other:?}")),
    }
}

fn in_one_order(program: &Path) -> Result<()> {
    let meeting = Meeting::new(program)?;
    let (created, deleted) = meeting.of_create_and(DELETE_IN_ORDER)?;
    created.context("Go creates")?;
    deleted.context("the scope's row goes")?;
    meeting.nothing_is_left()?;
    let deadlocks = meeting.database.deadlocks()?;
    ensure!(deadlocks == 0, "{deadlocks} deadlocks");
    Ok(())
}

struct Meeting {
    go: Arc<Go>,
    database: Database,
}

impl Meeting {
    fn new(program: &Path) -> Result<Self> {
        let database = Database::new(Dialect::Postgres)?;
        let go = Go::start(program, &database, &LocalRoot::generate().go())?;
        go.migrate()?;
        database.adopt()?;
        database.connect()?.execute(APPLICATION)?;
        // Connected, with its engine built: what it waits for below is the lock.
        go.ask(&json!({"op": "validate"}))?;
        Ok(Self {
            go: Arc::new(go),
            database,
        })
    }

    /// Keeps the collection version locked until `CreateKeys` and, behind it, the deletion wait for it, and lets go.
    fn of_create_and(&self, delete: &'static str) -> Result<(Result<()>, Result<()>)> {
        let mut gate = self.database.connect()?;
        gate.execute("begin; select 1 from kms_collection_version for update")?;
        let go = Arc::clone(&self.go);
        let create = thread::spawn(move || {
            let request = json!({"op": "create", "scope": "o_1", "purposes": ["oidc"]});
            go.ask(&request).map(drop)
        });
        self.until_waiting(1)?;
        let mut connection = self.database.connect()?;
        let deletion = thread::spawn(move || connection.execute(delete));
        self.until_waiting(2)?;
        gate.execute("commit")?;
        let created = create.join().map_err(|_| anyhow!("it panicked"))?;
        let deleted = deletion.join().map_err(|_| anyhow!("it panicked"))?;
        Ok((created, deleted))
    }

    fn until_waiting(&self, sessions: i64) -> Result<()> {
        let mut connection = self.database.connect()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while waiting(&mut connection)? < sessions {
            ensure!(Instant::now() < deadline, "nobody waits for the lock");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// No key without a scope, whoever came first; and the scope can be made again, in the order that is advised.
    fn nothing_is_left(&self) -> Result<()> {
        let mut connection = self.database.connect()?;
        let left = connection.count(
            "select (select count(*) from organization) + (select count(*) from kms_root_key)
                  + (select count(*) from kms_data_key_version) as n",
        )?;
        ensure!(left == 0, "{left} rows are left");
        connection.execute("insert into organization (id) values ('o_1')")?;
        let request = json!({"op": "create", "scope": "o_1", "purposes": ["oidc"]});
        let made = self.go.ask(&request);
        ensure!(
            made.is_ok(),
            "it can't be made again: {:?}",
            made.err().as_ref().and_then(Refusal::of)
        );
        Ok(())
    }
}

fn waiting(connection: &mut Connection) -> Result<i64> {
    connection.count(
        "select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
}
