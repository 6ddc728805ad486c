//! Databases that can't be taken over: each is named, by whatever meets it, and nothing is changed.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kms_kit::ErrorKind;
use kms_kit::migrations::ErrorKind as MigrationKind;
use serde_json::json;

use crate::database::{Database, Dialect};
use crate::dump::Dump;
use crate::go::Go;
use crate::table::Table;

const REFUSED: &str = "Go's database, refused";

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
    let of_go = OfGo { dialect, program };
    table
        .check(
            REFUSED,
            dialect,
            "an older schema version",
            of_go.at_an_older_version(),
        )
        .await;
    for (operation, sql, named) in [
        (
            "a newer schema version",
            "update kms_schema_version set version = 'v0.0.3'",
            &["v0.0.3", "v0.0.2"][..],
        ),
        (
            "half-migrated: a table is missing",
            "drop table kms_data_key_version",
            &["table kms_data_key_version"],
        ),
        (
            "half-migrated: a column is missing",
            "alter table kms_data_key rename column purpose to reason",
            &["column kms_data_key.purpose"],
        ),
        (
            "half-migrated: a row is missing",
            "delete from kms_collection_version",
            &["row in kms_collection_version"],
        ),
    ] {
        table
            .check(REFUSED, dialect, operation, of_go.broken(sql, named))
            .await;
    }
    table
        .check(
            REFUSED,
            dialect,
            "half-migrated: after each statement of Go's migrations",
            of_go.after_each_statement(),
        )
        .await;
    table
        .check(
            REFUSED,
            dialect,
            "half-migrated: golang-migrate failed in the middle",
            of_go.golang_migrate_failed(),
        )
        .await;
    table
        .check(
            REFUSED,
            dialect,
            "a trigger is missing, any of them",
            of_go.without_each_trigger(),
        )
        .await;
    table
        .check(
            REFUSED,
            dialect,
            "a constraint is missing, any of them",
            of_go.without_each_constraint(),
        )
        .await;
}

/// Databases that Go's migrations made.
struct OfGo<'a> {
    dialect: Dialect,
    program: &'a Path,
}

impl OfGo<'_> {
    fn empty(&self) -> Result<(Database, Go)> {
        let database = Database::new(self.dialect)?;
        let go = Go::start(self.program, &database, "")?;
        Ok((database, go))
    }

    async fn at_an_older_version(&self) -> Result<()> {
        // The tables are there from number 4 on, and at v0.0.2 from number 6 on.
        for up_to in [4, 5] {
            let (database, go) = self.empty()?;
            go.ask(&json!({"op": "migrate", "up_to": up_to}))?;
            refused(&database, &["v0.0.1", "v0.0.2"])
                .await
                .with_context(|| format!("after migration {up_to}"))?;
        }
        Ok(())
    }

    async fn broken(&self, sql: &str, named: &[&str]) -> Result<()> {
        let (database, go) = self.empty()?;
        go.migrate()?;
        database.connect()?.execute(sql)?;
        refused(&database, named).await
    }

    /// As far as any statement, but for those at which Go's own schema is complete.
    async fn after_each_statement(&self) -> Result<()> {
        let (database, go) = self.empty()?;
        let statements = go.ask(&json!({"op": "statements"}))?.names;
        ensure!(statements.len() > 30, "{statements:?}");
        let file = |statement: &str| statement.split('\n').next().unwrap_or_default().to_owned();
        let mut complete = 0;
        for (number, statement) in statements.iter().enumerate() {
            let (_, sql) = statement.split_once('\n').context("a file")?;
            database.connect()?.execute(sql)?;
            let ends_file = statements
                .get(number + 1)
                .is_none_or(|next| file(next) != file(statement));
            if ends_file && ["06", "07"].contains(&&statement[..2]) {
                complete += 1;
                continue;
            }
            refused(&database, &[])
                .await
                .with_context(|| format!("after statement {number}, {statement}"))?;
        }
        ensure!(complete == 2, "Go's last migrations are not those known");
        adopted(&database)
    }

    /// It says so in a table of its own, which stays as it is too.
    async fn golang_migrate_failed(&self) -> Result<()> {
        let (database, go) = self.empty()?;
        go.ask(&json!({"op": "migrate", "golang_migrate": true, "up_to": 5}))?;
        database
            .connect()?
            .execute("update schema_migrations set version = 6, dirty = true")?;
        refused(&database, &["v0.0.1", "v0.0.2"]).await
    }

    /// Every constraint that Go's migrations make; on SQLite those are part of the tables, but for indexes.
    async fn without_each_constraint(&self) -> Result<()> {
        let drops = match self.dialect {
            Dialect::Postgres => {
                "select format('%I alter table %I drop constraint %I cascade', conname, relname, conname) as t
                   from pg_constraint join pg_class on pg_class.oid = conrelid
                  where contype in ('c', 'f', 'p', 'u') and relname like 'kms\\_%'
                 union all
                 select format('%I alter domain %I drop constraint %I', conname, typname, conname)
                   from pg_constraint join pg_type on pg_type.oid = contypid where typname like 'kms\\_%'
                 union all
                 select format('%I drop index %I', indexname, indexname)
                   from pg_indexes where indexname like 'kms\\_%\\_one\\_row'"
            }
            Dialect::Sqlite => {
                "select name || ' drop index ' || name as t from sqlite_master where type = 'index' and sql is not null"
            }
        };
        let (database, go) = self.empty()?;
        go.migrate()?;
        let drops = database.connect()?.texts(drops)?;
        let all = match self.dialect {
            Dialect::Postgres => 20,
            Dialect::Sqlite => 2,
        };
        ensure!(drops.len() == all, "Go has these: {drops:?}");
        for drop in drops {
            let (name, sql) = drop.split_once(' ').context("a name")?;
            self.broken(sql, &[name])
                .await
                .with_context(|| drop.clone())?;
        }
        Ok(())
    }

    /// Every trigger that Go's migrations make, one at a time.
    async fn without_each_trigger(&self) -> Result<()> {
        let triggers = match self.dialect {
            Dialect::Postgres => {
                "select tgname || ' on ' || relname as t from pg_trigger join pg_class on pg_class.oid = tgrelid
                 where not tgisinternal order by 1"
            }
            Dialect::Sqlite => {
                "select name as t from sqlite_master where type = 'trigger' order by 1"
            }
        };
        let (database, go) = self.empty()?;
        go.migrate()?;
        let triggers = database.connect()?.texts(triggers)?;
        ensure!(triggers.len() >= 12, "Go has these triggers: {triggers:?}");
        for trigger in triggers {
            let name = trigger.split(' ').next().unwrap_or_default();
            let mut connection = database.connect()?;
            let restore = match self.dialect {
                Dialect::Postgres => connection.texts(&format!(
                    "select pg_get_triggerdef(pg_trigger.oid) as t from pg_trigger join pg_class on pg_class.oid = tgrelid
                     where tgname || ' on ' || relname = '{trigger}'"
                ))?,
                Dialect::Sqlite => connection.texts(&format!(
                    "select sql as t from sqlite_master where name = '{trigger}'"
                ))?,
            };
            connection.execute(&format!("drop trigger {trigger}"))?;
            refused(&database, &["trigger", name])
                .await
                .with_context(|| trigger.clone())?;
            connection.execute(&restore.concat())?;
        }
        adopted(&database).context("with all triggers again")
    }
}

/// Adoption is refused and names all of these; so is running our migrations instead, and building an engine.
/// Nothing is changed by any of them.
async fn refused(database: &Database, named: &[&str]) -> Result<()> {
    let before = Dump::of(database)?;
    let error = database.adopt().err().context("it was adopted")?;
    let said = error.to_string();
    for name in named {
        ensure!(said.contains(name), "{said:?} doesn't name {name}");
    }
    match error.kind() {
        MigrationKind::WrongVersion { .. } | MigrationKind::HalfMigrated { .. } => {
            let error = database.run().err().context("our migrations ran")?;
            ensure!(*error.kind() == MigrationKind::NotAdopted, "{error}");
        }
        // There is no table of Go's yet, so that nothing stands against our own.
        MigrationKind::NotMigrated if named.is_empty() => {}
        _ => anyhow::bail!("{said}"),
    }
    Dump::of(database)?.same_as(&before)?;

    if database.dialect() == Dialect::Sqlite {
        // What the first connection of any engine does, and all that it does.
        database.connect()?.execute("pragma journal_mode = wal")?;
    }
    let before = Dump::of(database)?;
    let engine = kms_kit::builder(database.repository()?).build().await;
    let error = engine.err().context("an engine was built")?;
    ensure!(error.kind() == ErrorKind::SchemaVersion, "{error}");
    Dump::of(database)?.same_as(&before)
}

fn adopted(database: &Database) -> Result<()> {
    database.adopt().context("adopting")?;
    let report = database.verify()?;
    ensure!(report.is_ok(), "after adopting: {report}");
    Ok(())
}
